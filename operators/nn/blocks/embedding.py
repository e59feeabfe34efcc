"""Numbers as vectors: sines and cosines of a timestep or a place.

Source: Vaswani et al., NeurIPS 2017 (arXiv:1706.03762), section 3.5; order (cosines first for
timesteps, sines first for places) and the two-layer network as in DiT (arXiv:2212.09748).
"""

from __future__ import annotations

import math

import torch
from torch import nn


def sinusoid(t: torch.Tensor, width: int, longest: float = 10_000.0) -> torch.Tensor:
    """t of any shape to [..., width] float32: cosines, then sines, of t / longest^(i / half)."""
    half = width // 2
    steps = torch.arange(half, dtype=torch.float32, device=t.device) / half
    angles = t.to(torch.float32)[..., None] * torch.exp(-math.log(longest) * steps)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def place_table(count: int, width: int) -> torch.Tensor:
    """[count, width] float32: sines, then cosines, of the places 0..count-1."""
    cos, sin = sinusoid(torch.arange(count), width).chunk(2, dim=-1)
    return torch.cat([sin, cos], dim=-1)


class TimestepEmbedding(nn.Module):
    """Timesteps of any shape to [..., width]: a sinusoid, then Linear, SiLU, Linear."""

    def __init__(self, width: int, sinusoid_width: int = 256) -> None:
        super().__init__()
        self.sinusoid_width = sinusoid_width
        self.net = nn.Sequential(
            nn.Linear(sinusoid_width, width), nn.SiLU(), nn.Linear(width, width)
        )

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        """int64 in any shape."""
        weight = next(self.parameters())
        y: torch.Tensor = self.net(sinusoid(t, self.sinusoid_width).to(weight.dtype))
        return y
