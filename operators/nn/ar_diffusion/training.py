"""How the two stages learn: one call, one step on one batch.

Source: method notes, AR-Diffusion 1c and 1d. Inferred, ours: while the VAE learns, its unit tokens
are shaken by noise and brought back to length 1 (`latent_noise`). The weight of the KL term is 0,
so nothing else makes near latents decode to near frames, and what a denoiser hands over is never
exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from operators.nn.ar_diffusion.config import DiffusionConfig
from operators.nn.ar_diffusion.denoiser import Denoiser
from operators.nn.ar_diffusion.diffusion import FINISHED, Diffusion
from operators.nn.ar_diffusion.fopp import Fopp
from operators.nn.ar_diffusion.losses import (
    PatchDiscriminator,
    VaeLoss,
    adaptive_weight,
    denoising_loss,
    hinge_loss,
)
from operators.nn.ar_diffusion.rolling import Rolling, shaken
from operators.nn.ar_diffusion.vae import Vae, unit_tokens
from operators.nn.blocks.stepper import Stepper, StepperConfig


class Adversary:
    """The patch discriminator of stage 1, with an optimiser of its own.

    Trained and heard from step `start` of the VAE on.
    """

    def __init__(
        self, discriminator: PatchDiscriminator, config: StepperConfig, start: int = 100_000
    ) -> None:
        self.start = start
        self.stepper = Stepper(discriminator, config, "adversary")

    def against(self, reconstruction: torch.Tensor, made: torch.Tensor, vae: Vae) -> torch.Tensor:
        """What the VAE's loss gets on top."""
        fooled: torch.Tensor = -self.stepper.model(made).mean()
        last = vae.decoder.pixels.rgb.weight
        return adaptive_weight(reconstruction, fooled, last) * fooled

    def learn(self, real: torch.Tensor, made: torch.Tensor) -> float:
        """One step of the discriminator; its hinge loss."""
        model = self.stepper.model
        loss = hinge_loss(model(real), model(made.detach()))
        self.stepper.update(loss)
        return float(loss.detach())


class VaeTrainer:
    """Stage 1. `stepper.averaged` is the VAE to evaluate and keep."""

    def __init__(
        self,
        vae: Vae,
        loss: VaeLoss,
        config: StepperConfig,
        latent_noise: float = 0.0,
        fingerprint: str = "",
    ) -> None:
        """`latent_noise`: standard deviation per channel, beside unit tokens."""
        pair = torch.nn.ModuleDict({"vae": vae, "loss": loss})
        self.vae, self.loss, self.latent_noise = vae, loss, latent_noise
        self.stepper = Stepper(pair, config, fingerprint)
        self.adversary: Adversary | None = None

    @property
    def averaged(self) -> Vae:
        """The averaged weights, frozen."""
        vae = self.stepper.averaged["vae"]
        assert isinstance(vae, Vae)
        return vae

    def step(self, frames: torch.Tensor, weight: torch.Tensor | None = None) -> dict[str, float]:
        """[B, 3, size_px, size_px] float in [0, 1]; the loss, its parts and the gradient's norm.

        `weight` [B, 1, size_px, size_px]: of every pixel in the reconstruction's loss.
        """
        posterior = self.vae.encoder(frames)
        z = unit_tokens(posterior.mean)
        if self.latent_noise > 0:
            eps = torch.randn(z.shape, generator=self.stepper.generator()).to(z)
            z = unit_tokens(z + self.latent_noise * eps)
        made = self.vae.decode(z)
        total, parts = self.loss(made, frames, posterior, weight)
        told = {name: float(value.detach()) for name, value in parts.items()}
        told["loss"] = float(total.detach())
        adversary = self.adversary
        if adversary is None or self.stepper.step < adversary.start:
            return told | {"gradient": self.stepper.update(total)}
        told["gradient"] = self.stepper.update(total + adversary.against(total, made, self.vae))
        return told | {"adversary": adversary.learn(frames, made)}

    def save(self, path: Path) -> None:
        """All that is needed to go on exactly; an adversary's beside it, as `.adversary`."""
        self.stepper.save(path)
        if self.adversary is not None:
            self.adversary.stepper.save(_beside(path))

    def resume(self, path: Path) -> None:
        """Go on from `save`. ValueError for a file that does not fit."""
        self.stepper.resume(path)
        if self.adversary is not None:
            self.adversary.stepper.resume(_beside(path))


