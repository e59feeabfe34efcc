"""Train the heads of the compact model: captions and images that tell the same come together.

Both towers are frozen (LiT, arXiv:2111.07991, with the image side locked too), so their features
are computed once and a step is a few small matrix products. AdamW (Loshchilov and Hutter, ICLR
2019, arXiv:1711.05101), cosine schedule, gradient norm held at 1.

    L = L_con(pooled, text) + w L_con(mean patch, text)

The second term is ours, inferred: it puts patches where text is, which patch removal guided by text
(section 3.2 of the method notes) takes for granted and a convolutional tower does not give.

All chance of a step comes from (seed, step), so a run that was interrupted goes on exactly.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import safetensors
import safetensors.torch
import torch

from operators.nn.vlm.align_data import AlignData, AlignSampler, step_rng
from operators.nn.vlm.compact import MAX_LOG_SCALE, CompactHeads, Standardise
from operators.nn.vlm.compact_file import write_whole
from operators.nn.vlm.contrastive import contrastive_loss
from operators.nn.vlm.retrieval import Retrieval, retrieval
from operators.nn.vlm.schedule import warm_cosine

_MOMENTS = ("exp_avg", "exp_avg_sq", "step")
_KEY = "frameloom.align"


@dataclass(frozen=True)
class AlignConfig:
    """How to train. ValueError for what cannot be."""

    steps: int = 2000
    batch: int = 256  # images per step
    captions_per_class: int = 4
    learning_rate: float = 1e-3
    weight_decay: float = 0.05  # of matrices; biases and the scale are left alone
    warm_share: float = 0.05  # of the steps, on which the rate rises
    noise: float = 0.2  # added to image features, in their own standard deviations
    patch_weight: float = 0.5  # w
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.steps, self.batch, self.captions_per_class) < 1:
            raise ValueError(f"steps, batch and captions_per_class start at 1: {self}")
        rates = (self.learning_rate, self.weight_decay, self.noise, self.patch_weight)
        if min(rates) < 0 or not 0 <= self.warm_share <= 1:
            raise ValueError(f"rates and weights are not negative, warm_share is a share: {self}")


class AlignProgress(NamedTuple):
    """What the caller hears while training goes on."""

    step: int  # steps done
    steps: int  # of so many
    loss: float  # of the last step
    scale: float  # s
    held_out: Retrieval | None  # when there is held-out data


@dataclass
class AlignRun:
    """How far `AlignTrainer.run` may go, and whom it tells."""

    state_path: Path | None = None  # where to keep what is needed to go on
    held_out: AlignData | None = None
    time_limit_s: float = math.inf
    every_steps: int = 100  # progress, measurement and state
    progress: Callable[[AlignProgress], None] | None = None
    clock_s: Callable[[], float] = time.monotonic


class AlignTrainer:
    """Heads, optimiser and place in the schedule."""

    def __init__(self, heads: CompactHeads, data: AlignData, config: AlignConfig) -> None:
        """Fits the heads' standards to `data` at once."""
        self.heads, self.data, self.config = heads, data, config
        self.step = 0
        self._sampler = AlignSampler(data, config.batch, config.captions_per_class)
        self._names = dict(heads.named_parameters())
        heads.fit_standards(data.pooled, data.local, data.sentences)
        groups: list[dict[str, Any]] = [
            {"params": [p for p in self._names.values() if p.ndim >= 2]},
            {"params": [p for p in self._names.values() if p.ndim < 2], "weight_decay": 0.0},
        ]
        self._adam = torch.optim.AdamW(
            groups, lr=config.learning_rate, weight_decay=config.weight_decay
        )
        told = msgspec.json.encode([asdict(config), asdict(heads.config), data.fingerprint()])
        self._fingerprint = hashlib.sha256(told).hexdigest()

    def run(self, how: AlignRun | None = None) -> bool:
        """Train to the last step, or until the time is up; True if it was the last step.

        If `state_path` exists, training goes on from it. FloatingPointError if the loss is not
        finite any more.
        """
        how = how or AlignRun()
        if how.state_path and how.state_path.exists():
            self.resume(how.state_path)
        end_s = how.clock_s() + how.time_limit_s
        while self.step < self.config.steps and how.clock_s() < end_s:
            loss = self.advance()
            if self.step % how.every_steps == 0 or self.step == self.config.steps:
                self._tell(how, loss)
        if how.state_path:
            self.save(how.state_path)
        return self.step >= self.config.steps

    def advance(self) -> float:
        """One step; its loss."""
        config = self.config
        warm = round(config.warm_share * config.steps)
        rate = config.learning_rate * warm_cosine(self.step, config.steps, warm)
        for group in self._adam.param_groups:
            group["lr"] = rate
        loss = self._loss(step_rng(config.seed, self.step))
        value = float(loss.detach())
        if not math.isfinite(value):
            raise FloatingPointError(f"the loss is {value} at step {self.step}")
        self._adam.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self._names.values(), 1.0)
        self._adam.step()
        with torch.no_grad():
            self.heads.log_scale.clamp_(max=MAX_LOG_SCALE)
        self.step += 1
        return value

    def save(self, path: Path) -> None:
        """All that is needed to go on exactly, whole or not at all."""
        tensors = {f"heads.{name}": value for name, value in self.heads.state_dict().items()}
        for name, weight in self._names.items():
            for kind, value in self._adam.state.get(weight, {}).items():
                tensors[f"adam.{kind}.{name}"] = value
        told = {"step": self.step, "fingerprint": self._fingerprint}
        text = msgspec.json.encode(told).decode()
        write_whole(path, safetensors.torch.save(tensors, {_KEY: text}))

    def resume(self, path: Path) -> None:
        """Go on from `save`. ValueError if it is damaged, or of other data or another config."""
        try:
            with safetensors.safe_open(path, "pt") as file:
                told = msgspec.json.decode((file.metadata() or {}).get(_KEY, "{}"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except safetensors.SafetensorError as error:
            raise ValueError(f"{path.name} is no whole state: {error}") from error
        if told.get("fingerprint") != self._fingerprint:
            raise ValueError(f"{path.name} belongs to other data, sizes or settings")
        prefix = "heads."
        self.heads.load_state_dict(
            {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}
        )
        for name, weight in self._names.items():
            moments = {k: tensors[f"adam.{k}.{name}"] for k in _MOMENTS if told["step"] > 0}
            if moments:
                self._adam.state[weight] = moments
        self.step = int(told["step"])

    def _loss(self, rng: np.random.Generator) -> torch.Tensor:
        heads, config = self.heads, self.config
        batch = self._sampler.draw(rng)
        text, scale = heads.text(batch.sentences), heads.scale()
        pooled = heads.pooled(_noisy(batch.pooled, heads.pooled[0], config.noise, rng))
        patch = heads.patch(_noisy(batch.local, heads.patch[0], config.noise, rng))
        return contrastive_loss(pooled, text, batch.fits, scale) + (
            config.patch_weight * contrastive_loss(patch, text, batch.fits, scale)
        )

    def _tell(self, how: AlignRun, loss: float) -> None:
        if how.state_path:
            self.save(how.state_path)
        if how.progress is None:
            return
        found = retrieval(self.heads, how.held_out) if how.held_out else None
        scale = float(self.heads.scale().detach())
        how.progress(AlignProgress(self.step, self.config.steps, loss, scale, found))


def _noisy(
    features: torch.Tensor, standard: torch.nn.Module, noise: float, rng: np.random.Generator
) -> torch.Tensor:
    """Features with noise of so many standard deviations, against learning identities by heart."""
    assert isinstance(standard, Standardise)
    drawn = torch.from_numpy(rng.standard_normal(features.shape, dtype=np.float32))
    return features + noise * standard.deviation * drawn
