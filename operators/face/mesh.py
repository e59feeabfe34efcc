"""The surface of faces: MediaPipe's face mesh, 468 points (Kartynnik et al. 2019, 1907.06724)."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from engine import TUNABLE, Batch, Caps, Config, Frame, OpContext, Operator
from operators.face.nets import RUNTIME, Placement, Runtime, open_net, placed
from operators.face.records import Face, Landmarks
from operators.ports import Video
from operators.video.warp import apply, invert, warp_rgb

F64 = npt.NDArray[np.float64]
SIZE_PX = 192
POINTS = 468
AROUND = 1.5  # side of the network's view in sides of the face, as the network was trained
LOGIT_LIMIT = 80.0  # beyond it the exponential overflows single precision


class FaceMeshConfig(Config, frozen=True):
    """Which faces get a mesh. Each one costs a run of the network."""

    min_presence: Annotated[
        float, Meta(ge=0, le=1, description="0 keeps every mesh, 1 none"), TUNABLE
    ] = 0.5
    max_faces: Annotated[
        int, Meta(ge=1, le=64, description="the first ones, which detectors sort by score"), TUNABLE
    ] = 4
    runtime: Annotated[Runtime, Meta(description=RUNTIME)] = "auto"


class FaceMesh(Operator[FaceMeshConfig]):
    """Adds a `Landmarks` record per face. Pixels and stamps pass unchanged."""

    preload = ("ai_edge_litert.interpreter",)

    def open(self, ctx: OpContext) -> None:
        self._net = MeshNetwork(placed(self.config.runtime, ctx))

    def process(
        self, frames: Batch[Video]
    ) -> Batch[Annotated[Frame, Caps(media="video", like="frames")]]:
        """The same frames with `Landmarks`, `face` counting the frame's `Face` records from 0."""
        return frames.map(self._add_meshes)

    def _add_meshes(self, frame: Frame) -> Frame:
        meshes = []
        for index, face in enumerate(frame.of(Face)[: self.config.max_faces]):
            matrix = view_of(face)
            if matrix is None:
                continue
            points, presence = self._net(warp_rgb(frame, matrix, SIZE_PX))
            if presence >= self.config.min_presence:
                meshes.append(_record(index, presence, points, matrix))
        return frame.with_records(*meshes) if meshes else frame


class MeshNetwork:
    """The network. One call at a time."""

    def __init__(self, place: Placement) -> None:
        self._net = open_net("face_mesh.tflite", place)

    def __call__(self, rgb: npt.NDArray[np.uint8]) -> tuple[F64, float]:
        """rgb [192, 192, 3] -> points [468, 3] in its pixels, presence 0 to 1."""
        tensor = rgb[None].astype(np.float32)
        tensor /= 255
        found, presence = self._net(tensor)
        points = found.reshape(POINTS, 3).astype(np.float64)
        logit = float(presence.reshape(()))
        return points, 1 / (1 + math.exp(-min(max(logit, -LOGIT_LIMIT), LOGIT_LIMIT)))


def view_of(face: Face) -> F64 | None:
    """[2, 3], frame pixels -> view: a square around the face with the eyes level; None if empty."""
    left, top, right, bottom = face.box
    side = AROUND * max(right - left, bottom - top)
    if side <= 0 or len(face.points) < 2:
        return None
    (right_x, right_y), (left_x, left_y) = face.points[:2]
    tilt = math.atan2(left_y - right_y, left_x - right_x)
    turn = (
        SIZE_PX
        / side
        * np.array([[math.cos(tilt), math.sin(tilt)], [-math.sin(tilt), math.cos(tilt)]])
    )
    centre = np.array([(left + right) / 2, (top + bottom) / 2])
    return np.column_stack([turn, SIZE_PX / 2 - turn @ centre])


def _record(index: int, presence: float, points: F64, matrix: F64) -> Landmarks:
    back = invert(matrix)
    depth = points[:, 2] * math.sqrt(abs(np.linalg.det(back[:, :2])))
    placed = np.column_stack([apply(back, points[:, :2]), depth]).round(2).tolist()
    return Landmarks(index, round(presence, 4), tuple((x, y, z) for x, y, z in placed))
