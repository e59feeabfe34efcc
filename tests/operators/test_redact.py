"""Redaction averages faces away: nothing but a few means is left, everywhere a record points."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine import Frame, OperatorError
from engine.testing import run_operator
from operators.face.detect import FaceDetect, FaceDetectConfig
from operators.face.mesh import FaceMesh, FaceMeshConfig
from operators.face.records import Face, Landmarks, Unsearched
from operators.video.redact import (
    Ellipse,
    Redact,
    RedactConfig,
    around_box,
    around_points,
    grown,
    outwards,
)
from tests.operators.faces import PIX_FMTS, as_rgb, astronaut, crowd_of, face, picture, track

NOISE = np.random.default_rng(3).integers(0, 256, (240, 320, 3), dtype=np.uint8)
MODES = ("pixelate", "blur")


def redacted(frame: Frame, **settings: object) -> Frame:
    (after,) = run_operator(Redact(RedactConfig(**settings)), [frame])
    return after


def same(first: Frame, second: Frame) -> np.ndarray:
    """[H, W] where nothing changed."""
    return (as_rgb(first) == as_rgb(second)).all(axis=2)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("pix_fmt", PIX_FMTS)
def test_a_detected_face_cannot_be_detected_again(pix_fmt: str, mode: str) -> None:
    detect = FaceDetect(FaceDetectConfig(model="full"))
    (before,) = run_operator(detect, [picture(crowd_of(2), pix_fmt)])
    assert len(before.of(Face)) == 2
    after = redacted(before, mode=mode, cells=4)
    (again,) = run_operator(detect, [after.without_records(Face)])
    assert again.of(Face) == []


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("pix_fmt", PIX_FMTS)
def test_only_the_face_and_its_margin_are_touched(pix_fmt: str, mode: str) -> None:
    before = picture(NOISE, pix_fmt, seq=2).with_records(face(160, 120, 60))
    after = redacted(before, mode=mode, margin=0.2)
    kept = same(before, after)
    outside = np.ones_like(kept)
    outside[78:162, 118:202] = False
    assert kept[outside].all()
    assert kept[~outside].mean() < 0.05
    assert after.stamp is before.stamp
    assert after.records == before.records
    assert not after.data.flags.writeable
    assert np.array_equal(before.data, picture(NOISE, pix_fmt).data)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("pix_fmt", PIX_FMTS)
def test_only_the_means_of_the_cells_matter(pix_fmt: str, mode: str) -> None:
    """Two pictures with equal cell means give the same result: the rest is gone for good."""
    first = picture(NOISE, pix_fmt)
    second = first.data.copy()
    cell_px = 16  # 96 px in 6 cells; planes of chroma have half
    height = 240
    for rows, size in ((slice(0, height), cell_px), (slice(height, None), cell_px)):
        part = second[rows]
        for y in range(0, part.shape[0] - size + 1, size):
            for x in range(0, 320 - size + 1, size):
                part[y : y + size, x : x + size] = part[y : y + size, x : x + size][::-1, ::-1]
    if pix_fmt == "yuv420p":
        second[height:] = first.data[height:]
    marked = face(160, 112, 96)  # edges at multiples of the cell
    other = first.with_data(second).with_records(marked)
    settings = {"mode": mode, "margin": 0.0, "cells": 6}
    one, two = (redacted(f, **settings) for f in (first.with_records(marked), other))
    inside = np.s_[64:160, 112:208]
    assert not np.array_equal(first.data[inside], second[inside])
    assert np.array_equal(one.data[inside], two.data[inside])


@example(11, 13.0)
@given(st.integers(1, 12), st.floats(2, 200))
def test_there_are_never_more_means_than_cells(cells: int, size: float) -> None:
    before = picture(NOISE, "gray").with_records(face(160, 120, size))
    after = redacted(before, cells=cells, margin=0.0)
    left, top, right, bottom = outwards(face(160, 120, size).box, (320, 240))
    assert len(np.unique(after.data[top:bottom, left:right])) <= cells**2
    rows = after.data[top:bottom, left:right]
    assert (np.diff(rows.astype(int), axis=1) != 0).any(axis=0).sum() < cells


def test_one_cell_leaves_one_colour() -> None:
    after = redacted(picture(NOISE).with_records(face(160, 120, 60)), cells=1, margin=0.0)
    assert len(np.unique(after.data[92:148, 132:188].reshape(-1, 3), axis=0)) == 1


@pytest.mark.parametrize("predicted", [False, True])
def test_tracks_are_hidden_also_where_only_expected(predicted: bool) -> None:
    before = picture(NOISE).with_records(track(1, 160, 120, predicted=predicted))
    for what, hidden in (("tracks", True), ("both", True), ("faces", False)):
        kept = same(before, redacted(before, what=what))[110:130, 150:170]
        assert kept.all() != hidden


def test_faces_are_hidden_before_they_have_a_track() -> None:
    before = picture(NOISE).with_records(face(160, 120))
    for what, hidden in (("tracks", False), ("both", True), ("faces", True)):
        assert same(before, redacted(before, what=what))[110:130, 150:170].all() != hidden


@pytest.mark.parametrize("pix_fmt", PIX_FMTS)
def test_faces_at_and_beyond_the_border(pix_fmt: str) -> None:
    corner, outside = face(2, 2, 40), face(900, -400, 40)
    before = picture(NOISE, pix_fmt).with_records(corner, outside, face(319, 239, 9))
    after = redacted(before)
    assert not same(before, after)[0:20, 0:20].all()
    assert same(before, after)[60:180, 60:260].all()


def test_frames_that_nobody_searched_are_refused() -> None:
    before = picture(NOISE).with_records(track(1, 160, 120), Unsearched())
    with pytest.raises(OperatorError, match="every_n of the detector to 1"):
        redacted(before)


COORDINATES = st.floats(-200, 500)


@given(COORDINATES, COORDINATES, st.floats(1, 300), st.floats(0, 1))
def test_an_ellipse_leaves_no_corner_of_the_box_outside(
    x: float, y: float, size: float, margin: float
) -> None:
    box = face(x, y, size).box
    outline = around_box(box, margin)
    corners = np.array([(box[i], box[j]) for i in (0, 2) for j in (1, 3)])
    inner = x + (corners[:, 0] - x) * 0.999, y + (corners[:, 1] - y) * 0.999
    assert outline.covers(*inner).all()
    left, top, right, bottom = outline.bounds()
    assert right - left == pytest.approx(size * max(1 + 2 * margin, 2**0.5))
    assert bottom - top == pytest.approx(right - left)


def nearer(outline: Ellipse, places: np.ndarray, factor: float) -> np.ndarray:
    """[2, N] places moved towards the centre of the outline, or away from it."""
    centre = np.array(outline.centre)[:, None]
    return centre + (places - centre) * factor


@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_an_ellipse_around_points_holds_them_all(seed: int, margin: float) -> None:
    points = np.random.default_rng(seed).normal(size=(30, 2)) @ [[40, 25], [-5, 12]] + 150
    outline = around_points(list(map(tuple, points)), margin)
    assert outline.covers(*nearer(outline, points.T, 0.999)).all()
    left, top, right, bottom = outline.bounds()
    turn = np.linspace(0, 2 * np.pi, 721)
    cosine, sine = np.cos(outline.angle), np.sin(outline.angle)
    along, across = outline.half[0] * np.cos(turn), outline.half[1] * np.sin(turn)
    rim_x = outline.centre[0] + along * cosine - across * sine
    rim_y = outline.centre[1] + along * sine + across * cosine
    np.testing.assert_allclose((rim_x.min(), rim_x.max()), (left, right), atol=0.05)
    np.testing.assert_allclose((rim_y.min(), rim_y.max()), (top, bottom), atol=0.05)
    rim = np.array([rim_x, rim_y])
    assert outline.covers(*nearer(outline, rim, 0.999)).all()
    assert not outline.covers(*nearer(outline, rim, 1.001)).any()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("pix_fmt", PIX_FMTS)
def test_an_ellipse_hides_the_face_and_spares_the_corners(pix_fmt: str, mode: str) -> None:
    before = picture(NOISE, pix_fmt).with_records(face(160, 120, 80))
    kept = same(before, redacted(before, mode=mode, shape="ellipse", margin=0.25))
    assert kept[80:160, 120:200].mean() < 0.05
    for rows in (slice(60, 70), slice(170, 180)):
        for columns in (slice(100, 110), slice(210, 220)):
            assert kept[rows, columns].all()
    assert kept[:60].all()
    assert kept[180:].all()


@pytest.mark.parametrize("pix_fmt", PIX_FMTS)
def test_a_mesh_is_hidden_by_its_own_ellipse(pix_fmt: str) -> None:
    detect, mesh = FaceDetect(FaceDetectConfig()), FaceMesh(FaceMeshConfig())
    (found,) = run_operator(detect, [picture(crowd_of(2), pix_fmt)])
    (before,) = run_operator(mesh, [found])
    assert len(before.of(Landmarks)) == 2
    after = redacted(before, shape="ellipse", margin=0.1, cells=4)
    kept = same(before, after)
    for surface in before.of(Landmarks):
        x, y = np.array(surface.points)[:, :2].T.round().astype(int)
        assert kept[y, x].mean() < 0.05
    boxed = same(before, redacted(before, margin=0.25, cells=4))
    assert kept.sum() > boxed.sum()
    (again,) = run_operator(detect, [after.without_records(Face)])
    assert again.of(Face) == []


def test_an_ellipse_at_the_border() -> None:
    before = picture(NOISE, "yuv420p").with_records(face(2, 238, 60), face(-900, 50))
    kept = same(before, redacted(before, shape="ellipse"))
    assert kept[215:240, 0:20].mean() < 0.05
    assert kept[:150].all()


def test_meshes_are_dropped() -> None:
    before = picture(NOISE).with_records(Landmarks(0, 1.0, ((1.0, 2.0, 3.0),)))
    assert redacted(before).of(Landmarks) == []


def test_nothing_to_hide_copies_nothing() -> None:
    before = picture(astronaut(), "yuv420p")
    assert redacted(before).data is before.data


def test_the_output_is_clean_of_raw_faces() -> None:
    assert Redact.outputs["out"].caps.cleans == "raw-face"
    assert FaceDetect.outputs["out"].caps.label == "raw-face"


@given(st.tuples(*[st.floats(-500, 900)] * 2), st.floats(1, 400), st.floats(0, 1))
def test_the_rectangle_is_even_and_covers_the_box(
    centre: tuple[float, float], size: float, margin: float
) -> None:
    box = face(*centre, size).box
    left, top, right, bottom = outwards(grown(box, margin), (320, 240))
    assert all(value % 2 == 0 for value in (left, top, right, bottom) if value >= 0)
    assert left >= 0
    assert top >= 0
    assert right <= 320
    assert bottom <= 240
    assert left <= max(box[0], 0)
    assert right >= min(box[2], 320)
