"""Judging rendered captures: areas by kind and person, intervals, what tell-tales would move."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.recipe import Job
from operators.nn.pad.bootstrap import BootstrapConfig
from operators.recipes import judge_captures as module
from operators.recipes.captures import CaptureSet, Shot, Task
from operators.recipes.judge_captures import (
    KERNELS,
    REENCODED,
    TellTales,
    area,
    judge_captures,
    largest_shift,
    reencode,
    resized,
    tell_tales,
)

DRAWS = BootstrapConfig(draws=50)
KINDS = (("bonafide", "face"), ("print", "inkjet"), ("replay", "phone"), ("mask3d", "latex"))
SHOTS = tuple(
    Shot(kind, subkind, subject, "office")  # type: ignore[arg-type]
    for subject in "abcd"
    for kind, subkind in KINDS
    for _ in range(6)
)


def scores() -> np.ndarray:
    """Prints are told from faces, replays nearly, masks not at all."""
    rng = np.random.default_rng(0)
    level = {"bonafide": 0.0, "print": -9.0, "replay": -1.5, "mask3d": 0.0}
    return np.array([level[shot.kind] for shot in SHOTS]) + rng.standard_normal(len(SHOTS))


def test_areas_are_told_by_kind_with_both_intervals() -> None:
    found = judge_captures(scores(), SHOTS, DRAWS)
    areas = found["AUC"]
    assert areas["print"]["value"] == 1
    assert 0.7 < areas["replay"]["value"] < 1
    assert areas["print+replay"]["value"] == pytest.approx(
        (areas["print"]["value"] + areas["replay"]["value"]) / 2
    )
    assert areas["print+replay"]["attacks"] == 48
    assert areas["all attacks"]["identities"] == 4
    for figure in areas.values():
        for kind in ("over_identities", "over_pictures"):
            low, high = figure[kind]
            assert 0 <= low <= figure["value"] <= high <= 1
    for person, value in areas["replay"]["without_person"].items():
        rest = [n for n, shot in enumerate(SHOTS) if f"office/{shot.subject}" != person]
        assert value == area(scores()[rest], [SHOTS[n] for n in rest], "replay")
    assert len(areas["replay"]["without_person"]) == 4
    assert found["AUC by sub-kind"]["inkjet"] == 1
    assert set(found["AUC by subject"]) == {f"office/{name}" for name in "abcd"}
    for of in found["AUC by subject"].values():
        assert set(of) == {"print+replay", "mask3d"}


def test_an_area_by_person_takes_that_persons_pictures_alone() -> None:
    shift = np.array([100.0 * (shot.subject == "a") for shot in SHOTS])  # a's camera is brighter
    plain, moved = (
        judge_captures(score, SHOTS, DRAWS)["AUC by subject"]
        for score in (scores(), scores() + shift)
    )
    assert moved == plain
    assert area(scores() + shift, SHOTS, "print+replay") < area(scores(), SHOTS, "print+replay")


def test_one_person_has_no_interval_over_people_and_a_missing_kind_no_row() -> None:
    rows = [n for n, s in enumerate(SHOTS) if s.subject == "a" and s.kind != "mask3d"]
    found = judge_captures(scores()[rows], [SHOTS[n] for n in rows], DRAWS)
    assert set(found["AUC"]) == {"print", "replay", "print+replay", "all attacks"}
    assert found["AUC"]["print"]["over_identities"] is None
    assert found["AUC"]["print"]["without_person"] == {}
    assert found["AUC"]["print"]["over_pictures"] is not None


def pictures(count: int, size_px: int) -> np.ndarray:
    """Smooth noise, brighter with every picture."""
    rng = np.random.default_rng(1)
    images = rng.integers(0, 40, (count, size_px, size_px, 3)).astype(np.float64)
    level = np.linspace(60, 180, count)[:, None, None, None]
    return (images + level).round().astype(np.uint8)


@pytest.mark.parametrize("name", sorted(REENCODED))
def test_reencoding_changes_pixels_but_not_the_picture(name: str) -> None:
    images = pictures(3, 32)
    again = reencode(images, name)
    assert again.shape == images.shape
    assert again.dtype == np.uint8
    assert (again != images).any()
    moved = np.abs(again.astype(float).mean((1, 2)) - images.astype(float).mean((1, 2)))
    assert moved.max() < 6, "colours stay in their places"


def test_kernels_differ_and_keep_the_mean() -> None:
    images = pictures(2, 48)
    made = {name: resized(images, 32, kernel) for name, kernel in KERNELS.items()}
    for one in made.values():
        assert one.shape == (2, 32, 32, 3)
        np.testing.assert_allclose(one.mean((1, 2, 3)), images.mean((1, 2, 3)), atol=1)
    assert len({one.tobytes() for one in made.values()}) == len(KERNELS)


def base_set() -> tuple[CaptureSet, TellTales]:
    shots = SHOTS[::6]
    tasks = [Task(0, shot.kind, shot.subkind, n, "test") for n, shot in enumerate(shots)]
    return CaptureSet(pictures(len(shots), 32), shots), TellTales((), tasks, 32, 1)


def rendered(monkeypatch: pytest.MonkeyPatch, shots: tuple[Shot, ...]) -> list[tuple[int, int]]:
    """Have pictures made without the simulator; (first seed, size) of each call."""
    calls: list[tuple[int, int]] = []

    def made(faces: object, tasks: list[Task], size_px: int, *_: object) -> CaptureSet:
        calls.append((tasks[0].seed, size_px))
        return CaptureSet(pictures(len(tasks), size_px), shots)

    monkeypatch.setattr(module, "render_set", made)
    return calls


def test_a_head_that_sees_the_picture_is_not_moved(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    base, rendering = base_set()
    calls = rendered(monkeypatch, base.shots)
    found = tell_tales(base, lambda images: images.mean((1, 2, 3)), rendering, Job(None, tmp_path))
    assert found is not None
    kernels = {f"kernel {name}" for name in KERNELS}
    assert set(found) == {"base", "other seeds", *REENCODED, *kernels}
    assert largest_shift(found) < 0.03
    assert calls[0][0] > 1_000_000, "other seeds"
    assert calls[0][1] == 32
    assert calls[1] == (0, 48), "the same photographs, cut out finer"


def test_a_head_that_hangs_on_a_tell_tale_is_found_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    base, rendering = base_set()
    rendered(monkeypatch, base.shots)
    marked = base.images.copy()
    live = base.where(kind="bonafide")
    marked[live, 0, 0, 0] = 255  # one pixel tells
    found = tell_tales(
        replace(base, images=marked),
        lambda images: (images[:, 0, 0, 0] == 255).astype(np.float64),
        rendering,
        Job(None, tmp_path),
    )
    assert found is not None
    assert found["base"]["print+replay"] == 1
    assert found["other seeds"]["print+replay shift"] == -0.5
    assert largest_shift(found) == 0.5


def test_who_is_asked_to_stop_gets_no_figures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    base, rendering = base_set()
    monkeypatch.setattr(module, "render_set", lambda *_: None)
    job = Job(None, tmp_path)
    job.stop.set()
    assert tell_tales(base, lambda images: images.mean((1, 2, 3)), rendering, job) is None
