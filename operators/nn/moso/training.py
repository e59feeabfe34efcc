"""How MOSO-VQVAE learns: one call, one step on one batch of clips.

Source: method notes, MOSO 2b, 2d (arXiv:2303.03684). Until step `full_from` the scene's encoder
sees frames without objects, the object's objects alone; from then on both see full frames. From
step `adversary_from` on a discriminator joins: steps of the generator and its own take turns, under
one Adam. Inferred: a step of one leaves the other's weights and moments as they are; the codebook
learns once per step of the generator, from all three groups together.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from operators.nn.blocks.adversary import PatchDiscriminator
from operators.nn.blocks.stepper import Stepper, StepperConfig
from operators.nn.moso.losses import VqvaeLoss, as_one_image, fooling_loss, judging_loss
from operators.nn.moso.preprocess import Clip
from operators.nn.moso.vqvae import Vqvae

_DROPOUT, _REVIVE = 1, 2  # keep chances apart


@dataclass(frozen=True)
class VqvaeTraining:
    """When what begins; published: 0, 50,000 or 100,000, and 50,000 or never (-1)."""

    full_from: int = 0  # step from which encoders see full frames
    adversary_from: int = -1
    has_bf16: bool = False  # convolutions in bfloat16, by autocast

    def __post_init__(self) -> None:
        if self.full_from < 0 or self.adversary_from < -1:
            raise ValueError(f"steps must be 0 or more, -1 for never: {self}")


class VqvaeTrainer:
    """`averaged` is the VQVAE to evaluate and keep."""

    def __init__(
        self,
        vqvae: Vqvae,
        loss: VqvaeLoss,
        config: StepperConfig,
        training: VqvaeTraining | None = None,
        discriminator: PatchDiscriminator | None = None,
        fingerprint: str = "",
    ) -> None:
        """ValueError if there is a discriminator that never begins, or none that is to begin."""
        self.vqvae, self.loss, self.discriminator = vqvae, loss, discriminator
        self.training = training or VqvaeTraining()
        if (discriminator is None) != (self.training.adversary_from < 0):
            raise ValueError("a discriminator and the step from which it is heard go together")
        models: dict[str, nn.Module] = {"vqvae": vqvae}
        if discriminator is not None:
            models["discriminator"] = discriminator
        self.stepper = Stepper(nn.ModuleDict(models), config, fingerprint)

    @property
    def averaged(self) -> Vqvae:
        """The averaged weights, frozen."""
        vqvae = self.stepper.averaged["vqvae"]
        assert isinstance(vqvae, Vqvae)
        return vqvae

    def step(self, clip: Clip, weight: torch.Tensor | None = None) -> dict[str, float]:
        """The loss, its parts and the gradient's norm; `weight` [B, T, 1, H, W]: of every pixel.

        FloatingPointError for a loss or gradient that is not finite; then no weight has changed.
        """
        begin = self.training.adversary_from
        judge = self.discriminator if 0 <= begin <= self.stepper.step else None
        if judge is not None and (self.stepper.step - begin) % 2:
            return self._judge(judge, clip)
        return self._generate(judge, clip, weight)

    def _generate(
        self, judge: PatchDiscriminator | None, clip: Clip, weight: torch.Tensor | None
    ) -> dict[str, float]:
        is_masked = self.stepper.step < self.training.full_from
        revive = self.stepper.generator(_REVIVE)
        with self._autocast(clip):
            made, coded = self.vqvae(clip, is_masked, self.stepper.generator(_DROPOUT))
        made = made.float()
        total, parts = self.loss(made, clip.frames, coded.commitment, weight)
        if judge is not None:
            judge.requires_grad_(False)
            parts["fooling"] = fooling_loss(judge(as_one_image(made)))
            total = total + self.loss.config.adversary * parts["fooling"]
        gradient = self.stepper.update(total)
        self.vqvae.codebook.learn(coded.chosen_for.rows().detach(), coded.indices(), revive)
        told = {name: float(value.detach()) for name, value in parts.items()}
        return told | {"loss": float(total.detach()), "gradient": gradient}

    def _judge(self, judge: PatchDiscriminator, clip: Clip) -> dict[str, float]:
        judge.requires_grad_(True)
        with torch.no_grad(), self._autocast(clip):
            made, _ = self.vqvae(clip, self.stepper.step < self.training.full_from)
        made = made.float()
        loss = judging_loss(judge(as_one_image(clip.frames)), judge(as_one_image(made)))
        gradient = self.stepper.update(loss)
        return {"judging": float(loss.detach()), "loss": float(loss.detach()), "gradient": gradient}

    def _autocast(self, clip: Clip) -> torch.autocast:
        kind = clip.frames.device.type
        return torch.autocast(kind, torch.bfloat16, enabled=self.training.has_bf16)

    def save(self, path: Path) -> None:
        """All that is needed to go on exactly."""
        self.stepper.save(path)

    def resume(self, path: Path) -> None:
        """Go on from `save`. ValueError for a file that does not fit."""
        self.stepper.resume(path)
