"""CenterFace's decoding, the choice among overlapping candidates, and crowds."""

from __future__ import annotations

import cv2
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.testing import run_operator
from operators.face.candidates import Candidates, iou, keep_best
from operators.face.centerface import decode
from operators.face.detect import FaceDetect, FaceDetectConfig
from operators.face.records import Face
from tests.operators.faces import astronaut, crowd_of, overlap, picture

PLACES, SIDES = st.floats(0, 200, width=32), st.floats(2, 60, width=32)
SCORES = st.floats(0.0625, 1, width=32)
FOUND = st.lists(st.tuples(PLACES, PLACES, SIDES, SIDES, SCORES), max_size=24)


def candidates(rows: list[tuple[float, float, float, float, float]]) -> Candidates:
    """(left, top, width, height, score) each; one point, the upper left corner."""
    table = np.array(rows, np.float32).reshape(-1, 5)
    boxes = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], axis=1)
    return Candidates(boxes, table[:, 4].copy(), boxes[:, None, :2])


@given(FOUND, st.floats(0.1, 0.9))
def test_what_is_kept_is_apart_and_explains_the_rest(
    rows: list[tuple[float, float, float, float, float]], max_iou: float
) -> None:
    before = candidates(rows)
    after = keep_best(before, max_iou)
    assert after.scores.tolist() == sorted(after.scores.tolist(), reverse=True)
    for n, box in enumerate(after.boxes):
        assert (iou(box, after.boxes[n + 1 :]) < max_iou).all()
    for box, score in zip(before.boxes, before.scores, strict=True):
        near = iou(box, after.boxes) >= min(max_iou, 0.999)
        assert (after.scores[near] >= score).any()
    assert np.array_equal(after.points[:, 0], after.boxes[:, :2])


def test_decoding_of_one_cell() -> None:
    heat = np.zeros((4, 6), np.float32)
    heat[2, 3] = 0.75
    sizes, offsets, points = (np.zeros((n, 4, 6), np.float32) for n in (2, 2, 10))
    sizes[:, 2, 3] = np.log([5, 2])  # 20 high, 8 wide
    offsets[:, 2, 3] = (0.25, -0.25)
    points[:4, 2, 3] = (0.5, 0.25, 1.0, 0.75)  # y, x of the box, twice
    found = decode(heat, sizes, offsets, points, 0.5)
    assert found.scores.tolist() == [0.75]
    # Its centre is at y (2 + 0.25 + 0.5) * 4 = 11, x (3 - 0.25 + 0.5) * 4 = 13.
    np.testing.assert_allclose(found.boxes, [[9, 1, 17, 21]], atol=1e-5)
    np.testing.assert_allclose(found.points[0, :2], [(11, 11), (15, 21)], atol=1e-5)
    assert found.points.shape == (1, 5, 2)


def test_decoding_of_nothing() -> None:
    empty = [np.zeros((n, 4, 6), np.float32) for n in (2, 2, 10)]
    found = decode(np.zeros((4, 6), np.float32), *empty, 0.5)
    assert found.boxes.shape == (0, 4)
    assert found.points.shape == (0, 5, 2)
    assert keep_best(found, 0.3).boxes.shape == (0, 4)


def in_frame_of(size: tuple[int, int], rgb: np.ndarray, **settings: object) -> list[Face]:
    scaled = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA))
    operator = FaceDetect(FaceDetectConfig(model="crowd", min_face_px=8, **settings))
    (frame,) = run_operator(operator, [picture(scaled, "yuv420p")])
    return frame.of(Face)


# What the original file gives, single precision throughout: box, score, and the width it looked at.
ORIGINAL = (
    (320, (755.74, 68.39, 839.86, 174.74), 0.8875),
    (320, (184.08, 66.19, 269.07, 174.81), 0.8626),
    (640, (184.36, 62.49, 268.66, 174.75), 0.9130),
    (640, (757.49, 62.08, 845.24, 175.72), 0.8968),
    (960, (177.72, 55.17, 270.88, 179.18), 0.9188),
    (960, (753.28, 57.33, 845.91, 177.48), 0.9185),
)


@pytest.mark.parametrize("width_px", [320, 640, 960])
def test_smaller_storage_does_not_change_what_is_found(width_px: int) -> None:
    operator = FaceDetect(FaceDetectConfig(model="crowd", crowd_width_px=width_px))
    (frame,) = run_operator(operator, [picture(crowd_of(2))])
    expected = [(box, score) for width, box, score in ORIGINAL if width == width_px]
    for face, (box, score) in zip(frame.of(Face), expected, strict=True):
        assert overlap(face.box, box) > 0.99
        assert face.score == pytest.approx(score, abs=0.005)


def test_a_crowd_of_tiny_faces_is_counted() -> None:
    bust = astronaut()[:330, 60:390]
    rows = np.vstack([np.hstack([bust] * 8)] * 4)
    assert len(in_frame_of((640, 320), rows)) == 32
    full = FaceDetect(FaceDetectConfig(model="full", min_face_px=8))
    small = np.asarray(cv2.resize(rows, (640, 320), interpolation=cv2.INTER_AREA))
    (frame,) = run_operator(full, [picture(small)])
    assert len(frame.of(Face)) < 32


@pytest.mark.parametrize("size", [(1280, 720), (500, 362), (640, 480)])
def test_places_are_frame_pixels_whatever_the_size(size: tuple[int, int]) -> None:
    wide = np.zeros((600, 1000, 3), np.uint8)
    wide[50:562, 400:912] = astronaut()
    (face,) = in_frame_of(size, wide)
    x, y = size[0] / 1000, size[1] / 600
    assert overlap(face.box, (578 * x, 110 * y, 672 * x, 227 * y)) > 0.75


def test_the_width_of_the_input_decides_what_is_found() -> None:
    rows = np.hstack([crowd_of(6)] * 2)
    assert len(in_frame_of((1280, 128), rows, crowd_width_px=1280)) == 12
    assert len(in_frame_of((1280, 128), rows, crowd_width_px=320)) < 12


@pytest.mark.parametrize("width", [100, 650, 4000])
def test_the_width_is_a_multiple_of_the_deepest_stride(width: int) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"crowd_width_px": width}, FaceDetectConfig)
