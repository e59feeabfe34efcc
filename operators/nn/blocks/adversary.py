"""Real or made: a network that judges patches, and what it goes down on.

Source: the patch discriminator of Isola et al., CVPR 2017 (arXiv:1611.07004), section 3.2; the
hinge of Lim and Ye (arXiv:1705.02894).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class PatchDiscriminator(nn.Module):
    """Logits per patch. `channels`: 3 for a frame, 3 T for the frames of a clip as one image."""

    def __init__(self, width: int = 64, layers: int = 3, channels: int = 3) -> None:
        super().__init__()
        net: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        inner = width
        for layer in range(1, layers + 1):
            outer = width * min(2**layer, 8)
            stride = 2 if layer < layers else 1
            net += [
                nn.Conv2d(inner, outer, 4, stride, 1, bias=False),
                nn.BatchNorm2d(outer),
                nn.LeakyReLU(0.2),
            ]
            inner = outer
        self.net = nn.Sequential(*net, nn.Conv2d(inner, 1, 4, 1, 1))

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """[B, channels, H, W] in [0, 1] to logits [B, 1, h, w]."""
        logits: torch.Tensor = self.net(2 * frames - 1)
        return logits


def hinge_loss(real: torch.Tensor, made: torch.Tensor) -> torch.Tensor:
    """Of the discriminator, from its logits."""
    return 0.5 * (functional.relu(1 - real).mean() + functional.relu(1 + made).mean())
