"""Who may look at whom: context tokens in front, then frames of `tokens` tokens each.

Source: method notes, AR-Diffusion 1b. The published mask lets context tokens see every frame; they
carry what they saw into the past at the next layer, so that only the strict mask is causal.
"""

from __future__ import annotations

import torch

from operators.nn.ar_diffusion.config import Mask


def attention_mask(kind: Mask, context: int, frames: int, tokens: int) -> torch.Tensor | None:
    """[N, N] bool with N = context + frames * tokens, True where a row may see a column.

    A frame sees the context, itself and the frames in front of it. Context tokens see context
    ("strict") or everything ("published"). None for "none": everyone sees everyone.
    """
    if kind == "none":
        return None
    step = torch.cat([torch.full((context,), -1), torch.arange(frames).repeat_interleave(tokens)])
    mask = step[:, None] >= step[None, :]
    if kind == "published":
        mask[:context] = True
    return mask
