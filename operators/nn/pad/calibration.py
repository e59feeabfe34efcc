"""From a head's score to log-odds of live against attack, never falling as the score rises.

Two ways, for two amounts of knowledge; both have prior log-odds 0, so the value is the log of a
likelihood ratio and may be summed by the sequential test as it is.

Real faces only (`fit_real_only`). Let u be the conformal p-value of a score: uniform for a real
face. Attacks are unknown, so the alternative is the simplest family of low p-values, the density
kappa u^(kappa - 1) (a p-to-e calibrator: Vovk and Wang, "E-values", Annals of Statistics 2021), and
    l(u) = -log kappa + (1 - kappa) log u.
What holds without any attack: exp(-l) has mean at most 1 over real faces, hence the summed test
keeps its target BPCER whatever kappa is (up to the chance of which faces calibrated it). What
cannot hold without them: under the family AUC = 1 / (1 + kappa), so kappa is set by the AUC that
one assumes [inferred: 0.9, just below what the heads are asked to reach]. Too bold an assumption
costs APCER, never BPCER.

Labelled development data (`fit_labelled`): Platt's sigmoid with his smoothed targets (Platt 1999),
both classes weighted the same, slope kept positive.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import optimize

from operators.nn.pad.conformal import ascending, p_value
from operators.nn.pad.errors import EvaluationError
from operators.nn.pad.metrics import Floats, Presentations

Link = Literal["identity", "logit"]

MOST_KEPT = 4096  # sorted scores stored with a checkpoint; more are thinned evenly by rank
PROBABILITY_FLOOR = 1e-7  # of the logit link: float32's distance from 0 and 1
LEAST_SLOPE = 1e-6  # of standardised scores: below it the scores do not order the classes


@dataclass(frozen=True)
class RealOnlyCalibration:
    """live_score: [n] ascending scores of real faces; assumed_auc in (0.5, 1)."""

    live_score: tuple[float, ...]
    assumed_auc: float

    def __post_init__(self) -> None:
        if not 0.5 < self.assumed_auc < 1:
            raise EvaluationError(f"assumed_auc lies in (0.5, 1), got {self.assumed_auc}")
        ordered = ascending(np.array(self.live_score, dtype=np.float64))
        if tuple(ordered.tolist()) != self.live_score:
            raise EvaluationError("live_score must ascend")

    def log_odds(self, score: Floats) -> Floats:
        """Score, any shape, finite -> log-odds of the same shape, positive = live."""
        kappa = 1.0 / self.assumed_auc - 1.0
        u = p_value(np.array(self.live_score), _finite(score))
        value: Floats = -math.log(kappa) + (1.0 - kappa) * np.log(u)
        return value


@dataclass(frozen=True)
class LabelledCalibration:
    """log-odds = slope * link(score) + offset, slope > 0."""

    slope: float
    offset: float
    link: Link

    def __post_init__(self) -> None:
        if not (math.isfinite(self.slope) and self.slope > 0 and math.isfinite(self.offset)):
            raise EvaluationError(f"slope must be positive and both finite, got {self}")
        if self.link not in ("identity", "logit"):
            raise EvaluationError(f"link is identity or logit, got {self.link!r}")

    def log_odds(self, score: Floats) -> Floats:
        """Score, any shape, finite -> log-odds of the same shape, positive = live."""
        value: Floats = self.slope * _linked(_finite(score), self.link) + self.offset
        return value


Calibration = RealOnlyCalibration | LabelledCalibration


def fit_real_only(live_score: Floats, assumed_auc: float = 0.9) -> RealOnlyCalibration:
    """live_score: [n] finite scores of real faces that no model was trained on, any order."""
    score = ascending(live_score)
    if len(score) > MOST_KEPT:
        ranks = np.linspace(0, len(score) - 1, MOST_KEPT).round().astype(np.int64)
        score = score[ranks]
    return RealOnlyCalibration(tuple(score.tolist()), assumed_auc)


def fit_labelled(data: Presentations, link: Link = "identity") -> LabelledCalibration:
    """Maximum likelihood on development data; link "logit" for scores that are probabilities.

    Raises EvaluationError for one class only, or scores that do not rise from attack to live.
    """
    rows = data.responded
    live = data.is_live[rows]
    n_live, n_attack = int(live.sum()), int((~live).sum())
    if not (n_live and n_attack):
        raise EvaluationError(f"need scored live and attack data, got {n_live} and {n_attack}")
    x = _linked(data.score[rows], link)
    centre, scale = float(x.mean()), float(x.std())
    if not scale > 0:
        raise EvaluationError("all scores are equal: nothing to calibrate")
    target = np.where(live, (n_live + 1) / (n_live + 2), 1 / (n_attack + 2))
    weight = np.where(live, 0.5 / n_live, 0.5 / n_attack)
    slope, offset = _sigmoid_fit((x - centre) / scale, target, weight)
    return LabelledCalibration(slope / scale, offset - slope * centre / scale, link)


def _sigmoid_fit(x: Floats, target: Floats, weight: Floats) -> tuple[float, float]:
    """Least weighted cross entropy of sigmoid(a x + b), a > 0; x standardised."""

    def loss(ab: Floats) -> tuple[float, Floats]:
        z = ab[0] * x + ab[1]
        value = float(np.sum(weight * (np.logaddexp(0.0, z) - target * z)))
        slope = weight * (0.5 * (1.0 + np.tanh(z / 2)) - target)
        return value, np.array([np.sum(slope * x), np.sum(slope)])

    found = optimize.minimize(
        loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[(0.0, None), (None, None)],
        options={"ftol": 1e-14, "gtol": 1e-9, "maxiter": 500},
    )  # fmt: skip
    a, b = float(found.x[0]), float(found.x[1])
    if a < LEAST_SLOPE:
        raise EvaluationError(
            "live scores are not higher than attack scores: is a higher score more bona fide here?"
        )
    return a, b


def _linked(score: Floats, link: Link) -> Floats:
    if link == "identity":
        return score
    if ((score < 0) | (score > 1)).any():
        raise EvaluationError("the logit link takes probabilities in [0, 1]")
    p = np.clip(score, PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    odds: Floats = np.log(p) - np.log1p(-p)
    return odds


def _finite(score: Floats) -> Floats:
    value = np.asarray(score, dtype=np.float64)
    if not np.isfinite(value).all():
        raise EvaluationError("a score is not finite: it has no log-odds")
    return value


def calibration_to_dict(calibration: Calibration) -> dict[str, Any]:
    """Plain values for a checkpoint's JSON; `calibration_from_dict` gives the same object again."""
    if isinstance(calibration, RealOnlyCalibration):
        return {
            "kind": "real_only",
            "live_score": list(calibration.live_score),
            "assumed_auc": calibration.assumed_auc,
        }
    return {
        "kind": "labelled",
        "slope": calibration.slope,
        "offset": calibration.offset,
        "link": calibration.link,
    }


