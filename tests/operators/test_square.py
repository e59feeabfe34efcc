"""The square that spoof detectors look at."""

from __future__ import annotations

import numpy as np
import pytest

from engine.testing import make_frame
from operators.face.square import (
    SIDE_BY_SPAN,
    cut_out,
    face_square,
    share_inside,
    square_matrix,
)
from operators.video.warp import apply

FIVE = ((10.0, 10.0), (30.0, 10.0), (20.0, 20.0), (13.0, 30.0), (27.0, 30.0))
SIX = (*FIVE[:3], (20.0, 30.0), (2.0, 12.0), (38.0, 12.0))


def test_both_kinds_of_points_mean_the_same_square() -> None:
    assert face_square(FIVE) == face_square(SIX) == (20.0, 20.0, SIDE_BY_SPAN * 20)


def test_a_turned_face_keeps_its_size() -> None:
    narrow = tuple((20 + (x - 20) / 4, y) for x, y in FIVE)
    square = face_square(narrow)
    assert square is not None
    assert square[2] == SIDE_BY_SPAN * 20


@pytest.mark.parametrize(
    "points", [(), FIVE[:3], ((5.0, 5.0),) * 5, ((float("nan"), 0.0), *FIVE[1:])]
)
def test_points_without_a_size_have_no_square(points: tuple[tuple[float, float], ...]) -> None:
    assert face_square(points) is None


def test_the_square_fills_the_crop() -> None:
    matrix = square_matrix((20.0, 15.0, 10.0), 100)
    corners = apply(matrix, np.array([(20.0, 15.0), (15.05, 10.05), (24.95, 19.95)]))
    np.testing.assert_allclose(corners, [(49.5, 49.5), (0, 0), (99, 99)], atol=1e-9)


@pytest.mark.parametrize("square", [(95.0, 50.0, 60.0), (0.0, 0.0, 60.0), (50.0, 50.0, 150.0)])
def test_beyond_the_frame_it_goes_on_without_an_edge(square: tuple[float, float, float]) -> None:
    """A black bar beside a face would look like the rim of a screen."""
    ramp = np.repeat(np.linspace(100, 200, 100).astype(np.uint8)[None], 100, axis=0)
    crop = cut_out(make_frame(np.dstack([ramp] * 3)), square, 60).astype(int)
    assert crop.min() >= 100
    steps = [np.abs(np.diff(crop, axis=axis)).max() for axis in (0, 1)]
    assert max(steps) <= 4, "no step larger than the ramp's own"


@pytest.mark.parametrize(
    ("square", "share"),
    [((50, 50, 40), 1), ((0, 50, 40), 0.5), ((0, 0, 40), 0.25), ((500, 50, 40), 0)],
)
def test_how_much_of_it_is_on_the_frame(square: tuple[float, float, float], share: float) -> None:
    frame = make_frame(np.zeros((100, 100, 3), np.uint8))
    assert share_inside(square, frame) == pytest.approx(share)
