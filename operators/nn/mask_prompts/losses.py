"""What knowledge-based mask prompts are learned by, with the letters of the method notes, 3.2.

    L = CE(s x.w(x), y) + l1 CE(s x_c.w^c, y) + l2 KL(sg[p(x_c)] || p(x)) + l3 L_irr

L_irr is minus the entropy of the class distribution on removed patches: they must not tell the
class (Miyai et al., LoCoOp, NeurIPS 2023, arXiv:2306.01293).
"""

from __future__ import annotations

import torch
from torch.nn import functional


def agreement(causal: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    """KL(sg[p(x_c)] || p(x)) of logits [B, 2] each, mean over B."""
    p = torch.softmax(causal.detach(), dim=1)
    return functional.kl_div(torch.log_softmax(whole, dim=1), p, reduction="batchmean")


def entropy(logits: torch.Tensor) -> torch.Tensor:
    """[...] of the distribution over the last axis, in nats."""
    return -(torch.softmax(logits, -1) * torch.log_softmax(logits, -1)).sum(-1)


def irrelevance(logits: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """L_irr of patches' class logits [B, N, 2]; `kept` [B, N] bool; 0 where all are kept."""
    removed = ~kept
    if not bool(removed.any()):
        return logits.sum() * 0
    return -entropy(logits)[removed].mean()
