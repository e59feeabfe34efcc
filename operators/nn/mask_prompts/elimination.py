"""Spurious correlation elimination: patches that do not speak for the class are taken out.

After arXiv:2505.03610, in the reading of the method notes, section 3.2:

    r_n = z_n.g_y(x) - z_n.g_{not y}(x),   K = the round(rho N) patches of largest r_n,
    x_c = unit(sum_{n in K} softmax_K(r_n / T) z_n).

The class margin, for z_n.g_y alone keeps whatever looks like a face. Which patches are kept is not
learned through (stop-gradient); their features are.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn import functional


class Kept(NamedTuple):
    """B images' patches parted in two."""

    mask: torch.Tensor  # [B, N] bool, round(rho N) of each row True
    x_c: torch.Tensor  # [B, dim] unit: pooled from the kept ones


def relevance(z: torch.Tensor, g_own: torch.Tensor, g_other: torch.Tensor) -> torch.Tensor:
    """r [B, N] from unit patches [B, N, dim] and unit g [B, dim] of own and other class."""
    return torch.einsum("bnd,bd->bn", z, g_own - g_other).detach()


def kept_count(patches: int, rho: float) -> int:
    """round(rho N), at least 1. ValueError for rho outside of (0, 1]."""
    if not 0 < rho <= 1:
        raise ValueError(f"rho {rho}: the share of patches that are kept lies in (0, 1]")
    return max(1, round(rho * patches))


def eliminate(z: torch.Tensor, r: torch.Tensor, rho: float, temperature: float) -> Kept:
    """Keep the top patches and pool them: no second pass of the tower."""
    mask = top_mask(r, kept_count(z.shape[1], rho))
    weights = torch.softmax((r / temperature).masked_fill(~mask, -torch.inf), dim=1)
    pooled = torch.einsum("bn,bnd->bd", weights, z)
    return Kept(mask, functional.normalize(pooled, dim=1))


def top_mask(r: torch.Tensor, count: int) -> torch.Tensor:
    """[B, N] bool: the `count` largest of each row."""
    mask = torch.zeros_like(r, dtype=torch.bool)
    return mask.scatter(1, r.topk(count, dim=1).indices, True)
