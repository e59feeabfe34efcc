"""Aligned crops: the fit is the least-squares similarity, eyes and mouth lie on the template."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import Frame
from engine.testing import run_operator
from operators.face.align import (
    SIZE_PX,
    TEMPLATE,
    TEMPLATE_MOUTH_CENTRE,
    FaceAlign,
    FaceAlignConfig,
    crop_matrix,
)
from operators.face.records import Crop, Face, Landmarks
from operators.video.warp import apply, fit_similarity, invert, warp_rgb
from tests.operators.faces import (
    FACE_BOX,
    LEFT_EYE,
    LEFT_MOUTH,
    NOSE,
    PIX_FMTS,
    RIGHT_EYE,
    RIGHT_MOUTH,
    astronaut,
    face,
    picture,
    track,
)

MARKED = Face(FACE_BOX, 0.9, (RIGHT_EYE, LEFT_EYE, NOSE, RIGHT_MOUTH, LEFT_MOUTH))
ANGLES, SCALES, SHIFTS = st.floats(-180, 180), st.floats(0.05, 20), st.floats(-900, 900)


def similarity(degrees: float, scale: float, x: float, y: float) -> np.ndarray:
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[scale * cosine, -scale * sine, x], [scale * sine, scale * cosine, y]])


def crops_of(frame: Frame, **settings: object) -> list[Frame]:
    return run_operator(FaceAlign(FaceAlignConfig(**settings)), [frame])


@given(ANGLES, SCALES, SHIFTS, SHIFTS)
def test_an_exact_similarity_is_found(degrees: float, scale: float, x: float, y: float) -> None:
    truth = similarity(degrees, scale, x, y)
    found = fit_similarity(TEMPLATE, apply(truth, TEMPLATE))
    np.testing.assert_allclose(found, truth, atol=1e-6 * max(scale, 1) * 100)


@given(ANGLES, SCALES, SHIFTS, SHIFTS)
def test_the_inverse_brings_points_back(degrees: float, scale: float, x: float, y: float) -> None:
    way = similarity(degrees, scale, x, y)
    np.testing.assert_allclose(apply(invert(way), apply(way, TEMPLATE)), TEMPLATE, atol=1e-6)


@given(st.integers(0, 2**32 - 1))
def test_no_similarity_nearby_fits_better(seed: int) -> None:
    rng = np.random.default_rng(seed)
    source, target = rng.normal(size=(2, 5, 2)) * 40
    best = fit_similarity(source, target)

    def error(matrix: np.ndarray) -> float:
        return float(((apply(matrix, source) - target) ** 2).sum())

    for degrees, scale, x, y in rng.normal(size=(8, 4)) * (2, 0.05, 1, 1):
        nudge = similarity(degrees, 1 + scale, x, y)
        nudged = np.column_stack([nudge[:, :2] @ best[:, :2], apply(nudge, best[:, 2][None])[0]])
        assert error(nudged) >= error(best) - 1e-9


@given(st.integers(0, 2**32 - 1))
def test_the_fit_never_mirrors(seed: int) -> None:
    source, target = np.random.default_rng(seed).normal(size=(2, 5, 2))
    found = fit_similarity(source, target * (-1, 1))
    assert np.linalg.det(found[:, :2]) >= 0


def test_points_that_are_all_one_have_no_pose() -> None:
    assert fit_similarity(np.ones((5, 2)), TEMPLATE) is None
    assert crop_matrix(((3.0, 3.0),) * 6, None) is None
    assert crop_matrix(((3.0, 3.0), (9.0, 9.0)), None) is None


def test_the_template_with_the_middle_of_the_mouth() -> None:
    middle = (TEMPLATE[3] + TEMPLATE[4]) / 2
    np.testing.assert_array_equal(TEMPLATE_MOUTH_CENTRE, [*TEMPLATE[:3], middle])


@given(ANGLES, st.floats(0.3, 5), SHIFTS, SHIFTS)
def test_six_points_land_on_the_template_whatever_the_pose(
    degrees: float, scale: float, x: float, y: float
) -> None:
    way = similarity(degrees, scale, x, y)
    points = apply(way, np.vstack([TEMPLATE_MOUTH_CENTRE, [(0, 0), (112, 0)]]))
    matrix = crop_matrix(tuple(map(tuple, points.tolist())), None)
    np.testing.assert_allclose(apply(matrix, points[:4]), TEMPLATE_MOUTH_CENTRE, atol=1e-6)


@pytest.mark.parametrize("pix_fmt", PIX_FMTS)
def test_the_crop_shows_the_eyes_where_the_template_has_them(pix_fmt: str) -> None:
    before = picture(astronaut(), pix_fmt, seq=6).with_records(MARKED)
    (crop,) = crops_of(before)
    assert crop.data.shape == (SIZE_PX, SIZE_PX, 3)
    assert not crop.data.flags.writeable
    assert crop.stamp is before.stamp
    (record,) = crop.of(Crop)
    placed = apply(np.array(record.matrix), np.array(MARKED.points))
    assert np.hypot(*(placed - TEMPLATE).T).max() < 7  # she smiles: her mouth is wider
    gray = crop.data.astype(int).mean(axis=2)
    for x, y in placed[:2]:
        around = gray[round(y) - 2 : round(y) + 3, round(x) - 2 : round(x) + 3]
        assert around.mean() < gray[60:80, 30:80].mean() - 40  # pupils against cheeks


def test_planes_and_rgb_give_the_same_crop() -> None:
    crops = [
        crops_of(picture(astronaut(), f).with_records(MARKED))[0] for f in ("yuv420p", "rgb24")
    ]
    difference = np.abs(crops[0].data.astype(int) - crops[1].data)
    assert difference.mean() < 3


def test_the_mesh_is_preferred_to_the_points() -> None:
    points = np.zeros((468, 3))
    points[[33, 133]] = (*RIGHT_EYE, 0)
    points[[362, 263]] = (*LEFT_EYE, 0)
    points[[1, 61, 291], :2] = NOSE, RIGHT_MOUTH, LEFT_MOUTH
    mesh = Landmarks(0, 1.0, tuple(map(tuple, points.tolist())))
    vague = Face(FACE_BOX, 0.9, face(200, 200).points)
    (crop,) = crops_of(picture(astronaut()).with_records(vague, mesh))
    (expected,) = crops_of(picture(astronaut()).with_records(MARKED))
    assert np.array_equal(crop.data, expected.data)


def test_a_crop_names_its_track() -> None:
    seen, other, guessed = track(7, 200, 120), face(350, 120), track(8, 350, 120, predicted=True)
    followed = Face(seen.box, seen.score, seen.points)
    frame = picture(astronaut()).with_records(followed, other, seen, guessed)
    assert [(c.face, c.track_id) for f in crops_of(frame) for c in f.of(Crop)] == [(0, 7), (1, 0)]
    only = crops_of(frame, tracked_only=True)
    assert [(c.face, c.track_id) for f in only for c in f.of(Crop)] == [(0, 7)]


def test_small_faces_are_left_out() -> None:
    frame = picture(astronaut()).with_records(face(100, 100, 20), face(300, 100, 60))
    assert [c.face for f in crops_of(frame) for c in f.of(Crop)] == [1]
    assert crops_of(picture(astronaut())) == []


@pytest.mark.parametrize("pix_fmt", PIX_FMTS)
def test_outside_of_the_frame_is_black(pix_fmt: str) -> None:
    frame = picture(np.full((64, 64, 3), 255, np.uint8), pix_fmt)
    square = warp_rgb(frame, np.array([[1.0, 0, 0], [0, 1.0, 0]]), 100)
    assert square[:62, :62].min() >= 253
    assert square[66:].max() <= 2
    assert square[:, 66:].max() <= 2


@pytest.mark.parametrize("pix_fmt", PIX_FMTS)
@pytest.mark.parametrize("scale", [0.25, 0.6, 1.0, 3.0])
def test_pixels_come_from_where_the_matrix_says(pix_fmt: str, scale: float) -> None:
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8)[None, :, None], (200, 200, 3))
    square = warp_rgb(picture(ramp, pix_fmt), np.array([[scale, 0, 0], [0, scale, 0]]), 48)
    x = np.arange(4, 40)
    assert np.abs(square[20, 4:40].astype(int) - (x / scale)[:, None]).max() <= 3


def test_shrinking_averages_instead_of_skipping() -> None:
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 255
    square = warp_rgb(picture(stripes), np.array([[0.25, 0, 0], [0, 0.25, 0]]), 100)
    assert np.abs(square[5:95, 5:95].astype(int) - 127).max() <= 40
