"""`frameloom calibrate`: thresholds from live media of the user's own, no attack needed.

Light and lens move all scores of a camera together, so each camera (a DOMAIN folder) gets its own
split-conformal threshold, and all together the default (method notes, 2.4; 2.3, property 8).
Whatever lies under spoof/ is refused, not skipped: who calibrates must not be able to look at
attacks. The result is the same checkpoint with other thresholds, in the job's folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from engine.recipe import Job, RecipeError
from operators.nn.pad.calibration import Calibration, fit_real_only
from operators.nn.pad.conformal import conformal_by_camera, conformal_threshold, needed_faces
from operators.nn.pad.errors import EvaluationError
from operators.nn.pad.listing import Listing, read_folder
from operators.nn.pad.report import to_json
from operators.nn.pad.scoring import ScoredItem, VideoRule, skip_reasons
from operators.nn.pad.threshold import Threshold
from operators.nn.prompts.artifact import recalibrated
from operators.nn.prompts.head import PadHead
from operators.recipes.face_scores import F64, open_backbone, open_judge, score_all
from operators.recipes.settings import changed

DEFAULT = ""  # the camera name of the threshold for cameras that have none of their own


class CalibrateSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What `frameloom calibrate` may set with `--set`."""

    bpcer: float = 0.01  # share of real faces that may be called attacks; 99 faces carry 0.01
    per_camera: bool = True  # False: one threshold for all; for few faces of many cameras
    assumed_auc: float = 0.9  # of the head against attacks nobody has: how far one score may move
    step_ms: int = 1000  # frames of a video that count: those close together are all alike
    at_most: int = 50  # frames of a video; 0: no limit
    backbone: str = ""  # compact model or folder of a CLIP; empty: the one that comes along


@dataclass(frozen=True)
class RealScores:
    """Scores of real faces, and where each comes from."""

    score: F64  # [n]
    camera: tuple[str, ...]  # [n] domain
    person: tuple[str, ...]  # [n] domain/subject


def calibrate_folder(job: Job, head_path: Path, settings: CalibrateSettings) -> dict[str, Any]:
    """Score the live media, fit, write `job.out/NAME` and calibration.json; what was found.

    RecipeError for a folder with attacks, too few faces for the BPCER asked for (says how many are
    needed and how many there are), a checkpoint or settings that do not do.
    """
    if job.data is None:
        raise RecipeError("--data FOLDER is needed: CAMERA/live/SUBJECT/*.{jpg,jpeg,png,mp4}")
    vlm = open_backbone(Path(settings.backbone) if settings.backbone else None)
    head = open_judge(head_path, vlm)
    try:
        listing = live_only(read_folder(job.data))
        rule = VideoRule(settings.step_ms, settings.at_most)
        needed = needed_faces(settings.bpcer)
        scored = score_all(listing.items, vlm, head, rule, job)
        real = real_scores(scored)
        calibration, thresholds = fit(real, settings)
    except EvaluationError as error:
        raise RecipeError(str(error)) from error
    path = job.out / head_path.name
    sha = recalibrated(head_path, path, calibration, thresholds)
    report: dict[str, Any] = {
        "checkpoint": str(path),
        "sha": sha,
        "calibrated": head.sha,
        "settings": msgspec.to_builtins(settings),
        "needed_faces": needed,
        "no_score": skip_reasons(scored),
        "cameras": [_row(name, real, head, made) for name, made in thresholds.items()],
    }
    report["text"] = _text(report)
    (job.out / "calibration.json").write_text(to_json(report))
    return report


def live_only(listing: Listing) -> Listing:
    """The listing, if every item of it is bona fide; RecipeError names what is not."""
    attacks = [item for item in listing.items if not item.is_live]
    if attacks:
        raise RecipeError(
            f"{attacks[0].path}: an attack ({attacks[0].species}), and {len(attacks) - 1} more; "
            "thresholds are set on real faces alone: give a folder without spoof/"
        )
    return listing


def real_scores(scored: Sequence[ScoredItem]) -> RealScores:
    """Every score of the items, with its camera and person; EvaluationError without any."""
    rows = [(frame, one.item.domain, one.item.identity) for one in scored for frame in one.scores]
    if not rows:
        reasons = ", ".join(f"{why} {count}" for why, count in skip_reasons(scored).items())
        raise EvaluationError(f"no real face could be scored ({reasons})")
    score, camera, person = zip(*rows, strict=True)
    return RealScores(np.array(score, np.float64), camera, person)


def fit(real: RealScores, settings: CalibrateSettings) -> tuple[Calibration, dict[str, Threshold]]:
    """Calibration of all cameras together, thresholds by camera and the default under "".

    EvaluationError where there are too few faces; every camera with too few is named.
    """
    calibration = fit_real_only(real.score, settings.assumed_auc)
    found = {DEFAULT: conformal_threshold(real.score, settings.bpcer)}
    if settings.per_camera:
        try:
            found |= conformal_by_camera(real.score, real.camera, settings.bpcer)
        except EvaluationError as error:
            told = f"{error}; film more, ask for a higher bpcer, or --set per_camera=false"
            raise EvaluationError(told) from error
    thresholds = {
        name: Threshold(
            made.value, "bpcer", settings.bpcer, f"calibration, {name or 'all cameras'}", made.n, 0
        )
        for name, made in found.items()
    }
    return calibration, thresholds


def _row(name: str, real: RealScores, head: PadHead, made: Threshold) -> dict[str, Any]:
    """What one camera's threshold rests on, and what the one before did on the same faces."""
    rows = np.array([name in (DEFAULT, camera) for camera in real.camera])
    people = {person for person, own in zip(real.person, rows, strict=True) if own}
    before = head.thresholds.get(name, head.thresholds.get(DEFAULT))
    score = real.score[rows]
    return {
        "camera": name,
        "faces": int(rows.sum()),
        "people": len(people),
        "threshold": made.value,
        "BPCER here": float(np.mean(score < made.value)),
        "BPCER before": None if before is None else float(np.mean(score < before.value)),
    }


def _text(report: Mapping[str, Any]) -> str:
    asked = report["settings"]["bpcer"]
    lines = [
        f"BPCER {asked:g} asked for; it needs {report['needed_faces']} faces per threshold",
        f"{'camera':<24}{'faces':>7}{'people':>7}{'threshold':>13}{'BPCER here':>12}{'before':>9}",
    ]
    for row in report["cameras"]:
        before = row["BPCER before"]
        lines.append(
            f"{row['camera'] or '(default)':<24}{row['faces']:>7}{row['people']:>7}"
            f"{row['threshold']:>13.6g}{row['BPCER here']:>12.4f}"
            f"{'none' if before is None else format(before, '.4f'):>9}"
        )
    lines += [f"no score: {why}, {count} frames" for why, count in report["no_score"].items()]
    people = next(row["people"] for row in report["cameras"] if row["camera"] == DEFAULT)
    lines += [
        f"Faces of one person are alike: the figure holds for people like these {people}.",
        "A threshold from real faces alone says nothing about attacks: frameloom eval does.",
        f"{report['checkpoint']} {report['sha'][:12]}",
    ]
    return "\n".join(lines) + "\n"


def calibrate_settings(job: Job) -> CalibrateSettings:
    """The job's settings, checked."""
    return changed(CalibrateSettings(), job.settings)
