"""Rooms to put training faces in."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from engine.recipe import RecipeError
from operators.recipes.rooms import SHORTER_PX, read_rooms


def test_pictures_are_read_and_large_ones_made_smaller(tmp_path: Path) -> None:
    place = tmp_path / "street" / "rooms"
    place.mkdir(parents=True)
    cv2.imwrite(str(place / "large.png"), np.full((800, 1600, 3), (10, 20, 30), np.uint8))
    cv2.imwrite(str(place / "small.png"), np.zeros((50, 60, 3), np.uint8))
    (place / "notes.txt").write_text("no picture")
    rooms = read_rooms(tmp_path, 4)
    assert list(rooms) == ["large.png", "small.png"]
    assert rooms["large.png"][0].shape == (SHORTER_PX, 2 * SHORTER_PX, 3)
    assert rooms["large.png"][0][0, 0].tolist() == [30, 20, 10], "RGB"
    assert rooms["small.png"][0].shape == (50, 60, 3)


def test_without_a_folder_there_are_none(tmp_path: Path) -> None:
    assert read_rooms(tmp_path, 4) == {}


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    place = tmp_path / "street" / "rooms"
    place.mkdir(parents=True)
    (place / "broken.png").write_bytes(b"no picture")
    with pytest.raises(RecipeError, match=r"broken\.png"):
        read_rooms(tmp_path, 4)