FIELDS = {
    "real_only": {"kind", "live_score", "assumed_auc"},
    "labelled": {"kind", "slope", "offset", "link"},
}


def calibration_from_dict(data: Mapping[str, Any]) -> Calibration:
    """Read what `calibration_to_dict` wrote; EvaluationError names what is missing or wrong."""
    kind = data.get("kind")
    if not isinstance(kind, str) or kind not in FIELDS:
        raise EvaluationError(f"calibration kind is one of {sorted(FIELDS)}, got {kind!r}")
    if set(data) != FIELDS[kind]:
        raise EvaluationError(
            f"a {kind} calibration has {sorted(FIELDS[kind])}, got {sorted(map(str, data))}"
        )
    if kind == "labelled":
        return LabelledCalibration(number(data, "slope"), number(data, "offset"), data["link"])
    scores = data["live_score"]
    if not isinstance(scores, list) or not all(type(score) in {int, float} for score in scores):
        raise EvaluationError("live_score is a list of numbers")
    return RealOnlyCalibration(tuple(map(float, scores)), number(data, "assumed_auc"))


def number(data: Mapping[str, Any], name: str) -> float:
    """The finite number stored under `name`; EvaluationError otherwise."""
    value = data.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise EvaluationError(f"{name} must be a finite number, got {value!r}")
    return float(value)
