"""Learning step by step: AdamW, a warm start, clipped gradients, an average of the weights, resume.

Sources: AdamW, Loshchilov and Hutter, ICLR 2019 (arXiv:1711.05101); the average of weights as in
Ho et al., DDPM (arXiv:2006.11239), appendix B. Inferred, ours: the average forgets faster at first,
min(decay, (1 + step) / (10 + step)), so that short runs are not held back by their first weights.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import msgspec
import safetensors
import safetensors.torch
import torch
from torch import nn

from operators.nn.blocks.noise import keyed_generator
from operators.nn.vlm.compact_file import write_whole
from operators.nn.vlm.schedule import warm_cosine

_KEY = "frameloom.stepper"
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")
Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class StepperConfig:
    """How to step. ValueError for what cannot be."""

    steps: int  # the last one ends the cosine; a constant rate may go on
    learning_rate: float = 2e-4
    warm_steps: int = 0
    cosine: bool = False  # down to nothing at `steps`, else constant
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    gradient_norm: float = 1.0
    average: float = 0.9999  # decay of the averaged weights
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or not 0 <= self.warm_steps <= self.steps or self.gradient_norm <= 0:
            raise ValueError(f"steps, warm_steps or gradient_norm out of range: {self}")
        if not (0 < self.learning_rate < 1 and 0 <= self.weight_decay < 1):
            raise ValueError(f"learning_rate or weight_decay out of range: {self}")
        if not all(0 <= share < 1 for share in (*self.betas, self.average)):
            raise ValueError(f"betas or average out of range: {self}")


class Stepper(Generic[Model]):
    """A model, its optimiser, its averaged twin, and the number of the next step."""

    def __init__(self, model: Model, config: StepperConfig, fingerprint: str = "") -> None:
        """`fingerprint` tells data and settings: no state of another run is gone on from."""
        self.model, self.config, self._fingerprint = model, config, fingerprint
        self.averaged = copy.deepcopy(model).eval().requires_grad_(False)
        self.step = 0
        self._learned = {
            name: weight for name, weight in model.named_parameters() if weight.requires_grad
        }
        self._adam = torch.optim.AdamW(
            self._learned.values(),
            lr=config.learning_rate,
            betas=config.betas,
            weight_decay=config.weight_decay,
            fused=True,
        )

    def generator(self, *key: int) -> torch.Generator:
        """All chance of this step comes from here, so that a resumed run goes on exactly."""
        return keyed_generator(self.config.seed, self.step, *key)

    def rate(self) -> float:
        """The learning rate of the next step."""
        config = self.config
        if config.cosine:
            return config.learning_rate * warm_cosine(self.step, config.steps, config.warm_steps)
        return config.learning_rate * min(1.0, (self.step + 1) / max(config.warm_steps, 1))

    def update(self, loss: torch.Tensor) -> float:
        """Go down on a scalar; the gradient's norm. FloatingPointError if either is not finite."""
        self._adam.param_groups[0]["lr"] = self.rate()
        self._adam.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        norm = float(nn.utils.clip_grad_norm_(self._learned.values(), self.config.gradient_norm))
        if not (math.isfinite(norm) and math.isfinite(float(loss.detach()))):
            raise FloatingPointError(
                f"loss {float(loss.detach())}, gradient {norm} at step {self.step}"
            )
        self._adam.step()
        self._average()
        self.step += 1
        return norm

    @torch.no_grad()
    def _average(self) -> None:
        share = min(self.config.average, (1 + self.step) / (10 + self.step))
        own = [weight.detach() for weight in self._learned.values()]
        twins = dict(self.averaged.named_parameters())
        torch._foreach_lerp_([twins[name] for name in self._learned], own, 1 - share)
        for twin, buffer in zip(self.averaged.buffers(), self.model.buffers(), strict=True):
            twin.copy_(buffer)  # statistics are averages already

    def save(self, path: Path) -> None:
        """All that is needed to go on exactly, whole or not at all."""
        tensors = {name: value.detach().contiguous() for name, value in self._tensors()}
        told = {"step": self.step, "fingerprint": self._fingerprint}
        text = msgspec.json.encode(told).decode()
        write_whole(path, safetensors.torch.save(tensors, {_KEY: text}))

    def resume(self, path: Path) -> None:
        """Go on from `save`. ValueError if the file is damaged, or of another run or model."""
        told, tensors = _read(path)
        if told.fingerprint != self._fingerprint:
            raise ValueError(f"{path.name} belongs to other data or settings")
        self._adam.state.clear()
        for name, weight in self._learned.items():
            if f"adam.step.{name}" in tensors:  # not yet, where its part of the model has not begun
                self._adam.state[weight] = {
                    "step": torch.zeros((), device=weight.device),
                    "exp_avg": torch.zeros_like(weight),
                    "exp_avg_sq": torch.zeros_like(weight),
                }
        wanted = dict(self._tensors())
        if wanted.keys() != tensors.keys() or any(
            wanted[name].shape != tensors[name].shape for name in wanted
        ):
            raise ValueError(f"{path.name} belongs to another model")
        with torch.no_grad():
            for name, value in wanted.items():
                value.copy_(tensors[name])
        self.step = told.step

    def _tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        for name, value in self.model.state_dict().items():
            yield f"weight.{name}", value
        for name, value in self.averaged.state_dict().items():
            yield f"average.{name}", value
        for name, weight in self._learned.items():
            for kind in _MOMENTS:
                if kind in self._adam.state.get(weight, {}):
                    yield f"adam.{kind}.{name}", self._adam.state[weight][kind]


class _Told(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    step: int
    fingerprint: str


def _read(path: Path) -> tuple[_Told, dict[str, torch.Tensor]]:
    try:
        with safetensors.safe_open(path, "pt") as file:
            told = msgspec.json.decode((file.metadata() or {}).get(_KEY, ""), type=_Told)
            return told, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, msgspec.DecodeError) as error:
        raise ValueError(f"{path.name} is no whole training state: {error}") from error
