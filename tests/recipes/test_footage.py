"""What generative systems learn from: rendered worlds, or a folder of videos in their place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.recipe import Job, RecipeError
from operators.recipes.footage import Footage, Rendered, View, read, render, square
from tests.operators.media import write_clip

VIEW = View(32, 10.0, 4)
WORLDS = Rendered(("bounce", "pan"), "train", 4, 6, 2.0, seed=3)


def job(folder: Path) -> Job:
    return Job(None, folder)


def test_worlds_take_turns_and_are_the_same_again(tmp_path: Path) -> None:
    first, again = render(VIEW, WORLDS, job(tmp_path)), render(VIEW, WORLDS, job(tmp_path))
    assert first is not None
    assert again is not None
    assert first.frames.shape == (24, 32, 32, 3)
    assert first.labels.tolist() == [0, 1, 0, 1]
    assert first.lengths.tolist() == [6] * 4
    assert first.classes == ("bounce", "pan")
    assert (first.frames == again.frames).all()
    assert np.abs(np.diff(first.frames[:6].astype(int), axis=0)).max() > 20, "something moves"


def test_a_job_that_is_to_stop_stops(tmp_path: Path) -> None:
    stopped = job(tmp_path)
    stopped.stop.set()
    assert render(VIEW, WORLDS, stopped) is None
    write_clip(tmp_path / "1.mp4", frames=4)
    assert read(tmp_path, "train", VIEW, 100, stopped) is None


def test_windows_stay_inside_their_sequence() -> None:
    frames = np.zeros((12, 2, 2, 3), np.uint8)
    footage = Footage(frames, np.array([5, 2, 5]), np.array([0, 1, 1]), ("a", "b"), "")
    firsts, classes = footage.windows(4)
    assert firsts.tolist() == [0, 1, 7, 8]
    assert classes.tolist() == [0, 0, 1, 1]
    with pytest.raises(RecipeError, match="no video is 6 frames long"):
        footage.windows(6)


def test_another_frame_is_of_the_same_sequence() -> None:
    footage = Footage(np.zeros((7, 2, 2, 3), np.uint8), np.array([5, 2]), np.zeros(2, int), (), "")
    index = np.array([0, 4, 4, 5, 6, 6])
    share = np.array([0.0, 0.0, 0.999, 0.0, 0.6, 1.0])
    assert footage.others(index, share).tolist() == [0, 0, 4, 5, 6, 6]


def test_folders_are_classes_and_the_end_of_every_video_is_held_out(tmp_path: Path) -> None:
    for name in ("street", "yard"):
        (tmp_path / name).mkdir()
        write_clip(tmp_path / name / "1.mp4", frames=60)
    (tmp_path / "yard" / "notes.txt").write_text("no video")
    parts = [read(tmp_path, part, VIEW, 1000, job(tmp_path)) for part in ("train", "held-out")]
    train, held_out = (part for part in parts if part is not None)
    assert train.classes == held_out.classes == ("street", "yard")
    assert train.labels.tolist() == [0, 1]
    both = (train.lengths + held_out.lengths).tolist()
    assert held_out.lengths.tolist() == [max(count // 10, 4) for count in both]
    assert len(held_out.windows(4)[0]) == 2
    whole = read(tmp_path, "train", VIEW, 10, job(tmp_path))
    assert whole is not None
    assert (whole.lengths + 1).tolist() == [5, 5], "an equal share of what may be kept"


def test_frames_are_taken_at_the_views_moments(tmp_path: Path) -> None:
    write_clip(tmp_path / "1.mp4", frames=60)
    counts = []
    for fps in (5.0, 10.0, 20.0):
        found = [read(tmp_path, part, View(16, fps), 999, job(tmp_path)) for part in
                 ("train", "held-out")]  # fmt: skip
        counts.append(sum(len(part.frames) for part in found if part is not None))
    assert counts[1] in (2 * counts[0], 2 * counts[0] - 1)
    assert counts[2] in (2 * counts[1], 2 * counts[1] - 1)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [("a.txt", b"x", r"no video in it"), ("a.mp4", b"broken", r"a\.mp4.*remove or replace it")],
)
def test_a_folder_that_does_not_do_is_named(
    name: str, content: bytes, told: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RecipeError, match=told):
        read(tmp_path, "train", VIEW, 100, job(tmp_path))


def test_the_middle_is_looked_at() -> None:
    picture = np.zeros((20, 60, 3), np.uint8)
    picture[:, 20:40] = 200
    assert (square(picture, 8) == 200).all()
    assert (square(picture, 40) == 200).all()
