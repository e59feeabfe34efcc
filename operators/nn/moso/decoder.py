"""Features of frames to frames.

Source: method notes, MOSO 2b (arXiv:2303.03684): frame by frame, or with one attention over all T
frames in front (`temporal_decoder`).
"""

from __future__ import annotations

import itertools
from typing import cast

import torch
from torch import nn

from operators.nn.moso.config import VqvaeConfig
from operators.nn.moso.layers import ResidualStack, TimeAttention, Up


class Decoder(nn.Module):
    """[B, n, width, scene_side, ..] to RGB [B, n, 3, size_px, size_px], about 0..1, not clamped."""

    def __init__(self, config: VqvaeConfig) -> None:
        super().__init__()
        width = config.width
        self.frames = config.layout.frames if config.temporal_decoder else 0
        if config.temporal_decoder:
            self.over_time = TimeAttention(width, config.heads, self.frames, config.dropout)
        ups = config.downs(config.layout.scene_side)
        widths = [width] * ups + [config.last_width if ups else width]
        layers: list[nn.Module] = [nn.Conv2d(width, width, 3, padding=1)]
        units = config.decoder_units
        layers.append(ResidualStack(width, config.residual_width, units, config.is_normed))
        layers += [Up(inner, outer) for inner, outer in itertools.pairwise(widths)]
        self.layers = nn.Sequential(*layers)
        self.rgb = nn.Conv2d(widths[-1], 3 * config.patch_px**2, 3, padding=1)
        self.straight = nn.Conv2d(width, 3 * config.patch_px**2, 1) if config.straight else None
        self.shuffle = nn.PixelShuffle(config.patch_px)
        if config.straight:
            nn.init.zeros_(self.rgb.weight)
            nn.init.zeros_(cast(nn.Parameter, self.rgb.bias))

    def forward(
        self, features: torch.Tensor, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """See the class; `generator`: of dropout, while learning.

        ValueError for other than T frames where they attend to each other.
        """
        batch, count = features.shape[:2]
        if self.frames and count != self.frames:
            raise ValueError(f"{count} frames, but this decoder looks at {self.frames} together")
        x = features.flatten(0, 1)
        y = self.rgb(self.layers(self.over_time(x, generator) if self.frames else x))
        if self.straight is not None:
            y = y + self.straight(x)
        frames: torch.Tensor = self.shuffle(y)
        return frames.view(batch, count, *frames.shape[1:])
