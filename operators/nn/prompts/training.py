"""The loop that learns prompts: AdamW, a warm cosine, state to go on from, a limit in time.

AdamW: Loshchilov and Hutter, ICLR 2019 (arXiv:1711.05101). What is learned and by which loss is the
caller's; a step's chance must come from its number, so that a run that was interrupted goes on
exactly.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import safetensors
import safetensors.torch
import torch
from torch import nn

from operators.nn.vlm.compact_file import write_whole
from operators.nn.vlm.schedule import warm_cosine

_KEY = "frameloom.prompt_training"
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


@dataclass(frozen=True)
class OptimiserConfig:
    """How to step. ValueError for what cannot be."""

    steps: int = 600
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warm_steps: int = 30
    gradient_norm: float = 1.0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.warm_steps < 0 or self.gradient_norm <= 0:
            raise ValueError(f"steps, warm_steps or gradient_norm out of range: {self}")
        if not (0 < self.learning_rate < 1 and 0 <= self.weight_decay < 1):
            raise ValueError(f"learning_rate or weight_decay out of range: {self}")


def _silent(step: int, steps: int) -> None:
    """Nobody watches."""


@dataclass
class RunLimits:
    """How far a run may go, and whom it tells."""

    state_path: Path | None = None  # where to keep what is needed to go on
    time_limit_s: float = math.inf
    stop: threading.Event = field(default_factory=threading.Event)
    progress: Callable[[int, int], None] = _silent  # steps done, of so many
    every_steps: int = 50  # progress and state
    clock_s: Callable[[], float] = time.monotonic


class StepTrainer:
    """Parameters, their optimiser, and the place in the schedule."""

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        loss_of: Callable[[int], torch.Tensor],
        config: OptimiserConfig,
        fingerprint: str,
    ) -> None:
        """`loss_of(step)` gives the scalar to go down on; `fingerprint` tells data and settings,
        so that no state of another run is gone on from.
        """
        self.step = 0
        self.losses: list[float] = []
        self._parameters = dict(parameters)
        self._loss_of, self._config, self._fingerprint = loss_of, config, fingerprint
        self._adam = torch.optim.AdamW(
            list(self._parameters.values()),
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
        )

    def run(self, limits: RunLimits | None = None) -> bool:
        """Train to the last step, or until time is up or it is told to stop; True at the last step.

        If the state file exists, training goes on from it. FloatingPointError for a loss that is
        not finite, ValueError for a state of another run.
        """
        limits = limits or RunLimits()
        if limits.state_path and limits.state_path.exists():
            self.resume(limits.state_path)
        end_s = limits.clock_s() + limits.time_limit_s
        steps = self._config.steps
        while self.step < steps and limits.clock_s() < end_s and not limits.stop.is_set():
            self.advance()
            if self.step % limits.every_steps == 0 or self.step == steps:
                limits.progress(self.step, steps)
                if limits.state_path:
                    self.save(limits.state_path)
        if limits.state_path:
            self.save(limits.state_path)
        return self.step >= steps

    def advance(self) -> float:
        """One step; its loss."""
        config = self._config
        rate = config.learning_rate * warm_cosine(self.step, config.steps, config.warm_steps)
        for group in self._adam.param_groups:
            group["lr"] = rate
        loss = self._loss_of(self.step)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise FloatingPointError(f"the loss is {value} at step {self.step}")
        self._adam.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self._parameters.values(), config.gradient_norm)
        self._adam.step()
        self.step += 1
        self.losses.append(value)
        return value

    def save(self, path: Path) -> None:
        """All that is needed to go on exactly, whole or not at all."""
        tensors = {f"weight.{name}": value.detach() for name, value in self._parameters.items()}
        for name, weight in self._parameters.items():
            for kind, value in self._adam.state.get(weight, {}).items():
                tensors[f"adam.{kind}.{name}"] = value
        tensors = {name: value.contiguous() for name, value in tensors.items()}
        told = {"step": self.step, "fingerprint": self._fingerprint}
        text = msgspec.json.encode(told).decode()
        write_whole(path, safetensors.torch.save(tensors, {_KEY: text}))

    def resume(self, path: Path) -> None:
        """Go on from `save`. ValueError if it is damaged, or of another run."""
        try:
            with safetensors.safe_open(path, "pt") as file:
                told = msgspec.json.decode((file.metadata() or {}).get(_KEY, "{}"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except safetensors.SafetensorError as error:
            raise ValueError(f"{path.name} is no whole state: {error}") from error
        if told.get("fingerprint") != self._fingerprint:
            raise ValueError(f"{path.name} belongs to other data or settings")
        for name, weight in self._parameters.items():
            with torch.no_grad():
                weight.copy_(tensors[f"weight.{name}"])
            if told["step"] > 0:
                self._adam.state[weight] = {k: tensors[f"adam.{k}.{name}"] for k in _MOMENTS}
        self.step = int(told["step"])
