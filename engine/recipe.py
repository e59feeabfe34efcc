"""What `frameloom train`, `eval` and `calibrate` ask of a recipe. Installed packages offer them.

A recipe knows how one published system is trained on a folder of media and judged on another.
The engine knows no system: it finds recipes by their entry point and gives them a `Job`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

from engine.convert import nearest
from engine.errors import EngineError

GROUP = "frameloom.recipes"


class RecipeError(EngineError):
    """Data, settings or a checkpoint with which the recipe cannot work; says what to do."""


def _silent(what: str, done: int, of: int) -> None:
    """Nobody watches."""


@dataclass
class Job:
    """One call of a recipe."""

    data: Path | None  # folder of media; None: what the recipe can make or finds installed
    out: Path  # where checkpoints, reports and pictures go; it exists
    config: str = "compact"
    settings: Mapping[str, Any] = field(default_factory=dict)  # of the config, changed for this job
    time_limit_s: float = float("inf")
    tell: Callable[[str, int, int], None] = _silent  # what is done, how much of how much
    stop: threading.Event = field(default_factory=threading.Event)  # save, then return soon


@dataclass(frozen=True)
class Trained:
    """How far training came."""

    checkpoint: Path | None  # None: not finished, the next call with the same `out` goes on
    figures: Mapping[str, float]  # measured on held-out data, by name


class Recipe(Protocol):
    """How a system is trained and judged."""

    name: str
    about: str
    configs: tuple[str, ...]  # e.g. compact, paper

    def train(self, job: Job) -> Trained:
        """Train, or go on with what `job.out` holds. RecipeError for data that does not do."""

    def evaluate(self, job: Job, checkpoint: Path | None) -> Mapping[str, Any]:
        """Judge a checkpoint (None: the one that comes along); a report of plain data.

        Tables and pictures are written into `job.out`.
        """

    def calibrate(self, job: Job, checkpoint: Path | None) -> Mapping[str, Any]:
        """Fit thresholds to the user's own media, written into `job.out`; what was found."""

    def due(self) -> str | None:
        """Why the checkpoint that comes along should be trained again; None when it is good."""


def recipes() -> dict[str, Recipe]:
    """Every installed recipe by its name."""
    found: dict[str, Recipe] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        found[entry.name] = entry.load()
    return found


def recipe_named(name: str) -> Recipe:
    """RecipeError names those that there are."""
    found = recipes()
    if name not in found:
        raise RecipeError(f"there is no recipe '{name}' ({nearest(name, found)})")
    return found[name]
