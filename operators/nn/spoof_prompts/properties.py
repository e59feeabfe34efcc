"""What trained prompts must be like: the checkable properties of method notes, section 2.3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from operators.nn.spoof_prompts.losses import independent_directions
from operators.nn.spoof_prompts.model import Bank


class PromptProperties(NamedTuple):
    """Of one bank, before real features that it did not learn from."""

    centred_cosine: float  # largest |u_i.u_j|, i != j; 0 for one prompt
    rank: int  # of [u_1 .. u_K]
    prior_cosine: float  # least over prompts of the largest w_k.p_j
    families: tuple[str, ...]  # of each prompt's nearest prior
    margin: float  # mean_i(x_i.w_r - max_k x_i.w_k)
    violations: float  # share of pairs (i, k) with x_i.w_r - x_i.w_k < m


@torch.no_grad()
def prompt_properties(
    bank: Bank,
    prior_features: torch.Tensor,
    families: Sequence[str],
    x: torch.Tensor,
    m: float,
) -> PromptProperties:
    """`prior_features` [J, dim] with each one's family, `x` [n, dim]: held-out real features; all
    unit.
    """
    w_r, w_k = bank
    u = independent_directions(w_k, prior_features, "centred")
    between = (u @ u.T).abs()
    between.fill_diagonal_(0)
    cosines, nearest = (w_k @ prior_features.T).max(dim=1)
    gaps = (x @ w_r)[:, None] - x @ w_k.T
    return PromptProperties(
        centred_cosine=float(between.max()),
        rank=int(torch.linalg.matrix_rank(u)),
        prior_cosine=float(cosines.min()),
        families=tuple(families[number] for number in nearest.tolist()),
        margin=float(gaps.min(dim=1).values.mean()),
        violations=float((gaps < m).float().mean()),
    )
