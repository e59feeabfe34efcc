"""Which threshold, chosen by which rule, on which data: fixed before the test data is looked at.

Public code often picks the equal-error threshold on the test set and calls the value there HTER
(method notes, 7.2, trap 1). Here a threshold is a value that carries its origin, it is chosen on
development data only, and the one chosen on test data exists solely under the name oracle.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from operators.nn.pad.conformal import conformal_threshold
from operators.nn.pad.errors import EvaluationError
from operators.nn.pad.metrics import Presentations, bpcer_at_apcer, eer, sweep

Rule = Literal["bpcer", "eer", "apcer"]
ORACLE = "oracle: chosen on the test data itself, for comparison only, not a result"


@dataclass(frozen=True)
class ThresholdRule:
    """How to choose.

    bpcer: conformal, from bona fide scores alone, target = BPCER; attacks are not looked at.
    eer: where pooled APCER and BPCER are nearest; needs labelled attacks; target must be 0.
    apcer: least BPCER with the worst species' APCER <= target; needs labelled attacks.
    """

    rule: Rule = "bpcer"
    target: float = 0.05

    def __post_init__(self) -> None:
        if self.rule not in ("bpcer", "eer", "apcer"):
            raise EvaluationError(f"rule is bpcer, eer or apcer, got {self.rule!r}")
        if not (0 <= self.target < 1) or (self.rule == "eer" and self.target != 0):
            raise EvaluationError(f"rule {self.rule} cannot have target {self.target}")


@dataclass(frozen=True)
class Threshold:
    """Bona fide when score >= value. `set_on` names the data; counts are of scored rows."""

    value: float
    rule: str
    target: float
    set_on: str
    n_live: int
    n_attack: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint's JSON."""
        return asdict(self)


FIELD_TYPES: dict[str, tuple[type, ...]] = {
    "value": (float, int),
    "rule": (str,),
    "target": (float, int),
    "set_on": (str,),
    "n_live": (int,),
    "n_attack": (int,),
}


def threshold_from_dict(data: Mapping[str, Any]) -> Threshold:
    """Read what `Threshold.to_dict` wrote; EvaluationError names what is missing or wrong."""
    if set(data) != set(FIELD_TYPES):
        raise EvaluationError(
            f"a threshold has {sorted(FIELD_TYPES)}, got {sorted(map(str, data))}"
        )
    for name, types in FIELD_TYPES.items():
        if type(data[name]) not in types:
            raise EvaluationError(f"threshold {name} has a wrong type: {data[name]!r}")
    found = Threshold(**{str(name): value for name, value in data.items()})
    if not math.isfinite(found.value):
        raise EvaluationError(f"the threshold must be finite, got {found.value}")
    return found


def choose_threshold(
    development: Presentations, rule: ThresholdRule, set_on: str = "development"
) -> Threshold:
    """Apply `rule` to development data; `set_on` is the name that the record will carry."""
    rows = development.responded
    n_live = int((rows & development.is_live).sum())
    n_attack = int((rows & ~development.is_live).sum())
    if rule.rule == "bpcer":
        live = development.score[rows & development.is_live]
        if not n_live:
            raise EvaluationError(f"no scored bona fide presentation in {set_on}")
        value, n_attack = conformal_threshold(live, rule.target).value, 0
    elif not (n_live and n_attack):
        raise EvaluationError(
            f"rule {rule.rule} needs bona fide and attack presentations, {set_on} has "
            f"{n_live} and {n_attack}; rule bpcer does with bona fide alone"
        )
    elif rule.rule == "eer":
        value = eer(sweep(development)).threshold
    else:
        value = bpcer_at_apcer(sweep(development), rule.target).threshold
    return Threshold(value, rule.rule, rule.target, set_on, n_live, n_attack)


def oracle_threshold(test: Presentations) -> Threshold:
    """The equal-error threshold of the test data, labelled as such in `set_on`."""
    chosen = choose_threshold(test, ThresholdRule("eer", 0.0))
    return Threshold(chosen.value, "eer", 0.0, ORACLE, chosen.n_live, chosen.n_attack)


def check_separate(development: Presentations, test: Presentations) -> None:
    """Raise EvaluationError where a person occurs in both; names up to five."""
    both = np.intersect1d(development.identity, test.identity)
    if len(both):
        shown = ", ".join(str(name) for name in both[:5])
        raise EvaluationError(
            f"{len(both)} identities are in development and test data: {shown}; a threshold "
            "chosen on people of the test set is not a held-out one"
        )
