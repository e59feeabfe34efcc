"""Parts of MOSO-VQVAE: halving, residual units, doubling, attention over time.

Source: method notes, MOSO 2b (arXiv:2303.03684). All take [N, C, h, w], N frames or clips.

Inferred, ours: without norms, first weights keep variance (He et al., ICCV 2015), and a residual
branch begins with nothing (Zhang et al., Fixup, ICLR 2019, arXiv:1901.09321).
"""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from operators.nn.blocks.attention import Attention


class ConvNorm(nn.Sequential):
    """A convolution that keeps or halves the side, batch norm or none, GELU."""

    def __init__(
        self, inner: int, outer: int, kernel_px: int, stride: int = 1, is_normed: bool = True
    ) -> None:
        conv = nn.Conv2d(inner, outer, kernel_px, stride, kernel_px // 2)
        if is_normed:
            super().__init__(conv, nn.BatchNorm2d(outer), nn.GELU())
        else:
            super().__init__(conv, nn.GELU())
            nn.init.kaiming_normal_(conv.weight)
            nn.init.zeros_(cast(nn.Parameter, conv.bias))


class Down(nn.Sequential):
    """Half the side. A ReLU behind the GELU, as published."""

    def __init__(self, inner: int, outer: int, is_normed: bool = True) -> None:
        super().__init__(
            ConvNorm(inner, outer, 5, 2, is_normed),
            ConvNorm(outer, outer, 3, 1, is_normed),
            nn.ReLU(),
        )


class Residual(nn.Module):
    """A 3x3 convolution to fewer channels, a 1x1 back, added."""

    def __init__(self, width: int, inner: int, is_normed: bool = True) -> None:
        super().__init__()
        back = ConvNorm(inner, width, 1, 1, is_normed)
        self.branch = nn.Sequential(ConvNorm(width, inner, 3, 1, is_normed), back)
        if not is_normed:
            nn.init.zeros_(cast(nn.Conv2d, back[0]).weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape."""
        y: torch.Tensor = x + self.branch(x)
        return y


class ResidualStack(nn.Sequential):
    """Units, and a GELU behind the last one."""

    def __init__(self, width: int, inner: int, units: int, is_normed: bool = True) -> None:
        super().__init__(*(Residual(width, inner, is_normed) for _ in range(units)), nn.GELU())


class Up(nn.Sequential):
    """Twice the side: a transposed 5x5 convolution, GELU."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__(nn.ConvTranspose2d(inner, outer, 5, 2, 2, output_padding=1), nn.GELU())


class TimeAttention(nn.Module):
    """Frames of a group attend to each other, each place by itself; the norm comes after."""

    def __init__(self, width: int, heads: int, group: int, dropout: float) -> None:
        super().__init__()
        self.group = group
        self.attention, self.dropout = Attention(width, heads), dropout
        self.norm = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """[groups * group, C, h, w], frames of a group in a row, to the same.

        Dropout only with a generator (CPU) to draw from.
        """
        _, width, high, wide = x.shape
        rows = x.reshape(-1, self.group, width, high, wide).permute(0, 3, 4, 1, 2)
        rows = rows.reshape(-1, self.group, width)  # one row of frames per place
        heard = self.attention(rows)
        if generator is not None and self.dropout > 0:
            kept = torch.rand(heard.shape, generator=generator) >= self.dropout
            heard = heard * kept.to(heard) / (1 - self.dropout)
        rows = self.norm(rows + heard)
        back: torch.Tensor = rows.view(-1, high, wide, self.group, width)
        return back.permute(0, 3, 4, 1, 2).reshape(x.shape)
