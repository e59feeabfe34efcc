"""Error rates of presentation attack detection, as ISO/IEC 30107-3 names them.

One orientation everywhere: a **higher score means more bona fide**, and a presentation is
classified bona fide when score >= threshold. APCER counts attacks classified bona fide, BPCER
counts bona fide presentations classified attack; public code mixes these up (method notes, 7.2),
so labels are taken as booleans named `is_live` only. Definitions: method notes, 7.1.

All rates are over presentations that gave a response; those that gave none are counted apart
(APNRR, BPNRR). Every figure is a function of a `Sweep`, which takes weights, so that a bootstrap
draw is the same code with other multiplicities.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from operators.nn.pad.errors import EvaluationError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Texts = NDArray[np.str_]

SAME = 1e-12  # shares of whole numbers that differ by less are equal
RULE_OF_THREE = 3.0  # -log(0.05): no error in n trials bounds the rate by 3/n at 95 %


@dataclass(frozen=True)
class Presentations:
    """Scored presentations, one row each.

    score: [N] float, higher = more bona fide; NaN = no response (nothing could be scored).
    is_live: [N] bool, True = bona fide.
    species: [N] text, the PAI species of an attack ("print", "mask_resin"); "" where live.
    identity: [N] text, the person; rows of one identity are resampled together.
    Raises EvaluationError for other shapes or dtypes, infinite scores, an attack without species.
    """

    score: Floats
    is_live: Bools
    species: Texts
    identity: Texts

    def __post_init__(self) -> None:
        columns = (self.score, self.is_live, self.species, self.identity)
        if any(column.shape != (len(self.score),) for column in columns):
            shapes = [column.shape for column in columns]
            raise EvaluationError(f"columns must be [N] of one length, got {shapes}")
        if self.is_live.dtype != np.bool_:
            raise EvaluationError(
                f"is_live must be bool, got {self.is_live.dtype}: whether 1 means live or spoof "
                "differs between data sets, so say it (label == the_live_label)"
            )
        if self.score.dtype != np.float64:
            raise EvaluationError(f"score must be float64, got {self.score.dtype}")
        if np.isinf(self.score).any():
            raise EvaluationError("a score is infinite; NaN marks a presentation without response")
        wrong = np.flatnonzero(self.is_live == (self.species != ""))
        if len(wrong):
            live, name = bool(self.is_live[wrong[0]]), str(self.species[wrong[0]])
            raise EvaluationError(
                f"row {wrong[0]}: an attack needs its species, a bona fide row must have none; "
                f"got is_live={live}, species={name!r}"
            )

    @property
    def responded(self) -> Bools:
        """[N] bool: the presentation has a score."""
        return ~np.isnan(self.score)


class Rate(NamedTuple):
    """A share with what it rests on."""

    value: float  # errors / n, in [0, 1]
    errors: float  # weighted count; whole numbers without weights
    n: float

    @property
    def upper_95(self) -> float | None:
        """Upper 95 % bound 3/n where no error was seen; None otherwise (see the interval)."""
        return min(1.0, RULE_OF_THREE / self.n) if self.errors == 0 else None


class Point(NamedTuple):
    """A figure and the threshold it belongs to."""

    value: float
    threshold: float


@dataclass(frozen=True)
class Sweep:
    """Accepted counts at every threshold that changes a decision.

    value: [U] the distinct scores, ascending. Cut u accepts values u, u+1, ...: cut 0 accepts all,
        cut U none.
    threshold: [U + 1] a finite threshold for each cut, between two values their middle.
    live: [U + 1] accepted bona fide, attack: [S, U + 1] accepted attacks by species.
    """

    value: Floats
    threshold: Floats
    live: Floats
    attack: Floats
    species: tuple[str, ...]

    @property
    def bpcer(self) -> Floats:
        """[U + 1] share of bona fide classified attack."""
        if not self.live[0] > 0:
            raise EvaluationError("no scored bona fide presentation: BPCER is not defined")
        rejected: Floats = 1.0 - self.live / self.live[0]
        return rejected

    @property
    def apcer(self) -> Floats:
        """[S, U + 1] share of each species classified bona fide; NaN for one without weight."""
        if not (self.attack[:, 0] > 0).any():
            raise EvaluationError("no scored attack presentation: APCER is not defined")
        total = self.attack[:, :1]
        return np.divide(self.attack, total, out=np.full_like(self.attack, np.nan), where=total > 0)

    @property
    def apcer_max(self) -> Floats:
        """[U + 1] that of the worst species."""
        worst: Floats = np.nanmax(self.apcer, axis=0)
        return worst

    @property
    def apcer_pooled(self) -> Floats:
        """[U + 1] share of all attacks, every presentation counting the same (FAR, FPR)."""
        accepted = self.attack.sum(axis=0)
        if not accepted[0] > 0:
            raise EvaluationError("no scored attack presentation: APCER is not defined")
        share: Floats = accepted / accepted[0]
        return share

    def cut(self, threshold: float) -> int:
        """The cut that decides as `score >= threshold` does, exactly."""
        if np.isnan(threshold):
            raise EvaluationError("the threshold is NaN")
        return int(np.searchsorted(self.value, threshold, side="left"))


class Sweeper:
    """Sorts once, then counts for any weights of the rows; the bootstrap calls it per draw."""

    def __init__(self, data: Presentations) -> None:
        self.rows: Ints = np.flatnonzero(data.responded)
        if not len(self.rows):
            raise EvaluationError("no presentation gave a response: nothing to measure")
        self.value, self._place = np.unique(data.score[self.rows], return_inverse=True)
        self.threshold = _cuts(self.value)
        self.species = tuple(str(name) for name in np.unique(data.species[~data.is_live]))
        names = ("", *self.species)
        self._group = np.searchsorted(np.array(names), data.species[self.rows])
        self._groups = len(names)

    def __call__(self, weight: Floats | None = None) -> Sweep:
        """`weight` [N]: how often each row counts (all rows, also those without response)."""
        cuts = len(self.threshold)
        counts = np.bincount(
            self._group * cuts + self._place,
            weights=None if weight is None else weight[self.rows],
            minlength=self._groups * cuts,
        ).reshape(self._groups, cuts)
        accepted = counts[:, ::-1].cumsum(axis=1)[:, ::-1].astype(np.float64)
        return Sweep(self.value, self.threshold, accepted[0], accepted[1:], self.species)


def sweep(data: Presentations) -> Sweep:
    """The counts of `data` as it is."""
    return Sweeper(data)()


def _cuts(values: Floats) -> Floats:
    """[U] distinct ascending -> [U + 1]: below all, between each two, above all."""
    middle = values[:-1] + (values[1:] - values[:-1]) / 2
    middle = np.where(middle > values[:-1], middle, values[1:])  # neighbours have no middle
    return np.concatenate([values[:1], middle, np.nextafter(values[-1:], np.inf)])


def auc(counts: Sweep) -> float:
    """Chance that a bona fide score is above an attack's, a tie counting half (Mann-Whitney U)."""
    bpcer, apcer = counts.bpcer, counts.apcer_pooled
    return float(np.sum((bpcer[1:] - bpcer[:-1]) * (apcer[1:] + apcer[:-1])) / -2.0) + 1.0


