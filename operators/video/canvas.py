"""Drawing in place: on the planes of 4:2:0 video, or on one interleaved picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from engine import Caps, CapsError, Frame
from operators.face.records import Box, Point
from operators.video.yuv import frame_size, planes_of, rgb_to_yuv

RGB = tuple[int, int, int]
U8 = npt.NDArray[np.uint8]
FONT = cv2.FONT_HERSHEY_DUPLEX
SHIFT = 3  # OpenCV takes coordinates in eighths of a pixel, 0 in the middle of the first
BLACK: RGB = (16, 16, 16)
# What can be drawn on: here on the host, in `kernel_canvas` on a GPU.
ON_HOST = Caps(media="video", pix_fmt="yuv420p|nv12|rgb24|bgr24|gray", dtype="uint8", device="node")
ON_GPU = Caps(pix_fmt="yuv420p|nv12")
Drawable = Annotated[Frame, ON_HOST]
ARC_STEPS = 4
# A quarter of a circle for each corner: lower right, lower left, upper left, upper right.
ARCS = tuple(
    tuple(
        (math.cos(turn), math.sin(turn))
        for turn in np.linspace(corner, corner + 1, ARC_STEPS + 1) * (math.pi / 2)
    )
    for corner in range(4)
)


class Canvas(Protocol):
    """Coordinates are frame pixels; colours RGB 0 to 255. What lies outside is cut off."""

    def box(self, box: Box, colour: RGB, thickness_px: int) -> None: ...
    def line(self, way: Sequence[Point], colour: RGB, thickness_px: int) -> None: ...
    def dot(self, centre: Point, radius_px: int, colour: RGB) -> None: ...
    def label(
        self, anchor: Point, text: str, scale: float, back: RGB, ink: RGB = BLACK
    ) -> None: ...


class _Layer:
    """One array to draw on, with its own colours and its own size relative to the frame."""

    def __init__(self, array: U8, factor: float, value: Any) -> None:
        self.array = array
        self.factor = factor
        self.value = value  # RGB -> what goes into this array
        self._centre = (1 - factor) / 2  # of its first pixel in its own pixels, seen by the frame

    def places(self, frame_px: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Places in the frame as OpenCV's fixed point in this array."""
        return (frame_px * self.factor - self._centre) * (1 << SHIFT)


