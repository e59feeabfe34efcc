"""How MOSO-Transformer learns: hidden tokens of whole clips, and true clips from pseudo ones.

Source: method notes, MOSO 2d (arXiv:2303.03684). Unconditional: one rate gamma(u) hides tokens of
scene, object and every frame's motion apart; the loss is the mean of the three cross-entropies over
hidden tokens. Prediction: scene and object of the pseudo clip go in whole, those of the true clip
are the targets; tokens that differ and tokens that do not are averaged apart and weighed 5 and 1.
Then scene and object are drawn from the logits and give the guidance, and the motion of the T - K
frames behind the given ones is learned as before. `noise` replaces a share of what goes in.

Inferred: one rate for each clip; while learning unconditionally, guidance comes from the true scene
and object, since in generation both are whole by then; the motion tokens of given frames are those
of the pseudo clip, which never look past the last given frame; a set without members counts 0;
"_noise" models are known by their name alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch.nn import functional

from operators.nn.blocks.masking import hide, pick, training_counts, training_rates
from operators.nn.blocks.stepper import Stepper, StepperConfig
from operators.nn.moso.tokens import ClipTokens
from operators.nn.moso.transformer import Content, Transformer

Losses = dict[str, torch.Tensor]  # "scene", "object" and "motion", scalars


class Objective(Protocol):
    """What a batch is learned by."""

    def __call__(
        self,
        transformer: Transformer,
        true: ClipTokens,
        pseudo: ClipTokens | None,
        generator: torch.Generator,
    ) -> Losses:
        """`pseudo`: None where the objective needs none. All chance comes from `generator`."""


class UnconditionalLoss:
    """Hidden tokens of the true clip; a pseudo clip is not needed."""

    def __call__(
        self,
        transformer: Transformer,
        true: ClipTokens,
        pseudo: ClipTokens | None,
        generator: torch.Generator,
    ) -> Losses:
        """As `Objective` says."""
        rates = training_rates(len(true.scene), generator)
        hidden = [_hidden(part, rates, generator) for part in true]
        scene, own, motion = (
            part.masked_fill(mask, transformer.vocabulary.mask)
            for part, mask in zip(true, hidden, strict=True)
        )
        logits = transformer.content_logits(transformer.content(scene, own, generator))
        guide = transformer.content(true.scene, true.object, generator)
        moved = transformer.continue_motion(
            transformer.begin_motion(guide, None, generator), motion, generator
        )
        told = [
            functional.cross_entropy(ours[mask], part[mask])
            for ours, part, mask in zip((*logits, moved), true, hidden, strict=True)
        ]
        return dict(zip(ClipTokens._fields, told, strict=True))


@dataclass(frozen=True)
class PredictionLoss:
    """The true clip from the pseudo one, which shares K frames with it."""

    noise: float = 0.0  # share of scene and object tokens replaced by any codes; published: 0.1
    changed: float = 5.0  # weight of tokens that differ between the two clips
    same: float = 1.0  # and of those that do not
    apart: bool = True  # a mean over each of the two sets; False: one over all tokens, weighed

    def __post_init__(self) -> None:
        if not 0 <= self.noise <= 1 or not (self.changed > 0 and self.same > 0):
            raise ValueError(f"noise or weights out of range: {self}")

    def __call__(
        self,
        transformer: Transformer,
        true: ClipTokens,
        pseudo: ClipTokens | None,
        generator: torch.Generator,
    ) -> Losses:
        """As `Objective` says. ValueError without given frames, or without their pseudo clip."""
        known = transformer.config.layout.condition
        if known < 1 or pseudo is None:
            raise ValueError("no given frames, or no pseudo clip, to predict from")
        codes = transformer.vocabulary.codes
        entered = [replaced(part, self.noise, codes, generator) for part in pseudo[:2]]
        content = transformer.content(entered[0], entered[1], generator)
        logits = transformer.content_logits(content)
        guide = self._guide(transformer, logits, generator)
        given, rest = pseudo.motion[:, :known], true.motion[:, known:]
        hidden = _hidden(rest, training_rates(len(rest), generator), generator)
        state = transformer.begin_motion(guide, given, generator)
        masked = rest.masked_fill(hidden, transformer.vocabulary.mask)
        moved = transformer.continue_motion(state, masked, generator)
        return {
            "scene": self._parted(logits[0], true.scene, pseudo.scene),
            "object": self._parted(logits[1], true.object, pseudo.object),
            "motion": functional.cross_entropy(moved[hidden], rest[hidden]),
        }

    def _guide(
        self,
        transformer: Transformer,
        logits: tuple[torch.Tensor, torch.Tensor],
        generator: torch.Generator,
    ) -> Content:
        """Of drawn tokens; no gradient goes back through the draw."""
        drawn = [
            pick(
                part.detach()[..., : transformer.vocabulary.codes],
                torch.rand(part.shape[:-1], generator=generator),
            )
            for part in logits
        ]
        return transformer.content(drawn[0], drawn[1], generator)

    def _parted(
        self, logits: torch.Tensor, true: torch.Tensor, pseudo: torch.Tensor
    ) -> torch.Tensor:
        each = functional.cross_entropy(logits.transpose(1, 2), true, reduction="none")
        differs = true != pseudo
        if not self.apart:
            weight = torch.where(differs, self.changed, self.same)
            return (weight * each).sum() / weight.sum()
        sets = ((self.changed, differs), (self.same, ~differs))
        return torch.stack([w * each[own].mean() for w, own in sets if bool(own.any())]).sum()


def replaced(
    tokens: torch.Tensor, share: float, codes: int, generator: torch.Generator
) -> torch.Tensor:
    """Each token with probability `share` any of 0..codes-1."""
    if share == 0:
        return tokens
    chosen = torch.rand(tokens.shape, generator=generator) < share
    anything = torch.randint(codes, tokens.shape, generator=generator)
    return torch.where(chosen.to(tokens.device), anything.to(tokens.device), tokens)


def _hidden(part: torch.Tensor, rates: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Where tokens [B, ..., L] are hidden: the clip's count in each row, at places of its own."""
    counts = training_counts(rates, part.shape[-1])
    counts = counts.view(-1, *[1] * (part.ndim - 2))
    return hide(part.shape, counts, generator).to(part.device)


class TransformerTrainer:
    """On tokens that a frozen MOSO-VQVAE made. `averaged` is what generates."""

    def __init__(
        self,
        transformer: Transformer,
        objective: Objective,
        config: StepperConfig,
        fingerprint: str = "",
    ) -> None:
        self.transformer, self.objective = transformer, objective
        self.stepper = Stepper(transformer, config, fingerprint)

    @property
    def averaged(self) -> Transformer:
        """The averaged weights, frozen."""
        return self.stepper.averaged

    def step(self, true: ClipTokens, pseudo: ClipTokens | None = None) -> dict[str, float]:
        """One step on a batch of clips; the loss, its parts and the gradient's norm."""
        parts = self.objective(self.transformer, true, pseudo, self.stepper.generator())
        loss = torch.stack(list(parts.values())).mean()
        gradient = self.stepper.update(loss)
        told = {name: float(value.detach()) for name, value in parts.items()}
        return told | {"loss": float(loss.detach()), "gradient": gradient}

    def save(self, path: Path) -> None:
        """All that is needed to go on exactly."""
        self.stepper.save(path)

    def resume(self, path: Path) -> None:
        """Go on from `save`. ValueError for a file that does not fit."""
        self.stepper.resume(path)
