"""Intervals by resampling identities, not frames (cluster bootstrap, percentile form).

Frames and clips of one person are alike, so resampling rows would give intervals far too narrow
(`DESIGN.md` ruling 23: intervals over identities). Each draw takes as many identities as there are,
with replacement, each with all its rows. A draw in which a figure is not defined (no attack left)
counts as undefined for that figure and is left out; the count is part of the result. A figure that
is 0 or 1 in every draw gets an interval of no width: read the 3/n bound there instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from operators.nn.pad.errors import EvaluationError
from operators.nn.pad.metrics import Floats, Presentations, Sweep, Sweeper

Statistic = Callable[[Sweep], float]

FEWEST_IDENTITIES = 2
LARGEST_UNDEFINED = 0.5  # share of draws; beyond it an interval would describe a selection


@dataclass(frozen=True)
class BootstrapConfig:
    """draws: resamples; level: coverage, 0.95 = 2.5 to 97.5 %; seed: the same figures again."""

    draws: int = 1000
    level: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise EvaluationError(f"bootstrap draws must be at least 1, got {self.draws}")
        if not 0 < self.level < 1:
            raise EvaluationError(f"bootstrap level must lie in (0, 1), got {self.level}")


@dataclass(frozen=True)
class Interval:
    """Percentile interval [low, high]; `undefined` of the draws had no value."""

    low: float
    high: float
    undefined: int


def intervals(
    data: Presentations, statistics: Mapping[str, Statistic], config: BootstrapConfig
) -> dict[str, Interval | None]:
    """One interval per statistic from common draws; None where most draws had no value.

    Raises EvaluationError with fewer than two identities. The order of rows does not matter.
    """
    names, member = np.unique(data.identity, return_inverse=True)
    if len(names) < FEWEST_IDENTITIES:
        raise EvaluationError(f"an interval over identities needs two or more, got {len(names)}")
    rng = np.random.default_rng(config.seed)
    sweeper = Sweeper(data)
    values = {name: np.full(config.draws, np.nan) for name in statistics}
    for draw in range(config.draws):
        times = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))
        counts = sweeper(times.astype(np.float64)[member])
        for name, statistic in statistics.items():
            values[name][draw] = _value(statistic, counts)
    return {name: _interval(drawn, config.level) for name, drawn in values.items()}


def _value(statistic: Statistic, counts: Sweep) -> float:
    """NaN where the draw holds too little for the figure (one class only)."""
    try:
        return statistic(counts)
    except EvaluationError:
        return float("nan")


def _interval(drawn: Floats, level: float) -> Interval | None:
    defined = drawn[~np.isnan(drawn)]
    undefined = len(drawn) - len(defined)
    if undefined > LARGEST_UNDEFINED * len(drawn):
        return None
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), undefined)
