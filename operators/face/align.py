"""Faces cut out upright at one size, the way face recognition networks are trained to see them."""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from engine import Caps, Config, Frame, Operator
from operators.face.records import Crop, Face, Landmarks, Point, Track
from operators.ports import Video
from operators.video.warp import fit_similarity, warp_rgb

F64 = npt.NDArray[np.float64]
SIZE_PX = 112
# Right eye, left eye, nose tip, right and left mouth corner in the crop: the template that ArcFace
# (Deng et al. 2019, arXiv:1801.07698) and its relatives are trained with.
TEMPLATE: F64 = np.array(
    [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655),
     (70.7299, 92.2041)]
)  # fmt: skip
# BlazeFace gives the middle of the mouth only; its ears are too uncertain to align with.
TEMPLATE_MOUTH_CENTRE: F64 = np.vstack([TEMPLATE[:3], TEMPLATE[3:].mean(axis=0)])
# The mesh's points for the template: an eye is the middle of its corners.
MESH_EYES = ((33, 133), (362, 263))
MESH_NOSE, MESH_MOUTH = 1, (61, 291)
CROP_CAPS = Caps(
    media="video", pix_fmt="rgb24", dtype="uint8", width=SIZE_PX, height=SIZE_PX, device="cpu"
)
CROP_PORT = msgspec.structs.replace(CROP_CAPS, label="raw-face")


class FaceAlignConfig(Config, frozen=True):
    """Which faces are cut out."""

    min_face_px: Annotated[
        float, Meta(ge=1, description="narrower faces are left out: too coarse to compare")
    ] = 32
    tracked_only: Annotated[
        bool, Meta(description="only faces with a track, so that every crop has an identity")
    ] = False


class FaceAlign(Operator[FaceAlignConfig]):
    """One frame per face, 112 x 112 RGB, with a `Crop` record and the stamp it was cut from.

    Uses the mesh of a face where there is one, else the detector's points.
    """

    def process(self, frames: Video) -> list[Annotated[Frame, CROP_PORT]]:
        """The crops in the order of the `Face` records; an empty list without faces."""
        meshes = {mesh.face: mesh for mesh in frames.of(Landmarks)}
        tracks = {track.box: track.track_id for track in frames.of(Track) if not track.predicted}
        crops = []
        for index, face in enumerate(frames.of(Face)):
            track_id = tracks.get(face.box, 0)
            if face.box[2] - face.box[0] < self.config.min_face_px:
                continue
            if self.config.tracked_only and not track_id:
                continue
            matrix = crop_matrix(face.points, meshes.get(index))
            if matrix is not None:
                crops.append(_cut(frames, matrix, index, track_id))
        return crops


def crop_matrix(points: tuple[Point, ...], mesh: Landmarks | None) -> F64 | None:
    """[2, 3], frame pixels -> crop pixels; None for points that say nothing about the pose."""
    if mesh is not None:
        return fit_similarity(mesh_points(mesh), TEMPLATE)
    if len(points) == len(TEMPLATE):
        return fit_similarity(np.array(points), TEMPLATE)
    if len(points) < len(TEMPLATE_MOUTH_CENTRE):
        return None
    count = len(TEMPLATE_MOUTH_CENTRE)
    return fit_similarity(np.array(points[:count]), TEMPLATE_MOUTH_CENTRE)


def mesh_points(mesh: Landmarks) -> F64:
    """[5, 2] points of the mesh in the order of the template."""
    points = np.array(mesh.points)[:, :2]
    eyes = [points[list(corners)].mean(axis=0) for corners in MESH_EYES]
    return np.array([*eyes, points[MESH_NOSE], *points[list(MESH_MOUTH)]])


def _cut(frame: Frame, matrix: F64, index: int, track_id: int) -> Frame:
    first, second = matrix.tolist()
    record = Crop(face=index, track_id=track_id, matrix=(tuple(first), tuple(second)))
    return Frame(warp_rgb(frame, matrix, SIZE_PX), CROP_CAPS, frame.stamp, (record,))
