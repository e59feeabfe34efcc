"""What the two stages go down on.

Source: method notes, AR-Diffusion 1d; the hinge of Lim and Ye (arXiv:1705.02894), the adaptive
weight and the patch discriminator as in Esser et al., VQGAN, CVPR 2021 (arXiv:2012.09841), section
3.1. Inferred, ours: `edge_distance` takes the place of a perceptual network in the compact config.
No weights of such a network come with the project; differences between neighbours on several scales
ask for edges and texture where L1 alone is content with a blur, and cost next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from operators.nn.ar_diffusion.vae import Posterior

Distance = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # frames, frames: a scalar


def denoising_loss(x0_hat: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """Mean of (x0_hat - z)^2 over frames, tokens and channels; every timestep counts alike."""
    return functional.mse_loss(x0_hat, z)


def kl_loss(posterior: Posterior) -> torch.Tensor:
    """KL from N(mean, var) to N(0, 1), summed per frame, mean over the batch."""
    mean, logvar = posterior
    return 0.5 * (mean**2 + logvar.exp() - 1 - logvar).flatten(1).sum(dim=1).mean()


def edge_distance(ours: torch.Tensor, real: torch.Tensor, scales: int = 3) -> torch.Tensor:
    """Mean |difference of neighbour differences|, both directions, each scale half as fine."""
    error, total = ours - real, ours.new_zeros(())
    for scale in range(scales):
        if scale:
            error = functional.avg_pool2d(error, 2)
        total = total + error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return total / scales


@dataclass(frozen=True)
class VaeLossConfig:
    """Weights of the reconstruction's parts."""

    distance: float = 1.0  # of the perceptual distance, or of what stands for it
    kl: float = 0.0
    learn_variance: bool = False  # as published: one logarithm of the error's scale is learned


class VaeLoss(nn.Module):
    """exp(-v) (L1 + w distance) + v + w_kl KL, with v = 0 unless it is learned."""

    def __init__(self, config: VaeLossConfig, distance: Distance = edge_distance) -> None:
        """`distance` of two batches [B, 3, H, W] in [0, 1]; its own weights must be frozen."""
        super().__init__()
        self.config, self._distance = config, distance
        self.log_variance = nn.Parameter(torch.zeros(()), requires_grad=config.learn_variance)

    def forward(
        self,
        ours: torch.Tensor,
        real: torch.Tensor,
        posterior: Posterior,
        weight: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss, and its parts for whoever watches; `weight` [B, 1, H, W]: of every pixel."""
        config = self.config
        if weight is not None:
            ours, real = weight * ours, weight * real
        parts = {"l1": functional.l1_loss(ours, real), "distance": self._distance(ours, real)}
        total = parts["l1"] + config.distance * parts["distance"]
        total = total * torch.exp(-self.log_variance) + self.log_variance
        if config.kl > 0:
            parts["kl"] = kl_loss(posterior)
            total = total + config.kl * parts["kl"]
        return total, parts


class PatchDiscriminator(nn.Module):
    """Real or made, patch by patch (Isola et al., CVPR 2017, arXiv:1611.07004, section 3.2)."""

    def __init__(self, width: int = 64, layers: int = 3) -> None:
        super().__init__()
        net: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2)]
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
        """[B, 3, H, W] in [0, 1] to logits [B, 1, h, w]."""
        logits: torch.Tensor = self.net(2 * frames - 1)
        return logits


def hinge_loss(real: torch.Tensor, made: torch.Tensor) -> torch.Tensor:
    """Of the discriminator, from its logits."""
    return 0.5 * (functional.relu(1 - real).mean() + functional.relu(1 + made).mean())


def adaptive_weight(
    reconstruction: torch.Tensor, adversarial: torch.Tensor, last: torch.Tensor
) -> torch.Tensor:
    """Ratio of the two losses' gradients at the last layer's weight, at most 10^4; no gradient."""
    ours = torch.autograd.grad(reconstruction, last, retain_graph=True)[0].norm()
    theirs = torch.autograd.grad(adversarial, last, retain_graph=True)[0].norm()
    weight: torch.Tensor = (ours / (theirs + 1e-4)).clamp(0, 1e4)
    return weight.detach()