def eer(counts: Sweep) -> Point:
    """Where pooled APCER = BPCER, straight between the two cuts around it (D-EER).

    The threshold is that of the cut where the two differ less, of equals the safer (higher) one.
    """
    apcer, bpcer = counts.apcer_pooled, counts.bpcer
    gap = apcer - bpcer  # falls from 1 to -1
    above = int(np.flatnonzero(gap >= -SAME)[-1])
    below = min(above + 1, len(gap) - 1)
    share = max(gap[above], 0.0) / (gap[above] - gap[below])
    value = float(apcer[above] + share * (apcer[below] - apcer[above]))
    nearer = below if -gap[below] <= gap[above] + SAME else above
    return Point(value, float(counts.threshold[nearer]))


def bpcer_at_apcer(counts: Sweep, apcer: float) -> Point:
    """Least BPCER with the *worst species'* APCER <= `apcer` (BPCER10: 0.1; 0 = strict use)."""
    if not 0 <= apcer <= 1:
        raise EvaluationError(f"an APCER lies in [0, 1], got {apcer}")
    cut = int(np.flatnonzero(counts.apcer_max <= apcer + SAME)[0])
    return Point(float(counts.bpcer[cut]), float(counts.threshold[cut]))


def tpr_at_fpr(counts: Sweep, fpr: float) -> Point:
    """Most bona fide accepted while at most the share `fpr` of all attacks is."""
    if not 0 <= fpr <= 1:
        raise EvaluationError(f"an FPR lies in [0, 1], got {fpr}")
    cut = int(np.flatnonzero(counts.apcer_pooled <= fpr + SAME)[0])
    return Point(1.0 - float(counts.bpcer[cut]), float(counts.threshold[cut]))


def apcer_by_species(counts: Sweep, threshold: float) -> dict[str, Rate]:
    """Attacks classified bona fide at `threshold` by PAI species; one without weight is absent."""
    cut = counts.cut(threshold)
    if not (counts.attack[:, 0] > 0).any():
        raise EvaluationError("no scored attack presentation: APCER is not defined")
    return {
        name: Rate(float(row[cut] / row[0]), float(row[cut]), float(row[0]))
        for name, row in zip(counts.species, counts.attack, strict=True)
        if row[0] > 0
    }


def bpcer_rate(counts: Sweep, threshold: float) -> Rate:
    """Bona fide presentations classified attack at `threshold`."""
    value = float(counts.bpcer[counts.cut(threshold)])
    total = float(counts.live[0])
    return Rate(value, total - float(counts.live[counts.cut(threshold)]), total)


def hter(counts: Sweep, threshold: float) -> float:
    """(pooled APCER + BPCER) / 2; a result only where `threshold` was fixed on other data."""
    cut = counts.cut(threshold)
    return float(counts.apcer_pooled[cut] + counts.bpcer[cut]) / 2


def acer_not_iso(counts: Sweep, threshold: float) -> float:
    """(maximum APCER + BPCER) / 2: usual in papers, **not ISO/IEC 30107-3 conformant**."""
    cut = counts.cut(threshold)
    return float(counts.apcer_max[cut] + counts.bpcer[cut]) / 2


def non_response(data: Presentations) -> dict[str, Rate]:
    """Share without response: BPNRR under "", APNRR under each PAI species."""
    result = {}
    for name in np.unique(data.species):
        rows = data.species == name
        silent, total = int((rows & ~data.responded).sum()), int(rows.sum())
        result[str(name)] = Rate(silent / total, silent, total)
    return result
