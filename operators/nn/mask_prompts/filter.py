"""The visual-specific knowledge filter: which of the known elements matter for this image.

After arXiv:2505.03610, in the reading of the method notes, section 3.2 (attention, per class):

    q = unit(W_q x),  k_e = unit(W_k t_{c,e}),  a_{c,e}(x) = softmax_e(sigma_b q.k_e / sqrt(d_k)),

the top n_k are kept and made to sum to 1, g_c(x) = unit(sum_e a_{c,e} t_{c,e}). sigma_b is the
learned scale of the element's bank, entities or triples. Inferred, ours: queries and keys are unit,
so that at the start, with W_q = W_k = a truncated identity, an image that equals an element's text
attends to it most whatever d_k cuts away; sigma_b begins where a cosine of 1 counts 10.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

FIRST_LOGIT = 10.0  # of cosine 1, at the start


class Attended(NamedTuple):
    """What the filter makes of B images and one class's E elements."""

    weights: torch.Tensor  # [B, E] >= 0, sum 1, at most n_k of them above 0
    g: torch.Tensor  # [B, dim] unit


class KnowledgeFilter(nn.Module):
    """Single-head attention over the elements of a class; the same matrices serve both classes."""

    def __init__(self, dim: int, key_dim: int, keep: int) -> None:
        """`keep` is n_k. ValueError for sizes below 1."""
        super().__init__()
        if min(dim, key_dim, keep) < 1:
            raise ValueError(f"dim {dim}, key_dim {key_dim} and keep {keep} start at 1")
        key_dim = min(key_dim, dim)
        self.keep = keep
        self.query = nn.Parameter(torch.eye(key_dim, dim))
        self.key = nn.Parameter(torch.eye(key_dim, dim))
        self.bank_scale = nn.Parameter(torch.full((2,), FIRST_LOGIT * math.sqrt(key_dim)))

    def forward(self, x: torch.Tensor, texts: torch.Tensor, bank: torch.Tensor) -> Attended:
        """`x` [B, dim] and `texts` [E, dim], unit; `bank` [E] int64: 0 entity, 1 triple."""
        return attend(x, texts, bank, (self.query, self.key, self.bank_scale), self.keep)


def attend(
    x: torch.Tensor,
    texts: torch.Tensor,
    bank: torch.Tensor,
    learned: tuple[torch.Tensor, torch.Tensor, torch.Tensor],  # W_q, W_k [d_k, dim], sigma [2]
    keep: int,
) -> Attended:
    """The filter as a function: what a checkpoint's tensors are used with."""
    w_q, w_k, sigma = learned
    q, k = functional.normalize(x @ w_q.T, dim=1), functional.normalize(texts @ w_k.T, dim=1)
    logits = q @ k.T * (sigma[bank] / math.sqrt(w_q.shape[0]))
    if keep < texts.shape[0]:
        least = logits.topk(keep, dim=1)
        kept = torch.full_like(logits, -torch.inf)
        logits = kept.scatter(1, least.indices, least.values)
    weights = torch.softmax(logits, dim=1)
    return Attended(weights, functional.normalize(weights @ texts, dim=1))
