"""Real video judged by its pixels: what a perfect, a lazy and a random generator get."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from engine.recipe import Job
from operators.recipes.ar_diffusion_samples import Maker
from operators.recipes.footage import Footage
from operators.recipes.real_clips import (
    BEST_DB,
    CODED,
    COPY,
    COPY_CODED,
    CUT,
    GENERATED,
    RealSettings,
    choose_windows,
    judge_real,
    shots,
    wrong_sizes,
)
from tests.recipes.small_systems import small_system

SMALL = RealSettings(frames=5, windows=4, past=2, ahead=4)
SIDE = 32


def noise(count: int, seed: int = 0) -> np.ndarray:
    """[count, S, S, 3], every frame another one near grey: no cuts."""
    return np.random.default_rng(seed).integers(110, 140, (count, SIDE, SIDE, 3), np.uint8)


def footage(*clips: np.ndarray, classes: tuple[str, ...] = ("real",)) -> Footage:
    """Clips a, b, ...; the last has the last class."""
    lengths = np.array([len(clip) for clip in clips])
    labels = np.minimum(np.arange(len(clips)), len(classes) - 1)
    names = tuple("abcdef"[: len(clips)])
    return Footage(np.concatenate(clips), lengths, labels, classes, "drawn by chance", names)


class Perfect(Maker):
    """Knows every clip, and loses nothing on the way through its auto-encoder."""

    def __init__(self, known: np.ndarray) -> None:
        super().__init__(small_system(), 1.0, 2)
        self._known = known
        self.labels: list[int] = []

    def through(self, frames: np.ndarray) -> np.ndarray:
        return frames

    def go_on(self, lag: int, label: int, seed: int, past: np.ndarray, length: int) -> np.ndarray:
        self.labels.append(label)
        places = (self._known[:, None] == past[None]).all(axis=(2, 3, 4))
        first = int(np.flatnonzero(places[:, -1])[0]) + 1
        return self._known[first : first + length]


def test_a_perfect_generator_gets_the_best_there_is(tmp_path: Path) -> None:
    clips = noise(12), noise(7, seed=1)
    maker = Perfect(np.concatenate(clips))
    found = judge_real(maker, footage(*clips), SMALL, Job(None, tmp_path))
    assert found is not None
    assert found.figures["windows"] == 3
    assert found.figures["continuation"]["a"]["windows"] == 2
    assert found.figures["continuation"]["b"]["windows"] == 1
    together = found.figures["together"]
    for way in (GENERATED, CODED):
        assert list(together[way]) == ["1", "2", "4"], "as far as it foretells"
        assert all(
            one == {"psnr_db": BEST_DB, "ssim": pytest.approx(1)} for one in together[way].values()
        )
    assert together[COPY] == together[COPY_CODED]
    assert together[COPY]["1"]["psnr_db"] < 40
    assert found.figures["reconstruction"]["b"] == {
        "psnr_db": BEST_DB, "ssim": pytest.approx(1), "frames": 5
    }  # fmt: skip


def test_together_is_the_mean_over_windows_and_not_over_videos(tmp_path: Path) -> None:
    still = np.repeat(noise(1, seed=2), 6, axis=0)
    clips = noise(12), still
    found = judge_real(Perfect(np.concatenate(clips)), footage(*clips), SMALL, Job(None, tmp_path))
    assert found is not None
    copies = {name: one[COPY]["1"] for name, one in found.figures["continuation"].items()}
    assert copies["b"]["psnr_db"] == BEST_DB, "a copy of what rests is right, and counts"
    mean = (2 * copies["a"]["psnr_db"] + copies["b"]["psnr_db"]) / 3
    assert found.figures["together"][COPY]["1"]["psnr_db"] == pytest.approx(mean)


def test_a_class_that_the_system_knows_goes_on_as_such(tmp_path: Path) -> None:
    clips = noise(6), noise(6, seed=1)
    maker = Perfect(np.concatenate(clips))
    maker.system.card["classes"] = ["bounce", "street"]
    judge_real(maker, footage(*clips, classes=("real", "street")), SMALL, Job(None, tmp_path))
    assert maker.labels == [maker.system.denoiser.null, 1]


@pytest.mark.slow
def test_a_system_is_judged_the_same_again_and_shown(tmp_path: Path) -> None:
    seen = footage(noise(8), noise(3, seed=1))
    maker = Maker(small_system(), 1.0, 2)
    one, other = (judge_real(maker, seen, SMALL, Job(None, tmp_path)) for _ in range(2))
    assert one is not None
    assert other is not None
    assert one.figures == other.figures
    assert list(one.figures["continuation"]) == ["a"], "b is too short"
    known = seen.frames[: SMALL.past]
    made = maker.go_on(maker.system.config.lag, maker.system.denoiser.null, 0, known, 4)
    error = np.square((made[0].astype(float) - seen.frames[SMALL.past]) / 255).mean()
    told = one.figures["together"][GENERATED]["1"]["psnr_db"]
    assert told == pytest.approx(-10 * np.log10(error))
    assert one.picture is not None
    assert one.picture.shape[1] == 6 * 2 * SIDE + 5 * 2, "a column for each frame"


def test_clips_that_are_too_short_are_only_reconstructed(tmp_path: Path) -> None:
    found = judge_real(Perfect(noise(5)), footage(noise(5)), SMALL, Job(None, tmp_path))
    assert found is not None
    assert found.picture is None
    assert found.figures["windows"] == 0
    assert "together" not in found.figures
    assert found.figures["reconstruction"]["a"]["frames"] == 5


@pytest.mark.parametrize("until", ["real video, there and back", "go on, real video"])
def test_a_stop_gives_nothing(tmp_path: Path, until: str) -> None:
    job = Job(None, tmp_path)
    job.tell = lambda what, done, of: job.stop.set() if what == until else None
    assert judge_real(Perfect(noise(12)), footage(noise(12), noise(12)), SMALL, job) is None


def test_shots_end_at_cuts_and_nowhere_else() -> None:
    clip = np.full((9, 8, 8, 3), 20, np.uint8)
    assert shots(clip) == [(0, 9)]
    clip[4:] = 20 + int(CUT)
    clip[5:] += 1
    clip[8:] = 255
    assert shots(clip) == [(0, 4), (4, 8), (8, 9)]
    clip[4:] = 20 + int(CUT) - 1
    assert shots(clip) == [(0, 9)]
    assert shots(clip[:1]) == [(0, 1)]


def test_windows_keep_to_shots_and_videos_take_turns() -> None:
    cut = noise(40)
    cut[17:] //= 3
    clips = [cut, noise(30), noise(4), noise(10)]
    chosen = choose_windows(clips, 5, 100, 0)
    assert len(chosen) == 3 + 4 + 6 + 2
    assert chosen == sorted(set(chosen))
    assert {first for number, first in chosen if number == 0} == {0, 5, 10, 17, 22, 27, 32}
    few = choose_windows(clips, 5, 3, 0)
    assert [number for number, _ in few] == [0, 1, 3]
    assert set(few) < set(chosen)
    assert few == choose_windows(clips, 5, 3, 0)
    assert len({tuple(choose_windows(clips, 5, 2, seed)) for seed in range(9)}) > 3
    assert choose_windows([noise(4)], 5, 3, 0) == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"frames": 0}, "frames and windows: 1 at least"),
        ({"windows": 0}, "frames and windows: 1 at least"),
        ({"past": 0}, "past and ahead: 1 at least"),
        ({"past": 5}, "past + ahead: 8 frames at most"),
        ({"fps": 0.0}, "fps: more than 0"),
        ({"fps": float("nan")}, "fps: more than 0"),
    ],
)
def test_sizes_that_cannot_be_are_told(changes: dict[str, float], told: str) -> None:
    assert wrong_sizes(SMALL, 8) == []
    assert wrong_sizes(msgspec.structs.replace(SMALL, **changes), 8) == [told]
