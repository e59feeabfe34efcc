"""What the two stages go down on.

Source: method notes, AR-Diffusion 1d; the adaptive weight as in Esser et al., VQGAN, CVPR 2021
(arXiv:2012.09841), section 3.1. Edges, the patch discriminator and its hinge are shared: `blocks`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from operators.nn.ar_diffusion.vae import Posterior
from operators.nn.blocks.adversary import PatchDiscriminator as PatchDiscriminator
from operators.nn.blocks.adversary import hinge_loss as hinge_loss
from operators.nn.blocks.distance import Distance
from operators.nn.blocks.distance import edge_distance as edge_distance


def denoising_loss(x0_hat: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """Mean of (x0_hat - z)^2 over frames, tokens and channels; every timestep counts alike."""
    return functional.mse_loss(x0_hat, z)


def kl_loss(posterior: Posterior) -> torch.Tensor:
    """KL from N(mean, var) to N(0, 1), summed per frame, mean over the batch."""
    mean, logvar = posterior
    return 0.5 * (mean**2 + logvar.exp() - 1 - logvar).flatten(1).sum(dim=1).mean()


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


def adaptive_weight(
    reconstruction: torch.Tensor, adversarial: torch.Tensor, last: torch.Tensor
) -> torch.Tensor:
    """Ratio of the two losses' gradients at the last layer's weight, at most 10^4; no gradient."""
    ours = torch.autograd.grad(reconstruction, last, retain_graph=True)[0].norm()
    theirs = torch.autograd.grad(adversarial, last, retain_graph=True)[0].norm()
    weight: torch.Tensor = (ours / (theirs + 1e-4)).clamp(0, 1e4)
    return weight.detach()
