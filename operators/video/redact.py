"""Make faces unrecognisable: only the mean colours of a few cells across a face are left of it."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import cv2
import numpy as np
from msgspec import Meta

from engine import Caps, Config, Frame, OpContext, Operator
from engine.pool import BufferPool
from operators.face.records import Box, Face, Landmarks, Track
from operators.ports import Video
from operators.video.layers import Layer, layers_of
from operators.video.yuv import frame_size

POOL_FRAMES = 16
FILTERS = {"pixelate": cv2.INTER_NEAREST, "blur": cv2.INTER_LINEAR}


class RedactConfig(Config, frozen=True):
    """What is hidden and how. Nothing can be tuned while running: privacy is no dial."""

    mode: Annotated[
        Literal["pixelate", "blur"],
        Meta(description="both keep the same few means; blur blends from one to the next"),
    ] = "pixelate"
    what: Annotated[
        Literal["faces", "tracks", "both"],
        Meta(description="faces: as detected; tracks: also where a face is expected unseen"),
    ] = "both"
    margin: Annotated[
        float, Meta(ge=0, le=1, description="of the box's sides, added on each; 0 hides the box")
    ] = 0.25
    cells: Annotated[
        int, Meta(ge=1, le=12, description="means kept across a face; 1 leaves one colour")
    ] = 6


class Redact(Operator[RedactConfig]):
    """Hides faces on a copy. Their pixels are averaged away, so nothing can bring them back.

    Meshes are dropped too: the shape of a face tells whose it is. Boxes and points stay. A face
    that no record names stays visible; place a detector, better a tracker as well, before this.
    """

    def open(self, ctx: OpContext) -> None:
        self._pool = BufferPool(POOL_FRAMES)

    def process(
        self, frames: Video
    ) -> Annotated[Frame, Caps(media="video", like="frames", cleans="raw-face")]:
        """Same size and format; every face named by a record is hidden."""
        clean = frames.without_records(Landmarks)
        boxes = self._boxes(frames)
        if not boxes:
            return clean
        array = self._pool.take(frames.data.shape, frames.data.dtype)
        np.copyto(array, frames.data)
        layers = layers_of(array, frames.caps)
        for box in boxes:
            self._hide(layers, box, frame_size(frames))
        return clean.with_data(array)

    def _boxes(self, frame: Frame) -> list[Box]:
        boxes = [face.box for face in frame.of(Face)] if self.config.what != "tracks" else []
        if self.config.what != "faces":
            boxes += [track.box for track in frame.of(Track)]
        return list(dict.fromkeys(boxes))  # a track has the box of the face that it followed

    def _hide(self, layers: list[Layer], box: Box, size: tuple[int, int]) -> None:
        left, top, right, bottom = widened(box, self.config.margin, size)
        if right <= left or bottom <= top:
            return
        sides = box[2] - box[0], box[3] - box[1]
        cell_px = max(sides) / self.config.cells
        # By the box itself: rounding its edges outwards must not bring more cells into the face.
        grown = 1 + 2 * self.config.margin
        columns = max(math.floor(min(right - left, sides[0] * grown) / cell_px), 1)
        rows = max(math.floor(min(bottom - top, sides[1] * grown) / cell_px), 1)
        for array, divisor, _ in layers:
            part = array[top // divisor : bottom // divisor, left // divisor : right // divisor]
            cells = (min(columns, part.shape[1]), min(rows, part.shape[0]))
            means = cv2.resize(part, cells, interpolation=cv2.INTER_AREA)
            whole = (part.shape[1], part.shape[0])
            part[:] = cv2.resize(means, whole, interpolation=FILTERS[self.config.mode])


def widened(box: Box, margin: float, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The box with its margin, outwards to even pixels, cut at the frame: empty when outside."""
    aside, above = (box[2] - box[0]) * margin, (box[3] - box[1]) * margin
    left, top = (2 * math.floor(edge / 2) for edge in (box[0] - aside, box[1] - above))
    right, bottom = (2 * math.ceil(edge / 2) for edge in (box[2] + aside, box[3] + above))
    return max(left, 0), max(top, 0), min(right, size[0]), min(bottom, size[1])
