"""Find faces: BlazeFace on a small letterboxed picture of the frame, in any pixel format."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from msgspec import Meta

from engine import TUNABLE, Batch, Caps, Config, Frame, OpContext, Operator
from operators.face.blazeface import BlazeFace, Candidates, blend_overlapping
from operators.face.records import Face
from operators.ports import Video
from operators.video.yuv import Letterbox, frame_size, letterbox


class FaceDetectConfig(Config, frozen=True):
    """Which network, and what counts as a face."""

    model: Annotated[
        Literal["short", "full", "back"],
        Meta(description="short: within 2 m, fastest; full: within 5 m; back: small faces"),
    ] = "full"
    min_score: Annotated[
        float, Meta(ge=0.05, le=1, description="0.05 takes nearly anything, 1 nothing"), TUNABLE
    ] = 0.5
    blend_iou: Annotated[
        float, Meta(gt=0, le=1, description="candidates overlapping more become one face")
    ] = 0.3
    min_face_px: Annotated[
        float, Meta(ge=0, description="narrower faces are left out; 0 keeps all"), TUNABLE
    ] = 16
    max_faces: Annotated[int, Meta(ge=1, le=256, description="best scores first")] = 32


class FaceDetect(Operator[FaceDetectConfig]):
    """Adds one `Face` record per face, best score first. Pixels and stamps pass unchanged."""

    preload = ("ai_edge_litert.interpreter",)

    def open(self, ctx: OpContext) -> None:
        self._net = BlazeFace(self.config.model, ctx.threads)

    def process(
        self, frames: Batch[Video]
    ) -> Batch[Annotated[Frame, Caps(media="video", like="frames", label="raw-face")]]:
        """The same frames with `Face` records."""
        return frames.map(self._detect)

    def _detect(self, frame: Frame) -> Frame:
        picture = letterbox(frame, self._net.size_px)
        found = self._net(picture.rgb, self.config.min_score)
        faces = blend_overlapping(found, self.config.blend_iou)
        width, height = frame_size(frame)
        return frame.with_records(*self._records(faces, picture, width, height))

    def _records(
        self, found: Candidates, picture: Letterbox, width: int, height: int
    ) -> list[Face]:
        shift = np.array([picture.left_px, picture.top_px], np.float32)
        limits = np.array([width, height, width, height], np.float32)
        boxes = (found.boxes - np.tile(shift, 2)) / picture.scale
        boxes = np.clip(boxes, 0, limits)
        points = (found.points - shift) / picture.scale
        records = []
        for box, score, marks in zip(boxes, found.scores, points, strict=True):
            left, top, right, bottom = (float(round(value, 2)) for value in box.tolist())
            if right - left < max(self.config.min_face_px, 1) or bottom - top < 1:
                continue
            marked = tuple((round(x, 2), round(y, 2)) for x, y in marks.tolist())
            records.append(Face((left, top, right, bottom), round(float(score), 4), marked))
        return records[: self.config.max_faces]
