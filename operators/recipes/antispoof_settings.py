"""What may be set when unknown-spoof prompts are trained, and what each config sets."""

from __future__ import annotations

import os
from dataclasses import fields

import msgspec

from engine.recipe import RecipeError
from operators.nn.prompts.training import OptimiserConfig
from operators.nn.spoof_prompts.losses import Independence
from operators.nn.spoof_prompts.model import SpoofConfig, Suffix


class AntispoofSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What may be set with `--set`. A weight of 0 leaves a term out: the ablations."""

    domain: str = ""  # learned from; empty: the one with most training people
    backbone: str = ""  # compact model or folder of a CLIP; empty: the one that comes along
    development: tuple[str, ...] = ()  # subjects; empty: as the backbone had it, or by the names
    test: tuple[str, ...] = ()
    faces_per_file: int = 12
    pictures: int = 1500  # bona fide captures for training
    calibration: int = 600  # of development people, for threshold and calibration
    tests: int = 1600  # of test people, two fifths of them bona fide
    bpcer: float = 0.01  # that the stored threshold asks for
    steps: int = 600
    learning_rate: float = 1e-3
    spoof_prompts: int = 6  # K
    context: int = 8  # M
    context_noise: float = 0.02
    suffix: Suffix = "class"
    con: float = 1.0
    mar: float = 1.0
    pri: float = 1.0
    div: float = 1.0
    oc: float = 0.5
    views: float = 0.0  # above 0, each face is rendered twice, and both must score alike
    margin: float = 0.05
    tau: float = 0.8
    independence: Independence = "centred"
    batch: int = 0  # real faces per step; 0: all
    seed: int = 0
    sweep: bool = False  # K = 1, 2, 4, 8, 16 and each ablation, into ablations.json
    seeds: int = 3  # of the sweep
    tell_tales: bool = False  # also judge other seeds, encodings and kernels: renders twice more
    draws: int = 1000  # of the bootstrap
    processes: int = 0  # that render; 0: one per core

    def prompts(self) -> SpoofConfig:
        """RecipeError for what cannot be."""
        names = [field.name for field in fields(SpoofConfig)]
        try:
            return SpoofConfig(**{name: getattr(self, name) for name in names})
        except ValueError as error:
            raise RecipeError(f"--set: {error}") from error

    def optimiser(self) -> OptimiserConfig:
        """RecipeError for what cannot be."""
        try:
            return OptimiserConfig(
                steps=self.steps,
                learning_rate=self.learning_rate,
                warm_steps=self.steps // 20,
            )
        except ValueError as error:
            raise RecipeError(f"--set: {error}") from error

    def workers(self) -> int:
        """Processes that render."""
        return self.processes or len(os.sched_getaffinity(0))


DEFAULTS = {
    "compact": AntispoofSettings(),
    "paper": AntispoofSettings(spoof_prompts=8, context=16, batch=32),
}
