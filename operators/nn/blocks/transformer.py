"""The block of a vision transformer: x + attention(norm(x)), then x + mlp(norm(x)).

Source: Dosovitskiy et al., ICLR 2021 (arXiv:2010.11929), equations 2 and 3.
"""

from __future__ import annotations

import torch
from torch import nn

from operators.nn.blocks.attention import Attention
from operators.nn.blocks.rotary import Rotation


class Mlp(nn.Sequential):
    """Wider by `ratio`, GELU, back. `tanh`: the tanh form of GELU."""

    def __init__(self, width: int, ratio: float = 4.0, tanh: bool = False) -> None:
        inner = int(width * ratio)
        gelu = nn.GELU(approximate="tanh" if tanh else "none")
        super().__init__(nn.Linear(width, inner), gelu, nn.Linear(inner, width))


class Block(nn.Module):
    """Pre-norm, [B, N, width] to the same."""

    def __init__(self, width: int, heads: int, ratio: float = 4.0, qk_norm: bool = False) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, qk_norm)
        self.mlp = Mlp(width, ratio)

    def forward(
        self,
        x: torch.Tensor,
        mask: torch.Tensor | None = None,
        turned_by: Rotation | None = None,
    ) -> torch.Tensor:
        """`mask` and `turned_by` as in `Attention`."""
        x = x + self.attention(self.norm1(x), mask, turned_by)
        y: torch.Tensor = x + self.mlp(self.norm2(x))
        return y