@dataclass(frozen=True)
class DenoiserTraining:
    """What is done to a batch."""

    drop_label: float = 0.1  # the share of clips that are learned without a class
    rolling: float = 0.0  # the share of clips with timesteps of a stream, the others have FoPP's
    history_noise: float = 0.0  # most on done frames of these, per channel, beside unit tokens
    own_past: float = 0.0  # share of these whose done frames are the denoiser's own guesses

    def __post_init__(self) -> None:
        for name in ("drop_label", "rolling", "history_noise", "own_past"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be 0..1, not {getattr(self, name)}")


class DenoiserLoss:
    """The mean error of x0_hat over frames that are not done, at FoPP's or a stream's timesteps.

    Latents have a mean square of `scale^2 / C`.
    """

    def __init__(self, frames: int, diffusion: DiffusionConfig, training: DenoiserTraining) -> None:
        self.diffusion, self.training = Diffusion(diffusion), training
        self.fopp = Fopp(frames, diffusion.timesteps)
        self.rolling = Rolling(frames, diffusion.timesteps)

    def timesteps(
        self, batch: int, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What the denoiser is told, int64 [B, F], non-decreasing over frames; which are done."""
        rolls = torch.rand(batch, 1, generator=generator) < self.training.rolling
        fopp, level = (draw.sample(batch, generator) for draw in (self.fopp, self.rolling))
        return torch.where(rolls, self.diffusion.shown(level), fopp), rolls & (level == FINISHED)

    def __call__(
        self,
        denoiser: Denoiser,
        tokens: torch.Tensor,
        labels: torch.Tensor,
        generator: torch.Generator,
    ) -> torch.Tensor:
        """Unit tokens [B, F, K, C], labels int64 [B]; all chance comes from `generator`."""
        t, done = (each.to(tokens.device) for each in self.timesteps(len(tokens), generator))
        z = self.diffusion.scaled(tokens)
        eps = torch.randn(z.shape, generator=generator).to(z)
        dropped = torch.rand(len(z), generator=generator) < self.training.drop_label
        labels = labels.masked_fill(dropped.to(labels.device), denoiser.null)
        past = self._past(denoiser, tokens, labels, generator)
        past = shaken(past, done, self.training.history_noise, generator)
        seen = torch.where(
            done[..., None, None], self.diffusion.scaled(past), self.diffusion.corrupt(z, eps, t)
        )
        x0_hat = denoiser(seen, t, labels)
        return denoising_loss(x0_hat[~done], z[~done])

    @torch.no_grad()
    def _past(
        self,
        denoiser: Denoiser,
        tokens: torch.Tensor,
        labels: torch.Tensor,
        generator: torch.Generator,
    ) -> torch.Tensor:
        """Unit tokens [B, F, K, C]: as they are, or guessed in one call from under half of T."""
        if self.training.own_past == 0:
            return tokens
        z = self.diffusion.scaled(tokens)
        eps = torch.randn(z.shape, generator=generator).to(z)
        half = self.diffusion.config.timesteps // 2
        t = torch.randint(1, half, (len(z), 1), generator=generator).to(z.device)
        t = t.expand(-1, z.shape[1])
        guess = unit_tokens(denoiser(self.diffusion.corrupt(z, eps, t), t, labels))
        own = torch.rand(len(z), 1, 1, 1, generator=generator) < self.training.own_past
        return torch.where(own.to(z.device), guess, tokens)


class DenoiserTrainer:
    """Stage 2, on unit tokens that a frozen VAE made. `averaged` is what samples."""

    def __init__(
        self,
        denoiser: Denoiser,
        diffusion: DiffusionConfig,
        config: StepperConfig,
        training: DenoiserTraining | None = None,
        fingerprint: str = "",
    ) -> None:
        self.denoiser = denoiser
        self.loss = DenoiserLoss(denoiser.config.frames, diffusion, training or DenoiserTraining())
        self.stepper = Stepper(denoiser, config, fingerprint)

    @property
    def averaged(self) -> Denoiser:
        """The averaged weights, frozen."""
        return self.stepper.averaged

    def step(self, tokens: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
        """Unit tokens [B, F, K, C], labels int64 [B]; F is the denoiser's number of frames."""
        generator = self.stepper.generator()
        loss = self.loss(self.denoiser, tokens, labels, generator)
        gradient = self.stepper.update(loss)
        return {"loss": float(loss.detach()), "gradient": gradient}

    def save(self, path: Path) -> None:
        """All that is needed to go on exactly."""
        self.stepper.save(path)

    def resume(self, path: Path) -> None:
        """Go on from `save`. ValueError for a file that does not fit."""
        self.stepper.resume(path)


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".adversary")