class LayeredCanvas:
    """Draws the same shapes on every layer, anti-aliased (by OpenCV not on nv12's chroma)."""

    def __init__(self, layers: list[_Layer], width: int, height: int) -> None:
        self._layers = layers
        self._size = (width, height)

    def box(self, box: Box, colour: RGB, thickness_px: int) -> None:
        self._polyline(rounded(box, 3 * thickness_px), colour, thickness_px, closed=True)

    def line(self, way: Sequence[Point], colour: RGB, thickness_px: int) -> None:
        self._polyline(way, colour, thickness_px, closed=False)

    def dot(self, centre: Point, radius_px: int, colour: RGB) -> None:
        for layer in self._layers:
            column, row = np.rint(layer.places(np.array(centre))).astype(int).tolist()
            radius = max(round(radius_px * layer.factor), 1)
            cv2.circle(
                layer.array,
                (column, row),
                radius << SHIFT,
                layer.value(colour),
                -1,
                cv2.LINE_AA,
                SHIFT,
            )

    def label(self, anchor: Point, text: str, scale: float, back: RGB, ink: RGB = BLACK) -> None:
        """A filled tag with its lower left corner at `anchor`, moved inside the picture."""
        x, y, mask = tag(anchor, text, scale, self._size)
        for layer in self._layers:
            small: U8 = mask
            if layer.factor != 1:
                half = (mask.shape[1] // 2, mask.shape[0] // 2)
                small = np.asarray(cv2.resize(mask, half, interpolation=cv2.INTER_AREA), np.uint8)
            column, row = int(x * layer.factor), int(y * layer.factor)
            part = layer.array[row : row + small.shape[0], column : column + small.shape[1]]
            _blend(part, small[: part.shape[0], : part.shape[1]], layer.value, back, ink)

    def _polyline(
        self, way: Sequence[Point], colour: RGB, thickness_px: int, *, closed: bool
    ) -> None:
        places = np.array(way)
        for layer in self._layers:
            thick = max(round(thickness_px * layer.factor), 1)
            corners = np.rint(layer.places(places)).astype(np.int32)
            value = layer.value(colour)
            cv2.polylines(layer.array, [corners], closed, value, thick, cv2.LINE_AA, SHIFT)


def tag(anchor: Point, text: str, scale: float, size: tuple[int, int]) -> tuple[int, int, U8]:
    """Where the text goes, moved inside a picture of `size`, and its coverage, cut to it."""
    mask = text_mask(text, round(max(scale, 0.25) * 20) / 20)
    height, width = mask.shape
    x = round(min(max(anchor[0], 0), max(size[0] - width, 0)))
    y = round(min(max(anchor[1] - height, 0), max(size[1] - height, 0)))
    x, y = x - x % 2, y - y % 2  # chroma has half the resolution
    return x, y, mask[: size[1] - y, : size[0] - x]


def make_canvas(frame: Frame, array: U8) -> Canvas:
    """A canvas on `array`, a writable copy of the frame's pixels."""
    caps = frame.caps
    width, height = frame_size(frame)

    def yuv(part: slice) -> Any:
        return lambda rgb: _yuv(rgb, caps.colorspace, caps.color_range)[part]

    if caps.pix_fmt == "yuv420p":
        luma, *chroma = planes_of(array, width, height)
        layers = [_Layer(luma, 1.0, yuv(slice(1)))]
        layers += [_Layer(plane, 0.5, yuv(slice(n, n + 1))) for n, plane in enumerate(chroma, 1)]
    elif caps.pix_fmt == "nv12":
        together = array[height:].reshape(height // 2, width // 2, 2)
        layers = [
            _Layer(array[:height], 1.0, yuv(slice(1))),
            _Layer(together, 0.5, yuv(slice(1, 3))),
        ]
    elif caps.pix_fmt == "rgb24":
        layers = [_Layer(array, 1.0, lambda rgb: rgb)]
    elif caps.pix_fmt == "bgr24":
        layers = [_Layer(array, 1.0, lambda rgb: rgb[::-1])]
    elif caps.pix_fmt == "gray":
        layers = [_Layer(array, 1.0, lambda rgb: _yuv(rgb, "bt601", "full")[0])]
    else:
        raise CapsError(f"cannot draw on {caps.pix_fmt}: {ON_HOST.pix_fmt} are understood")
    return LayeredCanvas(layers, width, height)


def rounded(box: Box, radius_px: float) -> list[Point]:
    """The outline of the box with round corners, clockwise."""
    left, top, right, bottom = box
    radius = min(radius_px, (right - left) / 4, (bottom - top) / 4)
    middles = (
        (right - radius, bottom - radius),
        (left + radius, bottom - radius),
        (left + radius, top + radius),
        (right - radius, top + radius),
    )
    return [
        (x + radius * cosine, y + radius * sine)
        for (x, y), arc in zip(middles, ARCS, strict=True)
        for cosine, sine in arc
    ]


@lru_cache(maxsize=512)
def text_mask(text: str, scale: float) -> U8:
    """[H, W] coverage of the text 0 to 255 with a margin around; even sides."""
    thickness = max(round(scale * 1.6), 1)
    (width, height), descent = cv2.getTextSize(text, FONT, scale, thickness)
    margin = max(round(8 * scale), 2)
    rows, columns = height + descent + 2 * margin, width + 2 * margin
    mask = np.zeros((rows + rows % 2, columns + columns % 2), np.uint8)
    cv2.putText(
        mask, text, (margin, margin + height), FONT, scale, 255, thickness, cv2.LINE_AA
    )  # fmt: skip
    mask.flags.writeable = False
    return mask


@lru_cache(maxsize=1024)
def _yuv(rgb: RGB, colorspace: str | None, color_range: str | None) -> RGB:
    return rgb_to_yuv(rgb, colorspace, color_range)


def _blend(part: U8, mask: U8, value: Any, back: RGB, ink: RGB) -> None:
    """part = back where the mask is 0, ink where it is 255."""
    paper, pen = np.array(value(back), np.float32), np.array(value(ink), np.float32)
    cover = mask.astype(np.float32) / 255
    if part.ndim == 3:
        cover = cover[..., None]
    part[:] = paper + cover * (pen - paper) + 0.5
