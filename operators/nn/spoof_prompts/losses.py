"""The terms that unknown-spoof prompts are learned by, with the letters of the method notes, 2.2.

After arXiv:2505.03611 (IJCV 134(5):250, 2026), whose equations were not available: the terms are a
reference reading of its abstract. All vectors are unit: x_i of real images [n, d], w_r [d], w_k of
K spoof prompts [K, d], p_j of J prior texts [J, d].

Inferred, ours: independence is measured on u_k = unit(w_k - mean_j p_j), for text features live in
a narrow cone where w_k themselves cannot be orthogonal and near a prior at once.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch.nn import functional

Independence = Literal["centred", "raw"]


def contrastive(x: torch.Tensor, w_r: torch.Tensor, w_k: torch.Tensor, s: float) -> torch.Tensor:
    """L_con = -mean_i log(e^{s x_i.w_r} / (e^{s x_i.w_r} + sum_k e^{s x_i.w_k}))."""
    z = s * x @ torch.cat([w_r[None], w_k]).T
    return -torch.log_softmax(z, dim=1)[:, 0].mean()


def margin(x: torch.Tensor, w_r: torch.Tensor, w_k: torch.Tensor, m: float) -> torch.Tensor:
    """L_mar = mean_{i,k} max(0, m - x_i.w_r + x_i.w_k)."""
    return (m - (x @ w_r)[:, None] + x @ w_k.T).clamp(min=0).mean()


def relaxed_prior(w_k: torch.Tensor, priors: torch.Tensor, tau: float) -> torch.Tensor:
    """L_pri = mean_k max(0, tau - max_j w_k.p_j): near some prior text, no matter which."""
    nearest = (w_k @ priors.T).max(dim=1).values
    return (tau - nearest).clamp(min=0).mean()


def independent_directions(
    w_k: torch.Tensor, priors: torch.Tensor, independence: Independence
) -> torch.Tensor:
    """[K, d] unit: u_k = unit(w_k - p_mean), or w_k itself."""
    if independence == "raw":
        return w_k
    return functional.normalize(w_k - priors.mean(dim=0), dim=1)


def semantic_independence(
    w_k: torch.Tensor, priors: torch.Tensor, independence: Independence = "centred"
) -> torch.Tensor:
    """L_div = 1 / (K (K - 1)) sum_{i != j} (u_i.u_j)^2; 0 for a single prompt."""
    count = len(w_k)
    if count < 2:
        return w_k.sum() * 0
    u = independent_directions(w_k, priors, independence)
    squares = (u @ u.T).square()
    return (squares.sum() - squares.diagonal().sum()) / (count * (count - 1))


def one_class(
    x: torch.Tensor, w_r: torch.Tensor, genuine: torch.Tensor, tau: float
) -> torch.Tensor:
    """L_oc = 1 - mean_i x_i.w_r + max(0, tau - max_j w_r.g_j): real images near w_r, and w_r near
    its own prior texts g [G, d], so that it does not drift to what is behind the faces.
    """
    return 1 - (x @ w_r).mean() + (tau - (genuine @ w_r).max()).clamp(min=0)


def view_consistency(x: torch.Tensor, views: torch.Tensor, w_r: torch.Tensor) -> torch.Tensor:
    """mean_i (x_i.w_r - x'_i.w_r)^2 of two views x, x' [n, d] of each real face."""
    return ((x @ w_r) - (views @ w_r)).square().mean()
