"""Ranges of physical parameters, cut into parts that train, development and test never share.

A range is cut into twelve equal cells (in its own scale). Eight belong to train, two to
development, two to test, and each split's cells lie evenly about the middle. Between cells lies a
gap, so that no value can belong to two splits, also after rounding. Inferred, ours: the method asks
for held-out parameters, not how to hold them out. Held out are values inside the ranges and, in the
mean, its middle: with the ends of some twenty ranges held out at once, or cells that lean to one
side, every test picture would be blurred, small or dim in all respects at once, and that would be
measured instead of the attack.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeVar, get_args

import numpy as np

Split = Literal["train", "development", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
CELLS = 12
CELLS_OF: Mapping[Split, tuple[int, ...]] = {
    "train": (0, 2, 4, 5, 6, 7, 9, 11),
    "development": (1, 10),
    "test": (3, 8),
}
GAP = 0.15  # of a cell, at each of its ends
T = TypeVar("T")


@dataclass(frozen=True)
class Range:
    """Values from `low` to `high` in `unit`; `source` names the physics or handbook behind them.

    `log` spreads them evenly over ratios. Without `held_out` every split draws from the whole
    range: for what says nothing about the kind of capture. `whole` rounds to integers; cells must
    then be wide enough (ValueError).
    """

    low: float
    high: float
    unit: str
    source: str
    log: bool = False
    held_out: bool = True
    whole: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"no range: {self.low} to {self.high}, log={self.log}")
        if self.whole and self.held_out and 2 * GAP * (self.high - self.low) / CELLS <= 1:
            raise ValueError(f"{self.low} to {self.high} is too narrow to be split in integers")

    def parts(self, split: Split) -> tuple[tuple[float, float], ...]:
        """The intervals that belong to `split`, in `unit`. ValueError for an unknown split."""
        if split not in SPLITS:
            raise ValueError(f"split {split!r}: one of {SPLITS} is needed")
        if not self.held_out:
            return ((self.low, self.high),)
        cells = [(cell + GAP, cell + 1 - GAP) for cell in CELLS_OF[split]]
        return tuple((self._at(low / CELLS), self._at(high / CELLS)) for low, high in cells)

    def draw(self, rng: np.random.Generator, split: Split) -> float:
        """One value of `split`, even over its intervals."""
        parts = self.parts(split)
        low, high = parts[int(rng.integers(len(parts)))]
        share = rng.random()
        value = low * (high / low) ** share if self.log else low + (high - low) * share
        return round(value) if self.whole else float(value)

    def _at(self, share: float) -> float:
        if self.log:
            return float(self.low * (self.high / self.low) ** share)
        return self.low + (self.high - self.low) * share


@dataclass(frozen=True)
class Choice:
    """One of some values, each as likely as it is often named. The same in every split."""

    values: tuple[Any, ...]
    source: str

    def draw(self, rng: np.random.Generator, split: Split) -> Any:
        """One of the values."""
        return self.values[int(rng.integers(len(self.values)))]


Drawn = Range | Choice


def drawn(spread: Drawn) -> Any:
    """A dataclass field whose value `draw` takes from `spread`."""
    return field(metadata={"drawn": spread})


def spreads(kind: type[Any], narrowed: Mapping[str, Drawn] | None = None) -> dict[str, Drawn]:
    """Each field of a parameter class with what it is drawn from; `narrowed` replaces some.

    ValueError if `narrowed` names a field that there is not.
    """
    known = {item.name: item.metadata["drawn"] for item in fields(kind) if "drawn" in item.metadata}
    unknown = set(narrowed or {}) - set(known)
    if unknown:
        raise ValueError(f"{kind.__name__} has no {sorted(unknown)}")
    return {**known, **(narrowed or {})}


def draw(
    kind: type[T],
    rng: np.random.Generator,
    split: Split,
    narrowed: Mapping[str, Drawn] | None = None,
    **fixed: Any,
) -> T:
    """An instance of a parameter class, its drawn fields in their order, others from `fixed`."""
    values = {name: item.draw(rng, split) for name, item in spreads(kind, narrowed).items()}
    return kind(**{**values, **fixed})
