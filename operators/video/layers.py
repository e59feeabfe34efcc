"""A frame's pixels as the arrays they consist of, and where a changed frame puts what was in it."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from engine import Caps, CapsError, Frame, Record
from operators.video.yuv import planes_of, rgb_to_yuv

U8 = npt.NDArray[np.uint8]
Box = tuple[float, float, float, float]


class Layer(NamedTuple):
    """One array [H / divisor, W / divisor(, 3)] of a frame, and what black is in it."""

    array: U8
    divisor: int
    black: int


def layers_of(array: U8, caps: Caps) -> list[Layer]:
    """Views of an array with the layout of `caps`; writable if the array is."""
    if caps.pix_fmt == "yuv420p":
        planes = planes_of(array, caps.width or 0, caps.height or 0)
        black = rgb_to_yuv((0, 0, 0), caps.colorspace, caps.color_range)
        divisors = (1, 2, 2)
        return [Layer(*parts) for parts in zip(planes, divisors, black, strict=True)]
    if caps.pix_fmt in {"rgb24", "bgr24", "gray"}:
        return [Layer(array, 1, 0)]
    raise CapsError(f"pix_fmt {caps.pix_fmt}: yuv420p, rgb24, bgr24 or gray are understood")


def shape_of(pix_fmt: str, width: int, height: int) -> tuple[int, ...]:
    """The shape of the array of a frame."""
    if pix_fmt == "yuv420p":
        return height * 3 // 2, width
    return (height, width) if pix_fmt == "gray" else (height, width, 3)


class Placement(NamedTuple):
    """Where a pixel of the old frame lies in the new one."""

    scale_x: float
    scale_y: float
    left_px: float
    top_px: float

    def point(self, x: float, y: float) -> tuple[float, float]:
        return x * self.scale_x + self.left_px, y * self.scale_y + self.top_px

    def box(self, box: Box) -> Box:
        """The box in the new frame; it may reach beyond it."""
        return (*self.point(box[0], box[1]), *self.point(box[2], box[3]))


@runtime_checkable
class Placed(Protocol):
    """A record that speaks of places in the frame."""

    def moved(self, place: Placement) -> Record:
        """The same record for the changed frame; what it speaks of may lie outside now."""
        ...


def move_records(frame: Frame, place: Placement) -> Frame:
    """The frame with its records moved."""
    moved = tuple(r.moved(place) if isinstance(r, Placed) else r for r in frame.records)
    return Frame(frame.data, frame.caps, frame.stamp, moved)
