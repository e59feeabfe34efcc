"""Drawing on frames in GPU memory: the host draws masks, one kernel lays them on the frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from engine import CapsError, Frame
from operators.face.records import Box, Point
from operators.kernels.launching import On
from operators.kernels.overlay import Label, Shape, Stroke, overlay
from operators.video.canvas import BLACK, RGB, SHIFT, U8, rounded, tag
from operators.video.yuv import frame_size, rgb_to_yuv

if TYPE_CHECKING:
    from engine.contract import OnDevice


class KernelCanvas:
    """A `Canvas` that collects shapes. As `LayeredCanvas` draws, chroma to within a pixel's half.

    CapsError for frames that are not yuv420p or nv12 of even size.
    """

    def __init__(self, frame: Frame) -> None:
        self.shapes: list[Shape] = []
        self._frame = frame
        self._size = frame_size(frame)
        if frame.caps.pix_fmt not in {"yuv420p", "nv12"} or self._size[0] % 2 or self._size[1] % 2:
            raise CapsError(
                f"cannot draw on {frame.caps.pix_fmt} of {self._size[0]}x{self._size[1]} on a GPU: "
                "yuv420p and nv12 of even sizes are understood"
            )

    def box(self, box: Box, colour: RGB, thickness_px: int) -> None:
        self._polyline(rounded(box, 3 * thickness_px), colour, thickness_px, closed=True)

    def line(self, way: Sequence[Point], colour: RGB, thickness_px: int) -> None:
        self._polyline(way, colour, thickness_px, closed=False)

    def dot(self, centre: Point, radius_px: int, colour: RGB) -> None:
        def fill(mask: U8, places: Any) -> None:
            at = places[0].tolist()
            cv2.circle(mask, at, radius_px << SHIFT, 255, -1, cv2.LINE_AA, SHIFT)

        self._stroke(np.array([centre]), radius_px, colour, fill)

    def label(self, anchor: Point, text: str, scale: float, back: RGB, ink: RGB = BLACK) -> None:
        x, y, mask = tag(anchor, text, scale, self._size)
        if not mask.size:
            return
        paper, pen = (np.array(self._yuv(colour), np.float32) for colour in (back, ink))
        cover = mask.astype(np.float32)[None] / 255
        yuv = paper[:, None, None] + cover * (pen - paper)[:, None, None] + 0.5
        opaque = np.full_like(mask, 255)[None]
        self.shapes.append(Label(x, y, np.concatenate([opaque, yuv.astype(np.uint8)])))

    def drawn(self, gpu: OnDevice) -> Any:
        """A copy of the frame with all shapes on it, as work of the node's stream."""
        made = self._frame.data.array.clone()
        index = int(gpu.device.name.rpartition(":")[2])
        on = On(gpu.stream.handle, index)
        overlay(made, self.shapes, self._size, self._frame.caps.pix_fmt or "", on)
        return made

    def _polyline(
        self, way: Sequence[Point], colour: RGB, thickness_px: int, *, closed: bool
    ) -> None:
        def draw(mask: U8, places: Any) -> None:
            cv2.polylines(mask, [places], closed, 255, thickness_px, cv2.LINE_AA, SHIFT)

        self._stroke(np.array(way), thickness_px, colour, draw)

    def _stroke(self, points: Any, reach_px: int, colour: RGB, draw: Any) -> None:
        """One mask around the points, drawn on by `draw(mask, points in it)`, cut to the frame."""
        low = np.maximum(np.floor(points.min(0)) - reach_px - 1, 0)
        high = np.minimum(np.ceil(points.max(0)) + reach_px + 2, self._size)
        width, height = (int(side) for side in high - low)
        if width < 1 or height < 1:
            return
        mask = np.zeros((height, width), np.uint8)
        draw(mask, np.rint((points - low) * (1 << SHIFT)).astype(np.int32))
        self.shapes.append(Stroke(int(low[0]), int(low[1]), mask, self._yuv(colour)))

    def _yuv(self, colour: RGB) -> RGB:
        caps = self._frame.caps
        return rgb_to_yuv(colour, caps.colorspace, caps.color_range)
