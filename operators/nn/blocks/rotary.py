"""Rotary positions: queries and keys are turned by an angle that grows with the position.

Source: Su et al., RoFormer (arXiv:2104.09864), equation 34, with halves in place of neighbours as
pairs. Scores depend on differences of positions alone; keys can therefore be kept unturned and be
turned when they are used.
"""

from __future__ import annotations

from typing import NamedTuple

import torch


class Rotation(NamedTuple):
    """Cosine and sine of each position's angles, [N, head_width / 2] float32 each."""

    cos: torch.Tensor
    sin: torch.Tensor

    def last(self, count: int) -> Rotation:
        """Of the last `count` positions."""
        return Rotation(self.cos[-count:], self.sin[-count:])


def rotation(positions: torch.Tensor, head_width: int, base: float = 10_000.0) -> Rotation:
    """Angles `positions[n] * base^(-i / half)` for i of 0..half-1; positions [N], any unit.

    The slowest pair turns `1 / base` per position: for short sequences take a small base.
    """
    half = head_width // 2
    steps = torch.arange(half, dtype=torch.float64, device=positions.device) / half
    angles = positions.to(torch.float64)[:, None] * base**-steps
    return Rotation(angles.cos().float(), angles.sin().float())


def rotate(x: torch.Tensor, turned_by: Rotation) -> torch.Tensor:
    """[..., N, head_width] to the same."""
    cos, sin = turned_by.cos.to(x.dtype), turned_by.sin.to(x.dtype)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)
