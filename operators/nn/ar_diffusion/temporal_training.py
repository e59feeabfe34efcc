"""How stage 1b learns: layers that look back, inside a decoder that stays as it is.

Source: method notes, AR-Diffusion 1b and 1d: clips in place of single frames, the losses of stage 1
without an adversary, the encoder frozen. Inferred, ours: unit tokens are shaken by noise as in
stage 1 (`training`), each frame by its own. What a denoiser hands over is never exact, and what is
wrong in one frame alone is what a look at its neighbours can mend.
"""

from __future__ import annotations

from pathlib import Path

import torch

from operators.nn.ar_diffusion.losses import VaeLoss
from operators.nn.ar_diffusion.temporal import TemporalDecoder
from operators.nn.ar_diffusion.vae import Posterior, Vae, unit_tokens
from operators.nn.blocks.stepper import Stepper, StepperConfig


class TemporalTrainer:
    """Stage 1b. `averaged` is what decodes; the VAE does not change."""

    def __init__(
        self,
        vae: Vae,
        loss: VaeLoss,
        config: StepperConfig,
        latent_noise: float = 0.0,
        fingerprint: str = "",
    ) -> None:
        """`vae` is frozen here. `latent_noise`: deviation per channel, beside unit tokens."""
        self.vae, self.loss, self.latent_noise = (
            vae.eval().requires_grad_(False),
            loss,
            latent_noise,
        )
        device = vae.encoder.patches.weight.device
        self.decoder = TemporalDecoder(vae.config, vae.decoder).to(device)
        pair = torch.nn.ModuleDict({"layers": self.decoder.layers, "loss": loss})
        self.stepper = Stepper(pair, config, fingerprint)

    @property
    def averaged(self) -> TemporalDecoder:
        """The averaged layers, frozen, in the VAE's own decoder."""
        layers = self.stepper.averaged["layers"]
        assert isinstance(layers, torch.nn.ModuleList)
        return TemporalDecoder(self.vae.config, self.vae.decoder, layers)

    def step(self, frames: torch.Tensor, weight: torch.Tensor | None = None) -> dict[str, float]:
        """Clips [B, T, 3, size_px, size_px] float in [0, 1]; the loss, its parts, the gradient.

        `weight` [B, T, 1, size_px, size_px]: of every pixel in the reconstruction's loss.
        """
        real = frames.flatten(0, 1)
        posterior, z = self._encoded(real)
        made = self.decoder(z.view(*frames.shape[:2], *z.shape[1:])).flatten(0, 1)
        weight = None if weight is None else weight.flatten(0, 1)
        total, parts = self.loss(made, real, posterior, weight)
        told = {name: float(value.detach()) for name, value in parts.items()}
        told["loss"] = float(total.detach())
        return told | {"gradient": self.stepper.update(total)}

    @torch.no_grad()
    def _encoded(self, frames: torch.Tensor) -> tuple[Posterior, torch.Tensor]:
        """Of single frames: what the encoder says, and unit tokens [N, K, C], shaken."""
        posterior = self.vae.encoder(frames)
        z = unit_tokens(posterior.mean)
        if self.latent_noise > 0:
            eps = torch.randn(z.shape, generator=self.stepper.generator()).to(z)
            z = unit_tokens(z + self.latent_noise * eps)
        return posterior, z

    def save(self, path: Path) -> None:
        """All that is needed to go on exactly, but for the VAE."""
        self.stepper.save(path)

    def resume(self, path: Path) -> None:
        """Go on from `save`, with the same VAE. ValueError for a file that does not fit."""
        self.stepper.resume(path)
