"""The mesh lies on the face: eyes, nose and mouth where they are seen, also on turned faces."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from engine import Batch, Frame
from engine.testing import HarnessContext, run_operator
from operators.face.align import mesh_points
from operators.face.detect import FaceDetect, FaceDetectConfig
from operators.face.mesh import POINTS, SIZE_PX, FaceMesh, FaceMeshConfig, view_of
from operators.face.records import Face, Landmarks
from operators.video.warp import apply
from tests.operators.faces import (
    FACE_BOX,
    LEFT_EYE,
    LEFT_MOUTH,
    NOSE,
    PIX_FMTS,
    RIGHT_EYE,
    RIGHT_MOUTH,
    astronaut,
    crowd_of,
    face,
    picture,
)

SEEN = np.array([RIGHT_EYE, LEFT_EYE, NOSE, RIGHT_MOUTH, LEFT_MOUTH])
MARKED = Face(FACE_BOX, 0.9, tuple(map(tuple, SEEN.tolist())))


def meshes_of(frame: Frame, **settings: object) -> list[Landmarks]:
    (after,) = run_operator(FaceMesh(FaceMeshConfig(**settings)), [frame])
    return after.of(Landmarks)


@pytest.mark.parametrize("pix_fmt", PIX_FMTS)
def test_the_mesh_lies_on_the_astronauts_face(pix_fmt: str) -> None:
    (mesh,) = meshes_of(picture(astronaut(), pix_fmt).with_records(MARKED))
    assert len(mesh.points) == POINTS
    assert mesh.presence > 0.9
    assert np.hypot(*(mesh_points(mesh) - SEEN).T).max() < 7
    x, y, z = np.array(mesh.points).T
    left, top, right, bottom = FACE_BOX
    assert left - 15 < x.min() < x.max() < right + 15
    assert top - 15 < y.min() < y.max() < bottom + 15
    assert z[1] < z[[33, 263]].min()  # the nose is nearer than the corners of the eyes


@pytest.mark.parametrize("degrees", [-40, 30, 90])
def test_the_mesh_turns_with_the_head(degrees: float) -> None:
    turn = cv2.getRotationMatrix2D((222, 120), degrees, 1.0)
    turned = cv2.warpAffine(astronaut(), turn, (512, 512), borderMode=cv2.BORDER_REPLICATE)
    points = apply(turn, SEEN)
    centre = apply(turn, np.array([[222.5, 120.0]]))[0]
    box = (*(centre - 55), *(centre + 55))
    record = Face(tuple(map(float, box)), 0.9, tuple(map(tuple, points.tolist())))
    (mesh,) = meshes_of(picture(turned).with_records(record))
    assert mesh.presence > 0.9
    assert np.hypot(*(mesh_points(mesh) - points).T).max() < 8


def test_a_detected_face_gets_a_mesh() -> None:
    detect = FaceDetect(FaceDetectConfig())
    (found,) = run_operator(detect, [picture(crowd_of(2), "yuv420p", seq=8)])
    (after,) = run_operator(FaceMesh(FaceMeshConfig()), [found])
    assert [mesh.face for mesh in after.of(Landmarks)] == [0, 1]
    meshes = sorted(after.of(Landmarks), key=lambda mesh: mesh.points[0])
    mirrored = (1024 - SEEN[[1, 0]][:, 0]), SEEN[[1, 0]][:, 1]
    for mesh, eyes in zip(meshes, (SEEN[:2], np.column_stack(mirrored)), strict=True):
        assert np.hypot(*(mesh_points(mesh)[:2] - eyes).T).max() < 4
    assert after.stamp is found.stamp
    assert after.data is found.data


def test_where_no_face_is_there_is_no_mesh() -> None:
    frame = picture(astronaut()).with_records(face(420, 420, 80))
    assert meshes_of(frame, min_presence=0.5) == []
    (doubtful,) = meshes_of(frame, min_presence=0.0)
    assert doubtful.presence < 0.5


def test_only_the_first_faces_get_one() -> None:
    frame = picture(astronaut()).with_records(MARKED, MARKED, MARKED)
    assert [mesh.face for mesh in meshes_of(frame, max_faces=2)] == [0, 1]


def test_the_view_holds_the_face_upright() -> None:
    tilted = Face((100, 100, 200, 180), 0.9, ((130, 120), (150, 140)))
    matrix = view_of(tilted)
    right, left, centre = apply(matrix, np.array([(130, 120), (150, 140), (150, 140)]))
    assert right[1] == pytest.approx(left[1])
    assert right[0] < left[0]
    assert centre.tolist() == pytest.approx([SIZE_PX / 2, SIZE_PX / 2])
    assert np.hypot(*(left - right)) == pytest.approx(np.hypot(20, 20) * SIZE_PX / 150)


def test_faces_without_extent_or_eyes_are_passed_over() -> None:
    empty, blind = Face((5, 5, 5, 5), 0.9, ((1, 1), (2, 1))), Face((5, 5, 50, 50), 0.9, ())
    assert view_of(empty) is None
    assert view_of(blind) is None
    assert meshes_of(picture(astronaut()).with_records(empty, blind), min_presence=0.0) == []


def test_a_batch_gives_what_each_frame_gives_alone() -> None:
    frames = [picture(astronaut()).with_records(MARKED), picture(astronaut(), seq=1)]
    operator = FaceMesh(FaceMeshConfig())
    alone = run_operator(operator, frames)
    context = HarnessContext()
    with context.exits:
        operator.open(context)
        together = operator.process(Batch(tuple(frames))).frames
        operator.close()
    assert [frame.records for frame in together] == [frame.records for frame in alone]
