"""A head judged on the simulator's test pictures, for a checkpoint's card; and on their tell-tales.

Held-out people and held-out physical parameters. Figures are areas under the ROC with intervals by
bootstrap over identities (how it would go with other people) and over pictures (how it would go
with other pictures of these). `tell_tales` asks whether the head hangs on how the simulator made
its pictures, not on what they show: other seeds, other compression, another last resampling kernel
must leave the areas where they are (within 0.03).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from engine.recipe import Job
from operators.nn.pad.bootstrap import BootstrapConfig, Interval, Statistic, intervals
from operators.nn.pad.metrics import Presentations, auc, sweep
from operators.nn.prompts.head import PadHead
from operators.nn.vlm.interface import ImageTower
from operators.recipes.align import joined_features
from operators.recipes.captures import CaptureSet, Shot, Task, render_set
from operators.recipes.face_scores import F64, score_features
from operators.recipes.faces import U8, FaceImage

Bools = npt.NDArray[np.bool_]
ScorePictures = Callable[[U8], F64]  # [N, S, S, 3] to [N] scores, higher = more bona fide
GROUPS: Mapping[str, tuple[str, ...]] = {
    "print": ("print",),
    "replay": ("replay",),
    "print+replay": ("print", "replay"),
    "mask3d": ("mask3d",),
    "all attacks": ("print", "replay", "mask3d"),
}
REENCODED: Mapping[str, tuple[str, int, int]] = {
    "JPEG 40": (".jpg", cv2.IMWRITE_JPEG_QUALITY, 40),
    "JPEG 70": (".jpg", cv2.IMWRITE_JPEG_QUALITY, 70),
    "JPEG 90": (".jpg", cv2.IMWRITE_JPEG_QUALITY, 90),
    "WebP 75": (".webp", cv2.IMWRITE_WEBP_QUALITY, 75),
}
KERNELS: Mapping[str, int] = {
    "area": cv2.INTER_AREA,
    "linear": cv2.INTER_LINEAR_EXACT,
    "cubic": cv2.INTER_CUBIC,
    "lanczos": cv2.INTER_LANCZOS4,
}
LARGER = 1.5  # pictures that are resampled once more are rendered so much larger
OTHER_SEED = 50_000_000  # beyond every seed of a recipe


def score_pictures(tower: ImageTower, head: PadHead) -> ScorePictures:
    """A head with its image tower, as `judge_captures` wants it."""
    return lambda images: score_features(head, joined_features(tower, images))


def judge_captures(
    score: F64, shots: Sequence[Shot], bootstrap: BootstrapConfig
) -> dict[str, dict[str, Any]]:
    """Areas under the ROC of [N] scores of the pictures `shots`, as plain data.

    "AUC": by group of kinds, each with its two intervals (None where too few people or pictures
    bear one), its value without each person, and counts; "AUC by sub-kind": of each against all
    bona fide; "AUC by subject": a person's own attacks (print and replay; masks) against that
    person's own bona fide pictures.
    Groups without pictures are absent. EvaluationError for scores that are not finite.
    """
    found: dict[str, dict[str, Any]] = {"AUC": {}, "AUC by sub-kind": {}, "AUC by subject": {}}
    kinds = np.array([shot.kind for shot in shots])
    subkinds = np.array([shot.subkind for shot in shots])
    people = np.array([f"{shot.domain}/{shot.subject}" for shot in shots])
    live = kinds == "bonafide"
    for name, of in GROUPS.items():
        attack = np.isin(kinds, of)
        if live.any() and attack.any():
            found["AUC"][name] = _figure(score, people, subkinds, (live, attack), bootstrap)
    for name in np.unique(subkinds[~live]):
        rows = live | (subkinds == name)
        found["AUC by sub-kind"][str(name)] = _auc(_rows(score, people, subkinds, live, rows))
    for person in np.unique(people):
        own = people == person
        found["AUC by subject"][str(person)] = {
            name: _auc(_rows(score, people, subkinds, live, own & (live | np.isin(kinds, of))))
            for name, of in GROUPS.items()
            if name in ("print+replay", "mask3d")
            and (own & live).any()
            and (own & np.isin(kinds, of)).any()
        }
    return found


def area(score: F64, shots: Sequence[Shot], group: str) -> float:
    """The area under the ROC of one of GROUPS alone, without intervals."""
    kinds = np.array([shot.kind for shot in shots])
    live = kinds == "bonafide"
    rows = live | np.isin(kinds, GROUPS[group])
    names = np.array([shot.subkind for shot in shots])
    return _auc(_rows(score, names, names, live, rows))


@dataclass(frozen=True)
class TellTales:
    """What the variants are rendered from."""

    faces: Sequence[FaceImage]
    tasks: Sequence[Task]  # of the base set
    size_px: int
    processes: int


def tell_tales(
    base: CaptureSet, score: ScorePictures, rendering: TellTales, job: Job
) -> dict[str, dict[str, float]] | None:
    """By variant and group the area, and by how much it differs from the base's ("... shift").

    None when the job is to stop.
    """
    groups = [name for name in ("print+replay", "mask3d") if _present(base.shots, name)]
    ground = score(base.images)
    before = {name: area(ground, base.shots, name) for name in groups}
    found: dict[str, dict[str, float]] = {"base": dict(before)}
    for name, images, shots in _variants(base, rendering, job):
        scored = score(images)
        now = {group: area(scored, shots, group) for group in groups}
        found[name] = now | {f"{group} shift": now[group] - before[group] for group in groups}
    return None if job.stop.is_set() else found


def largest_shift(found: Mapping[str, Mapping[str, float]]) -> float:
    """The worst of all variants and groups, without its sign."""
    shifts = (v for of in found.values() for name, v in of.items() if name.endswith(" shift"))
    return max((abs(shift) for shift in shifts), default=0.0)


def reencode(images: U8, name: str) -> U8:
    """[N, S, S, 3] RGB through one of REENCODED and back."""
    suffix, key, quality = REENCODED[name]
    return np.stack([_reencoded(image, suffix, [key, quality]) for image in images])


def _variants(
    base: CaptureSet, rendering: TellTales, job: Job
) -> Iterator[tuple[str, U8, tuple[Shot, ...]]]:
    """Each variant's name, pictures and shots; ends early when the job is to stop."""
    for name in REENCODED:
        yield name, reencode(base.images, name), base.shots
    processes, size_px = rendering.processes, rendering.size_px
    others = [
        Task(task.face, task.kind, task.subkind, task.seed + OTHER_SEED, task.split)
        for task in rendering.tasks
    ]
    made = render_set(rendering.faces, others, size_px, job, processes)
    if made is None:
        return
    yield "other seeds", made.images, made.shots
    made = render_set(
        rendering.faces, rendering.tasks, round(size_px * LARGER), job, processes
    )  # the same photographs, cut out finer
    if made is None:
        return
    for name, kernel in KERNELS.items():
        yield f"kernel {name}", resized(made.images, size_px, kernel), made.shots


