"""From a grid of codebook entries to pixels: residual blocks, each level twice as fine.

Source: the decoder of Chang et al., MaskGIT, CVPR 2022 (arXiv:2202.04200), as TiTok uses it (Yu et
al., NeurIPS 2024, arXiv:2406.07550). Inferred, ours: `shuffle` lets the finest level work below the
frame's resolution and give several pixels per place, which is most of the cost at 64x64. First
weights keep variance (He et al., ICCV 2015, gain 1) with no bias: with torch's own each convolution
about halves what it is told and adds a bias as large, and a small decoder is deaf for long.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from operators.nn.ar_diffusion.config import VaeConfig


class ResBlock(nn.Module):
    """[B, inner, h, w] to [B, outer, h, w].

    `branch_shortcut`: where widths differ, the shortcut is taken from the branch's end and not from
    its beginning, a slip in the public MaskGIT decoder that its weights were trained with.
    """

    def __init__(self, inner: int, outer: int, groups: int, branch_shortcut: bool) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, inner, eps=1e-6)
        self.conv1 = nn.Conv2d(inner, outer, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(groups, outer, eps=1e-6)
        self.conv2 = nn.Conv2d(outer, outer, 3, padding=1, bias=False)
        self.branch_shortcut = branch_shortcut and inner != outer
        self.shortcut: nn.Module = nn.Identity()
        if inner != outer:
            self.shortcut = nn.Conv2d(outer if branch_shortcut else inner, outer, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same height and width."""
        y = self.conv1(functional.silu(self.norm1(x)))
        y = self.conv2(functional.silu(self.norm2(y)))
        side: torch.Tensor = self.shortcut(y if self.branch_shortcut else x)
        return side.add(y)


class Upsample(nn.Module):
    """Twice as fine by repetition, then a convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, h, w] to [B, C, 2 h, 2 w]."""
        y: torch.Tensor = self.conv(functional.interpolate(x, scale_factor=2.0, mode="nearest"))
        return y


class ConvDecoder(nn.Module):
    """[B, code_width, grid, grid] to RGB [B, 3, size_px, size_px], about [0, 1], not clamped."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        quirk, groups = config.branch_shortcut, config.conv_groups
        widths = [config.conv_width * multiplier for multiplier in config.conv_multipliers]
        width = widths[-1]
        layers: list[nn.Module] = [nn.Conv2d(config.code_width, width, 3, padding=1)]
        layers += [ResBlock(width, width, groups, quirk) for _ in range(2)]
        for level in reversed(range(len(widths))):
            for _ in range(config.conv_blocks):
                layers.append(ResBlock(width, widths[level], groups, quirk))
                width = widths[level]
            if level:
                layers.append(Upsample(width))
        self.layers = nn.Sequential(*layers)
        self.norm = nn.GroupNorm(groups, width, eps=1e-6)
        self.rgb = nn.Conv2d(width, 3 * config.shuffle**2, 3, padding=1)
        self.shuffle = nn.PixelShuffle(config.shuffle)
        self.apply(_first_weights)

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """See the class."""
        rgb: torch.Tensor = self.shuffle(self.rgb(functional.silu(self.norm(self.layers(codes)))))
        return rgb


def _first_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
