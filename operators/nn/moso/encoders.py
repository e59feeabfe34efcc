"""Frames to features: one map per clip for scene and object, one per frame for motion.

Source: method notes, MOSO 2b (arXiv:2303.03684). Inferred, ours: where no halving is left, one 3x3
convolution brings pixels to the encoder's width; with stacking "order" a few frames made of the
clip's come in together as channels, in place of T frames one by one.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from operators.nn.moso.config import VqvaeConfig
from operators.nn.moso.layers import ConvNorm, Down, ResidualStack, TimeAttention
from operators.nn.moso.preprocess import ORDERS


def _entrance(config: VqvaeConfig, side: int, images: int) -> nn.Sequential:
    """`images` RGB images as channels, patches as places, to a map of `side`."""
    inner, layers = 3 * images * config.patch_px**2, list[nn.Module]()
    for _ in range(config.downs(side)):
        layers.append(Down(inner, config.width, config.is_normed))
        inner = config.width
    if not layers:
        layers.append(ConvNorm(inner, config.width, 3, 1, config.is_normed))
    return nn.Sequential(*layers)


def _stack(config: VqvaeConfig) -> ResidualStack:
    return ResidualStack(
        config.width, config.residual_width, config.residual_units, config.is_normed
    )


class ContentEncoder(nn.Module):
    """Images of a clip [B, N, 3, H, W] in [0, 1] to [B, width, side, side]: scene, or object.

    N is ORDERS with stacking "order", else T.
    """

    def __init__(self, config: VqvaeConfig, side: int) -> None:
        super().__init__()
        self.patch_px, self.stacking = config.patch_px, config.stacking
        width = config.width
        self.entrance = _entrance(config, side, ORDERS if config.stacking == "order" else 1)
        if config.stacking == "conv":
            self.over_time = ConvNorm(config.layout.frames * width, width, 3, 1, config.is_normed)
        self.stack = _stack(config)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """See the class."""
        if self.stacking == "order":
            still, others = images[:, :1], images[:, 1:]
            told = torch.cat([still - 0.5, others - still], dim=1).flatten(1, 2)
            y = self.entrance(functional.pixel_unshuffle(told, self.patch_px))
        else:
            maps = self.entrance(functional.pixel_unshuffle(images.flatten(0, 1), self.patch_px))
            maps = maps.unflatten(0, images.shape[:2])
            y = maps.mean(dim=1) if self.stacking == "mean" else self.over_time(maps.flatten(1, 2))
        features: torch.Tensor = self.stack(y)
        return features


class MotionEncoder(nn.Module):
    """Differences [B, T, 3, H, W] to [B, T, width, side, side]; groups of frames are apart."""

    def __init__(self, config: VqvaeConfig) -> None:
        super().__init__()
        self.patch_px = config.patch_px
        self.entrance = _entrance(config, config.layout.motion_side, 1)
        self.over_time = TimeAttention(config.width, config.heads, config.time_head, config.dropout)
        self.stack = _stack(config)

    def forward(
        self, motion: torch.Tensor, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """See the class; `generator`: of dropout, while learning."""
        maps = self.entrance(functional.pixel_unshuffle(motion.flatten(0, 1), self.patch_px))
        features: torch.Tensor = self.stack(self.over_time(maps, generator))
        return features.view(*motion.shape[:2], *features.shape[1:])
