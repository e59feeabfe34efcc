"""What MOSO-VQVAE goes down on.

Source: method notes, MOSO 2d (arXiv:2303.03684): L1, a perceptual distance, a quarter of each
group's commitment; by config minus SSIM or plus the mean square error; a patch discriminator on the
T frames of a clip as one image of 3 T channels. Inferred, ours: the perceptual distance is
`edge_distance` unless another is given, since no weights of a perceptual network come with the
project; and errors may be weighed by pixel, since what moves is small.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from operators.nn.blocks.adversary import hinge_loss
from operators.nn.blocks.distance import Distance, edge_distance, mean_ssim
from operators.nn.moso.preprocess import MOVED

Parts = dict[str, torch.Tensor]


@dataclass(frozen=True)
class VqvaeLossConfig:
    """Weights of the parts. ValueError for negative ones."""

    distance: float = 1.0
    square: float = 0.0  # of the mean square error; 1 in one published config
    ssim: float = 0.0  # 1 in one published config
    commitment: float = 0.25  # of each group
    adversary: float = 0.1  # once there is one

    def __post_init__(self) -> None:
        if min(self.distance, self.square, self.ssim, self.commitment, self.adversary) < 0:
            raise ValueError(f"weights must not be negative: {self}")


class VqvaeLoss:
    """L1 + w distance + w square - w SSIM + w sum of commitments."""

    def __init__(self, config: VqvaeLossConfig, distance: Distance = edge_distance) -> None:
        """`distance` of two batches [B, 3, H, W] in [0, 1]; its own weights must be frozen."""
        self.config, self._distance = config, distance

    def __call__(
        self,
        ours: torch.Tensor,
        real: torch.Tensor,
        commitment: torch.Tensor,
        weight: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, Parts]:
        """Frames [B, T, 3, H, W] twice and commitments [3]; the loss, and its parts as they are.

        `weight` [B, T, 1, H, W]: of every pixel's error, but for SSIM.
        """
        config, told = self.config, Parts()
        ours, real = ours.flatten(0, 1), real.flatten(0, 1)
        weight = ours.new_ones(()) if weight is None else weight.flatten(0, 1)
        told["l1"] = (weight * (ours - real).abs()).mean()
        told["distance"] = self._distance(weight * ours, weight * real)
        told["commitment"] = commitment.sum()
        total = told["l1"] + config.distance * told["distance"]
        total = total + config.commitment * told["commitment"]
        if config.square > 0:
            told["square"] = (weight * (ours - real).square()).mean()
            total = total + config.square * told["square"]
        if config.ssim > 0:
            told["ssim"] = mean_ssim(ours, real)
            total = total - config.ssim * told["ssim"]
        return total, told


def as_one_image(frames: torch.Tensor) -> torch.Tensor:
    """[B, T, 3, H, W] to [B, 3 T, H, W], as the discriminator sees a clip."""
    return frames.flatten(1, 2)


def fooling_loss(logits: torch.Tensor) -> torch.Tensor:
    """Of the generator, from the discriminator's logits on what it made."""
    return -logits.mean()


def judging_loss(real: torch.Tensor, made: torch.Tensor) -> torch.Tensor:
    """Of the discriminator, from its logits: the hinge."""
    return hinge_loss(real, made)


def motion_weight(frames: torch.Tensor, moved: float) -> torch.Tensor:
    """[B, T, 3, H, W] to weights [B, T, 1, H, W] with mean 1 in each clip: `1 + moved` parts where
    a pixel is off its median over time, 1 part elsewhere. What moves is small and would be the last
    to be learned.
    """
    still = frames.median(dim=1, keepdim=True).values
    weight = 1 + moved * ((frames - still).abs().amax(dim=2, keepdim=True) > MOVED).to(frames)
    return weight / weight.mean(dim=(1, 2, 3, 4), keepdim=True)
