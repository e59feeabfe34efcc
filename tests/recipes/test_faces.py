"""Faces out of folders: where they are looked for, and what is said of what cannot be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.recipe import RecipeError
from operators.face.square import face_square
from operators.recipes.faces import WIDER, Sampling, live_files, read_faces
from tests.operators.media import write_clip
from tests.recipes.people import people


def test_each_face_comes_with_its_points_and_whose_it_is(tmp_path: Path) -> None:
    found = list(read_faces(people(tmp_path, ("anna", "bert")), Sampling(size_px=288)))
    assert [(done, of) for done, of, _ in found] == [(1, 2), (2, 2)]
    for subject, (_, _, (face,)) in zip(("anna", "bert"), found, strict=True):
        assert (face.domain, face.subject, face.source) == ("office", subject, "1.png:0")
        assert face.image.shape == (288, 288, 3)
        square = face_square(tuple(map(tuple, face.points)))
        assert square is not None
        assert square[2] == pytest.approx(288 / WIDER, rel=0.01)
        assert square[:2] == pytest.approx((143.5, 143.5), abs=1.0)
    (left,), (right,) = found[0][2], found[1][2]
    assert np.abs(left.points[0, 0] - (287 - right.points[1, 0])) < 6, "mirrored"


def test_a_folder_without_faces_says_how_it_should_look(tmp_path: Path) -> None:
    (tmp_path / "office" / "spoof" / "print" / "anna").mkdir(parents=True)
    with pytest.raises(RecipeError, match="DOMAIN/live/SUBJECT"):
        live_files(tmp_path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    place = tmp_path / "office" / "live" / "anna"
    place.mkdir(parents=True)
    (place / "1.png").write_bytes(b"no picture")
    with pytest.raises(RecipeError, match=r"1\.png.*remove"):
        list(read_faces(tmp_path, Sampling()))


def test_a_video_without_faces_gives_none(tmp_path: Path) -> None:
    place = tmp_path / "office" / "live" / "anna"
    place.mkdir(parents=True)
    write_clip(place / "1.mp4", frames=4, size=(160, 120))
    assert list(read_faces(tmp_path, Sampling(per_file=2))) == [(1, 1, [])]
