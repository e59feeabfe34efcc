"""Make faces unrecognisable: only the mean colours of a few cells across a face are left of it."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from engine import Caps, Config, Frame, OpContext, Operator, OperatorError
from engine.pool import BufferPool
from operators.face.records import Box, Face, Landmarks, Point, Track, Unsearched
from operators.ports import Video
from operators.video.layers import Layer, layers_of
from operators.video.yuv import frame_size

POOL_FRAMES = 16
Mask = npt.NDArray[np.bool_]
Places = npt.NDArray[np.floating[Any]]
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
    shape: Annotated[
        Literal["box", "ellipse"],
        Meta(description="ellipse: one around the box, around the mesh where the face has one"),
    ] = "box"
    margin: Annotated[
        float, Meta(ge=0, le=1, description="of the box's sides, added on each; 0 hides the box")
    ] = 0.25
    cells: Annotated[
        int, Meta(ge=1, le=12, description="means kept across a face; 1 leaves one colour")
    ] = 6


class Ellipse(NamedTuple):
    """A turned ellipse in frame pixels."""

    centre: Point
    half: Point  # half axes
    angle: float  # radians, of the first axis from x towards y

    def bounds(self) -> Box:
        cosine, sine = math.cos(self.angle), math.sin(self.angle)
        x = math.hypot(self.half[0] * cosine, self.half[1] * sine)
        y = math.hypot(self.half[0] * sine, self.half[1] * cosine)
        return self.centre[0] - x, self.centre[1] - y, self.centre[0] + x, self.centre[1] + y

    def covers(self, x: Places, y: Places) -> Mask:
        """Which places are inside; x and y are broadcast."""
        right, down = x - self.centre[0], y - self.centre[1]
        cosine, sine = math.cos(self.angle), math.sin(self.angle)
        along = (right * cosine + down * sine) / self.half[0]
        across = (down * cosine - right * sine) / self.half[1]
        return np.asarray(along**2 + across**2 <= 1)


class Region(NamedTuple):
    """What is hidden for one record."""

    bounds: Box
    cell_px: float
    outline: Ellipse | None  # None: all of the bounds


class Redact(Operator[RedactConfig]):
    """Hides faces on a copy. Their pixels are averaged away, so nothing can bring them back.

    Meshes are dropped too: the shape of a face tells whose it is. Boxes and points stay. A face
    that no record names stays visible; place a detector, better a tracker as well, before this.
    Frames that the detector did not search are refused: they may show somebody new.
    """

    def open(self, ctx: OpContext) -> None:
        self._pool = BufferPool(POOL_FRAMES)

    def process(
        self, frames: Video
    ) -> Annotated[Frame, Caps(media="video", like="frames", cleans="raw-face")]:
        """Same size and format; every face named by a record is hidden."""
        if frames.of(Unsearched):
            message = "nobody searched this frame for faces; set every_n of the detector to 1"
            raise OperatorError("UNSEARCHED", message)
        clean = frames.without_records(Landmarks)
        regions = self._regions(frames)
        if not regions:
            return clean
        array = self._pool.take(frames.data.shape, frames.data.dtype)
        np.copyto(array, frames.data)
        layers = layers_of(array, frames.caps)
        for region in regions:
            self._hide(layers, region, frame_size(frames))
        return clean.with_data(array)

    def _regions(self, frame: Frame) -> list[Region]:
        meshes = {mesh.face: mesh for mesh in frame.of(Landmarks)}
        surfaces: dict[Box, list[Point]] = {}  # a track has the box of the face that it followed
        faces = frame.of(Face)
        for index, face in enumerate(faces):
            mesh = meshes.get(index)
            surface = [*face.points, *((x, y) for x, y, _ in mesh.points)] if mesh else []
            surfaces[face.box] = surface
        boxes = [face.box for face in faces] if self.config.what != "tracks" else []
        if self.config.what != "faces":
            boxes += [track.box for track in frame.of(Track)]
        return [self._region(box, surfaces.get(box, [])) for box in dict.fromkeys(boxes)]

    def _region(self, box: Box, surface: list[Point]) -> Region:
        margin = self.config.margin
        cell_px = max(box[2] - box[0], box[3] - box[1]) / self.config.cells
        if self.config.shape == "box":
            return Region(grown(box, margin), cell_px, None)
        outline = around_points(surface, margin) if surface else around_box(box, margin)
        return Region(outline.bounds(), cell_px, outline)

    def _hide(self, layers: list[Layer], region: Region, size: tuple[int, int]) -> None:
        bounds, cell_px = region.bounds, region.cell_px
        left, top, right, bottom = outwards(bounds, size)
        if right <= left or bottom <= top or cell_px <= 0:
            return
        # By the exact bounds: rounding them outwards must not bring more cells into the face.
        columns = max(math.floor(min(right - left, bounds[2] - bounds[0]) / cell_px), 1)
        rows = max(math.floor(min(bottom - top, bounds[3] - bounds[1]) / cell_px), 1)
        for array, divisor, _ in layers:
            part = array[top // divisor : bottom // divisor, left // divisor : right // divisor]
            height, width = part.shape[:2]
            cells = (min(columns, width), min(rows, height))
            means = cv2.resize(part, cells, interpolation=cv2.INTER_AREA)
            hidden = cv2.resize(means, (width, height), interpolation=FILTERS[self.config.mode])
            if region.outline is None:
                part[:] = hidden
            else:
                inside = _inside(region.outline, (left, top), (width, height), divisor)
                part[inside] = np.asarray(hidden)[inside]


def grown(box: Box, margin: float) -> Box:
    """The box with a margin: a share of its own sides."""
    aside, above = (box[2] - box[0]) * margin, (box[3] - box[1]) * margin
    return box[0] - aside, box[1] - above, box[2] + aside, box[3] + above


def outwards(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The box rounded outwards to even pixels, cut at the frame: empty when it is outside."""
    left, top = (2 * math.floor(edge / 2) for edge in box[:2])
    right, bottom = (2 * math.ceil(edge / 2) for edge in box[2:])
    return max(left, 0), max(top, 0), min(right, size[0]), min(bottom, size[1])


def around_box(box: Box, margin: float) -> Ellipse:
    """An upright ellipse that leaves no corner of the box outside."""
    factor = max(1 + 2 * margin, math.sqrt(2)) / 2
    half = (box[2] - box[0]) * factor, (box[3] - box[1]) * factor
    return Ellipse(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2), half, 0.0)


def around_points(points: list[Point], margin: float) -> Ellipse:
    """An ellipse as turned as the points' narrowest rectangle, around all of them."""
    centre, sides, degrees = cv2.minAreaRect(np.array(points, np.float32))
    half = max(sides[0] / 2, 1.0), max(sides[1] / 2, 1.0)
    angle = math.radians(degrees)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    reach = np.hypot(*((np.array(points) - centre) @ turn / half).T).max()
    factor = max(float(reach), 1.0) * (1 + 2 * margin)
    return Ellipse((centre[0], centre[1]), (half[0] * factor, half[1] * factor), angle)


def _inside(
    outline: Ellipse, corner: tuple[int, int], shape: tuple[int, int], divisor: int
) -> Mask:
    """[H, W] of a plane's part with its upper left at `corner`: pixels inside, edges included."""
    columns, rows = (
        start + (np.arange(count) + 0.5) * divisor
        for start, count in zip(corner, shape, strict=True)
    )
    reach = divisor * math.sqrt(0.5)  # from the middle of a pixel to its corner
    wider = (outline.half[0] + reach, outline.half[1] + reach)
    return outline._replace(half=wider).covers(columns[None], rows[:, None])