def resized(images: U8, size_px: int, kernel: int) -> U8:
    """[N, s, s, 3] to [N, size_px, size_px, 3] by one of OpenCV's kernels."""
    wanted = (size_px, size_px)
    some = [cv2.resize(image, wanted, interpolation=kernel) for image in images]
    return np.stack(some).astype(np.uint8)


def _reencoded(image: U8, suffix: str, options: Sequence[int]) -> U8:
    done, data = cv2.imencode(suffix, image[..., ::-1], options)
    if not done:
        message = f"this OpenCV cannot write {suffix}"
        raise RuntimeError(message)
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB), np.uint8)


def _present(shots: Sequence[Shot], group: str) -> bool:
    return any(shot.kind in GROUPS[group] for shot in shots)


def _rows(
    score: F64, people: npt.NDArray[Any], subkinds: npt.NDArray[Any], live: Bools, rows: Bools
) -> Presentations:
    species = np.where(live, "", subkinds)
    return Presentations(score[rows], live[rows], species[rows], people[rows])


def _auc(data: Presentations) -> float:
    return auc(sweep(data))


def _figure(
    score: F64,
    people: npt.NDArray[Any],
    subkinds: npt.NDArray[Any],
    live_and_attack: tuple[Bools, Bools],
    bootstrap: BootstrapConfig,
) -> dict[str, Any]:
    """The area with intervals over identities and over pictures, and what it rests on."""
    live, attack = live_and_attack
    rows = live | attack
    by_person = _rows(score, people, subkinds, live, rows)
    pictures = np.arange(len(score)).astype(np.str_)
    by_picture = _rows(score, pictures, subkinds, live, rows)
    return {
        "value": _auc(by_person),
        "over_identities": _interval(by_person, bootstrap),
        "over_pictures": _interval(by_picture, bootstrap),
        "without_person": _without_each(by_person),
        "identities": len(np.unique(by_person.identity)),
        "bona_fide": int(live.sum()),
        "attacks": int(attack.sum()),
    }


def _without_each(data: Presentations) -> dict[str, float]:
    """By person the area over all others; empty where nothing is left to compare."""
    found = {}
    for person in np.unique(data.identity):
        rows = data.identity != person
        if data.is_live[rows].any() and not data.is_live[rows].all():
            rest = (data.score, data.is_live, data.species, data.identity)
            found[str(person)] = _auc(Presentations(*(column[rows] for column in rest)))
    return found


def _interval(data: Presentations, bootstrap: BootstrapConfig) -> list[float] | None:
    if len(np.unique(data.identity)) < 2:
        return None
    statistics: dict[str, Statistic] = {"AUC": auc}
    found: Interval | None = intervals(data, statistics, bootstrap)["AUC"]
    return None if found is None else [found.low, found.high]
