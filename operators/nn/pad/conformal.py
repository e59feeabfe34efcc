"""Thresholds and p-values from real faces alone (split conformal), also per camera.

No attack is needed and none is asked for (method notes, 2.4): of n held-out real scores the
k = floor(target (n + 1)) lowest are rejected. Then, for a real face exchangeable with those,
target - 1/(n + 1) < P(rejected) = k / (n + 1) <= target where scores are continuous (Vovk,
Gammerman and Shafer, "Algorithmic Learning in a Random World", 2005), and on the calibration set
itself BPCER = k/n lies within 1/n of the target (method notes, 2.3, property 8). The threshold
says nothing about APCER. Light and lens move all scores of a camera together, so each camera should
have its own; about 200 faces do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from operators.nn.pad.errors import EvaluationError
from operators.nn.pad.metrics import Floats


@dataclass(frozen=True)
class ConformalThreshold:
    """Classify bona fide when score >= value; `rejected` of the `n` calibration faces are not."""

    value: float
    target_bpcer: float
    n: int
    rejected: int


def needed_faces(target_bpcer: float) -> int:
    """Fewest real faces that can carry the target: below it no finite threshold keeps it."""
    if not 0 < target_bpcer < 1:
        raise EvaluationError(f"a target BPCER lies in (0, 1), got {target_bpcer}")
    return math.ceil(1.0 / target_bpcer - 1e-9) - 1


def conformal_threshold(live_score: Floats, target_bpcer: float) -> ConformalThreshold:
    """live_score: [n] finite scores of real faces no model has been trained on, any order.

    Where the k-th and the next score are equal, the threshold is at that score and rejects fewer:
    the target holds, the distance to it may exceed 1/n. Raises EvaluationError for too few faces.
    """
    score = ascending(live_score)
    n, needed = len(score), max(1, needed_faces(target_bpcer))
    if n < needed:
        raise EvaluationError(
            f"BPCER {target_bpcer:g} needs at least {needed} real faces, got {n}: "
            "add faces or ask for a higher BPCER"
        )
    k = math.floor(target_bpcer * (n + 1) + 1e-9)
    last = score[k - 1]  # the highest score still to be rejected
    tied = k < n and score[k] == last
    value = float(last if tied else np.nextafter(last, np.inf))
    return ConformalThreshold(value, target_bpcer, n, int((score < value).sum()))


def conformal_by_camera(
    live_score: Floats, camera: Sequence[str], target_bpcer: float
) -> dict[str, ConformalThreshold]:
    """One threshold per camera name, in sorted order; every camera with too few faces is named."""
    names = np.array(camera, dtype=np.str_)
    if live_score.shape != names.shape:
        raise EvaluationError(f"{live_score.shape} scores but {names.shape} camera names")
    groups = {str(name): live_score[names == name] for name in np.unique(names)}
    needed = max(1, needed_faces(target_bpcer))
    few = [f"{name} has {len(score)}" for name, score in groups.items() if len(score) < needed]
    if few:
        raise EvaluationError(
            f"BPCER {target_bpcer:g} needs at least {needed} real faces per camera: "
            + ", ".join(few)
        )
    return {name: conformal_threshold(score, target_bpcer) for name, score in groups.items()}


def p_value(live_score: Floats, score: Floats) -> Floats:
    """(1 + #{calibration <= score}) / (n + 1) in (0, 1]: low = unlike the real faces.

    live_score: [n] ascending, as `ascending` returns; score: any shape, finite.
    """
    below = np.searchsorted(live_score, score, side="right")
    return np.asarray((1.0 + below) / (len(live_score) + 1.0), dtype=np.float64)


def ascending(live_score: Floats) -> Floats:
    """[n] finite scores in ascending order; EvaluationError for an empty or a NaN input."""
    score = np.sort(np.asarray(live_score, dtype=np.float64))
    if score.ndim != 1 or not len(score):
        raise EvaluationError(f"real-face scores must be [n] with n >= 1, got {score.shape}")
    if not np.isfinite(score).all():
        raise EvaluationError("a real-face score is not finite: leave out what was not scored")
    return score
