"""Another size: letterboxed, cropped or stretched, 4:2:0 plane by plane. Records move along."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

import cv2
import msgspec
import numpy as np
from msgspec import Meta

from engine import Caps, Config, Frame, OpContext, Operator
from engine.pool import BufferPool
from operators.ports import Video
from operators.video.layers import Layer, Placement, layers_of, move_records, shape_of
from operators.video.yuv import frame_size

POOL_FRAMES = 16
Fit = Literal["letterbox", "crop", "stretch"]
Side = Annotated[int, Meta(ge=2, le=16_384, multiple_of=2, description="pixels, even")]


class ResizeConfig(Config, frozen=True):
    """The new size, and what happens when its aspect is another."""

    width: Side
    height: Side
    fit: Annotated[
        Fit,
        Meta(description="letterbox: black bars; crop: the middle is kept; stretch: distorted"),
    ] = "letterbox"


class Window(NamedTuple):
    """A rectangle of the old frame and the one of the new frame that it fills: x, y, w, h."""

    source: tuple[int, int, int, int]
    target: tuple[int, int, int, int]


class Resize(Operator[ResizeConfig]):
    """Frames of the wanted size in the same format; one that has it already passes as it is."""

    @classmethod
    def output_caps(cls, config: Any, port: str) -> Caps:
        return Caps(media="video", width=config.width, height=config.height, like="frames")

    def open(self, ctx: OpContext) -> None:
        self._pool = BufferPool(POOL_FRAMES)

    def process(self, frames: Video) -> Annotated[Frame, Caps(media="video", like="frames")]:
        """The same moment in another size, records in its pixels."""
        config = self.config
        size = frame_size(frames)
        if size == (config.width, config.height):
            return frames
        caps = msgspec.structs.replace(frames.caps, width=config.width, height=config.height)
        shape = shape_of(caps.pix_fmt or "", config.width, config.height)
        array = self._pool.take(shape, np.uint8)
        window = fit_window(size, (config.width, config.height), config.fit)
        olds, news = layers_of(frames.data, frames.caps), layers_of(array, caps)
        for old, new in zip(olds, news, strict=True):
            _fill(new, old, window)
        placed = move_records(frames, _placement(window))
        return placed.with_data(array, caps)


def fit_window(old: tuple[int, int], new: tuple[int, int], fit: Fit) -> Window:
    """Which part goes where; all numbers even, so that 4:2:0 planes have their halves."""
    whole_old, whole_new = (0, 0, *old), (0, 0, *new)
    if fit == "stretch":
        return Window(whole_old, whole_new)
    if fit == "letterbox":
        return Window(whole_old, _middle(new, old))
    return Window(_middle(old, new), whole_new)


def _middle(frame: tuple[int, int], aspect: tuple[int, int]) -> tuple[int, int, int, int]:
    """The largest rectangle in `frame` with the shape of `aspect`, in the middle."""
    scale = min(frame[0] / aspect[0], frame[1] / aspect[1])
    width, height = (
        min(max(2 * round(part * scale / 2), 2), whole)
        for part, whole in zip(aspect, frame, strict=True)
    )
    left, top = (frame[0] - width) // 4 * 2, (frame[1] - height) // 4 * 2
    return left, top, width, height


def _fill(new: Layer, old: Layer, window: Window) -> None:
    from_x, from_y, from_w, from_h = (value // old.divisor for value in window.source)
    x, y, w, h = (value // new.divisor for value in window.target)
    part = old.array[from_y : from_y + from_h, from_x : from_x + from_w]
    if (w, h) != (new.array.shape[1], new.array.shape[0]):
        new.array[:] = new.black
    shrinks = from_w > w or from_h > h
    filtering = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    new.array[y : y + h, x : x + w] = cv2.resize(part, (w, h), interpolation=filtering)


def _placement(window: Window) -> Placement:
    from_x, from_y, from_w, from_h = window.source
    x, y, w, h = window.target
    scale_x, scale_y = w / from_w, h / from_h
    return Placement(scale_x, scale_y, x - from_x * scale_x, y - from_y * scale_y)
