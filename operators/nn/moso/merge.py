"""Scene and object as one map per frame: motion says how much of which, by channel and place.

Source: method notes, MOSO 2b (arXiv:2303.03684): logits at three scales, coarse ones added to finer
ones, a sigmoid; feature_t = w scene + (1 - w) object. The first layer on the three of them is
written as a sum, so that the part of scene and object is computed once per clip.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import nn
from torch.nn import functional

from operators.nn.moso.config import VqvaeConfig

SCALES = 3


class Content(NamedTuple):
    """What is the same for all frames of a clip."""

    scene: torch.Tensor  # [B, width, side, side]
    object: torch.Tensor  # the same, brought to the scene's side
    hidden: tuple[torch.Tensor, ...]  # by scale, finest first: [B, width, side / 2^scale, ..]


class Merge(nn.Module):
    """Features between those of scene and object, elementwise."""

    def __init__(self, config: VqvaeConfig) -> None:
        super().__init__()
        width = config.width
        self.side = config.layout.scene_side

        def halvings() -> nn.ModuleList:
            return nn.ModuleList(nn.Conv2d(width, width, 3, 2, 1) for _ in range(SCALES - 1))

        def mixtures(inner: int, bias: bool) -> nn.ModuleList:
            return nn.ModuleList(nn.Conv2d(inner, width, 1, bias=bias) for _ in range(SCALES))

        self.halve_scene, self.halve_object = halvings(), halvings()
        self.of_content, self.of_motion = mixtures(2 * width, True), mixtures(width, False)
        self.logits = mixtures(width, True)
        self.last = nn.Conv2d(width, width, 1)

    def content(self, scene: torch.Tensor, own: torch.Tensor) -> Content:
        """[B, width, scene_side, ..] and [B, width, object_side, ..], once per clip."""
        if own.shape[-1] != self.side:
            own = functional.interpolate(own, size=self.side, mode="bilinear")
        pair, hidden = (scene, own), []
        for scale in range(SCALES):
            if scale:
                pair = (self.halve_scene[scale - 1](pair[0]), self.halve_object[scale - 1](pair[1]))
            hidden.append(self.of_content[scale](torch.cat(pair, dim=1)))
        return Content(scene, own, tuple(hidden))

    def forward(
        self, content: Content, motion: torch.Tensor, more: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Motion [B, n, width, motion_side, ..] to features [B, n, width, scene_side, ..].

        `more` [B, n, width, scene_side, ..] is added to the last logits.
        """
        scene, own = content.scene[:, None], content.object[:, None]
        return torch.lerp(own, scene, self.weight(content, motion, more))

    def weight(
        self, content: Content, motion: torch.Tensor, more: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The scene's share, in 0..1, shaped as the features."""
        batch, count = motion.shape[:2]
        maps, coarse = motion.flatten(0, 1), cast(torch.Tensor | None, None)
        for scale in reversed(range(SCALES)):
            of_motion = self.of_motion[scale](_sized(maps, content.hidden[scale].shape[-1]))
            hidden = of_motion.unflatten(0, (batch, count)) + content.hidden[scale][:, None]
            logits = self.logits[scale](functional.gelu(hidden.flatten(0, 1)))
            if coarse is not None:
                logits = logits + _sized(coarse, logits.shape[-1])
            coarse = logits
        logits = self.last(coarse).unflatten(0, (batch, count))
        return torch.sigmoid(logits if more is None else logits + more)


def _sized(x: torch.Tensor, side: int) -> torch.Tensor:
    """[N, C, h, h] to [N, C, side, side]: means of places, or bilinear between them."""
    if x.shape[-1] >= side:
        return x if x.shape[-1] == side else functional.adaptive_avg_pool2d(x, side)
    return functional.interpolate(x, size=side, mode="bilinear")
