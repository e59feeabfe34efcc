"""Detection finds the one face of a portrait, in every pixel format, and nothing where none is."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data

from engine import Batch
from engine.testing import HarnessContext, run_operator
from operators.face.detect import FaceDetect, FaceDetectConfig
from operators.face.records import Face, Unsearched
from tests.operators.faces import (
    FACE_BOX,
    LEFT_EYE,
    PIX_FMTS,
    RIGHT_EYE,
    astronaut,
    crowd_of,
    overlap,
    picture,
)

MODELS = ("short", "full", "back", "crowd")
EYE_TOLERANCE_PX = 10.0  # a tenth of the face


def found(rgb: np.ndarray, pix_fmt: str = "rgb24", **settings: object) -> list[Face]:
    operator = FaceDetect(FaceDetectConfig(**settings))
    (frame,) = run_operator(operator, [picture(rgb, pix_fmt)])
    return frame.of(Face)


@pytest.mark.parametrize("pix_fmt", PIX_FMTS)
@pytest.mark.parametrize("model", MODELS)
def test_the_astronaut_is_found_once(model: str, pix_fmt: str) -> None:
    (face,) = found(astronaut(), pix_fmt, model=model)
    assert overlap(face.box, FACE_BOX) > 0.7
    assert face.score > 0.8
    for point, eye in zip(face.points, (RIGHT_EYE, LEFT_EYE), strict=False):
        assert np.hypot(point[0] - eye[0], point[1] - eye[1]) < EYE_TOLERANCE_PX
    if model == "crowd":
        right_eye, left_eye, nose, right_mouth, left_mouth = face.points
        assert right_mouth[0] < nose[0] < left_mouth[0]
        assert right_eye[1] < nose[1] < min(right_mouth[1], left_mouth[1])
    else:
        right_eye, left_eye, nose, mouth, right_ear, left_ear = face.points
        assert right_ear[0] < right_eye[0] < left_eye[0] < left_ear[0]
        assert right_eye[1] < nose[1] < mouth[1]


@pytest.mark.parametrize("model", MODELS)
def test_yuv_and_rgb_agree(model: str) -> None:
    (first,) = found(astronaut(), "rgb24", model=model)
    (second,) = found(astronaut(), "yuv420p", model=model)
    assert overlap(first.box, second.box) > 0.9


def test_places_are_frame_pixels_whatever_the_frame_looks_like() -> None:
    wide = np.zeros((600, 1000, 3), np.uint8)
    wide[50:562, 400:912] = astronaut()
    (face,) = found(wide)
    expected = (FACE_BOX[0] + 400, FACE_BOX[1] + 50, FACE_BOX[2] + 400, FACE_BOX[3] + 50)
    assert overlap(face.box, expected) > 0.7


@pytest.mark.parametrize("model", MODELS)
def test_noise_has_no_face(model: str) -> None:
    noise = np.random.default_rng(7).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    assert found(noise, model=model) == []


@pytest.mark.parametrize("model", ["short", "full", "crowd"])
def test_a_cup_of_coffee_has_no_face(model: str) -> None:
    assert found(np.ascontiguousarray(skimage.data.coffee()), model=model) == []


def test_a_face_cut_by_the_border_stays_inside() -> None:
    (face,) = found(np.ascontiguousarray(astronaut()[90:, 190:]))
    left, top, right, bottom = face.box
    assert left >= 0
    assert top >= 0
    assert right <= 512 - 190
    assert bottom <= 512 - 90


def test_best_scores_first_and_at_most_max_faces() -> None:
    both = found(crowd_of(2))
    assert len(both) == 2
    assert both[0].score >= both[1].score
    assert found(crowd_of(2), max_faces=1) == both[:1]


def test_small_faces_and_low_scores_are_left_out() -> None:
    assert found(astronaut(), min_face_px=200) == []
    assert found(astronaut(), min_score=0.99) == []


def test_a_batch_gives_what_each_frame_gives_alone() -> None:
    frames = [picture(astronaut(), seq=0), picture(crowd_of(2), seq=1, stream_id="other")]
    operator = FaceDetect(FaceDetectConfig())
    alone = run_operator(operator, frames)
    context = HarnessContext()
    with context.exits:
        operator.open(context)
        together = operator.process(Batch(tuple(frames))).frames
        nothing = operator.process(Batch(())).frames
        operator.close()
    assert [frame.of(Face) for frame in together] == [frame.of(Face) for frame in alone]
    assert nothing == ()


def test_one_frame_in_n_is_searched_in_each_stream() -> None:
    frames = [picture(astronaut(), seq=n // 2, stream_id=("a", "b")[n % 2]) for n in range(14)]
    after = run_operator(FaceDetect(FaceDetectConfig(every_n=3, model="short")), frames)
    for stream_id in ("a", "b"):
        mine = [frame for frame in after if frame.stamp.stream_id == stream_id]
        assert [len(frame.of(Face)) for frame in mine] == [1, 0, 0, 1, 0, 0, 1]
        assert [len(frame.of(Unsearched)) for frame in mine] == [0, 1, 1, 0, 1, 1, 0]


def test_pixels_stamps_and_earlier_records_pass() -> None:
    earlier = Face((0, 0, 1, 1), 0.1, ())
    before = picture(astronaut(), "yuv420p", seq=42).with_records(earlier)
    (after,) = run_operator(FaceDetect(FaceDetectConfig()), [before])
    assert after.stamp is before.stamp
    assert after.caps is before.caps
    assert after.data is before.data
    assert after.of(Face)[0] is earlier
    assert len(after.of(Face)) == 2
