"""Boxes and labels onto YUV 4:2:0 frames, without a conversion: luma by pixel, chroma by four."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from operators.kernels.launching import On, check, launch, sent
from operators.video.yuv import yuv_matrix

I32 = npt.NDArray[np.int32]
U8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Box:
    """The rim of a rectangle, `line_px` wide, drawn inwards, in one colour (Y, U, V)."""

    left: int
    top: int
    width: int
    height: int
    line_px: int
    yuv: tuple[int, int, int]

    def __post_init__(self) -> None:
        if min(self.width, self.height, self.line_px) < 1:
            raise ValueError(f"a box of {self.width}x{self.height} with a line of {self.line_px}")


@dataclass(frozen=True)
class Label:
    """A picture with transparency: [4, H, W] uint8, alpha, Y, U, V of each pixel."""

    left: int
    top: int
    ayuv: U8

    def __post_init__(self) -> None:
        if self.ayuv.ndim != 3 or len(self.ayuv) != 4 or 0 in self.ayuv.shape:
            raise ValueError(f"a label of shape {self.ayuv.shape}, not [4, H, W]")

    @classmethod
    def of_rgba(
        cls, left: int, top: int, rgba: U8, colorspace: str | None, color_range: str | None
    ) -> Label:
        """Of a picture [H, W, 4] uint8 that was drawn before, for frames of these colours."""
        if rgba.ndim != 3 or rgba.shape[2] != 4:
            raise ValueError(f"a label of shape {rgba.shape}, not [H, W, 4]")
        matrix, offset = yuv_matrix(colorspace, color_range)
        yuv = (rgba[..., :3] - offset) @ np.linalg.inv(matrix).T
        planes = np.moveaxis(np.rint(np.clip(yuv, 0, 255)), 2, 0)
        return cls(left, top, np.concatenate([rgba[None, ..., 3], planes]).astype(np.uint8))

    @property
    def width(self) -> int:
        return int(self.ayuv.shape[2])

    @property
    def height(self) -> int:
        return int(self.ayuv.shape[1])


@dataclass(frozen=True)
class Stroke:
    """A line of any form in one colour (Y, U, V): [H, W] uint8, its share of each pixel."""

    left: int
    top: int
    alpha: U8
    yuv: tuple[int, int, int]

    def __post_init__(self) -> None:
        if self.alpha.ndim != 2 or 0 in self.alpha.shape:
            raise ValueError(f"a stroke of shape {self.alpha.shape}, not [H, W]")

    @property
    def width(self) -> int:
        return int(self.alpha.shape[1])

    @property
    def height(self) -> int:
        return int(self.alpha.shape[0])


Shape = Box | Label | Stroke


def table_of(shapes: Sequence[Shape]) -> tuple[I32, U8, I32]:
    """(shapes [n, 8], labels [bytes], starts [n]) as the kernel reads them."""
    rows, pixels, starts, start = [], [], [], 0
    for shape in shapes:
        line, yuv, drawn = _row(shape)
        rows.append((shape.left, shape.top, shape.width, shape.height, line, *yuv))
        starts.append(start)
        pixels.append(drawn.ravel())
        start += drawn.size
    flat = np.concatenate([*pixels, np.zeros(1, np.uint8)])  # never empty
    return np.array(rows, np.int32).reshape(-1, 8), flat, np.array(starts, np.int32)


def _row(shape: Shape) -> tuple[int, tuple[int, int, int], U8]:
    """What the kernel is told of a shape: line, colour, pixels of its own."""
    if isinstance(shape, Box):
        return shape.line_px, shape.yuv, np.zeros(0, np.uint8)
    if isinstance(shape, Stroke):
        return -1, shape.yuv, shape.alpha
    return 0, (0, 0, 0), shape.ayuv


def bytes_moved(shapes: Sequence[Shape]) -> int:
    """Read and written: of the frame what shapes touch, twice; labels once."""
    total = 0
    for shape in shapes:
        inner = 0
        if isinstance(shape, Box):
            inner = max(shape.width - 2 * shape.line_px, 0) * max(
                shape.height - 2 * shape.line_px, 0
            )
        touched = shape.width * shape.height - inner
        total += 3 * touched + _row(shape)[2].size
    return total


def overlay(
    frame: Any, shapes: Sequence[Shape], size: tuple[int, int], pix_fmt: str, on: On
) -> None:
    """Draws in order, later shapes on top, onto `frame` [H*3/2, W] uint8, yuv420p or nv12. An array
    as `memory_of` takes it. ValueError for others.
    """
    width, height = size
    if pix_fmt not in {"yuv420p", "nv12"} or width % 2 or height % 2:
        raise ValueError(f"{pix_fmt} of {width}x{height}: yuv420p or nv12 of even sizes")
    check("frame", frame, (height * 3 // 2, width), "uint8")
    left, top, right, bottom = _touched(shapes, size)
    if left >= right or top >= bottom:
        return
    tables = [sent(array, on) for array in table_of(shapes)]
    begin = (left // 2, top // 2)
    launch(
        "overlay",
        ((right + 1) // 2 - begin[0], (bottom + 1) // 2 - begin[1], 1),
        (frame, *tables, len(shapes), *begin, width, height, pix_fmt == "nv12"),
        on,
    )


def _touched(shapes: Sequence[Shape], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of what holds all shapes, in the frame."""
    if not shapes:
        return 0, 0, 0, 0
    return (
        max(min(shape.left for shape in shapes), 0),
        max(min(shape.top for shape in shapes), 0),
        min(max(shape.left + shape.width for shape in shapes), size[0]),
        min(max(shape.top + shape.height for shape in shapes), size[1]),
    )


def overlay_twin(frame: U8, shapes: Sequence[Shape], size: tuple[int, int], pix_fmt: str) -> U8:
    """The frame with the shapes on it. Within 1 level of the kernel's for each shape on a pixel."""
    width, height = size
    made = frame.copy()
    for shape in shapes:
        alpha, y, u, v = _layers(shape, width, height)
        luma = made[:height]
        luma[:] = _blended(luma, alpha, y * alpha)
        cover = alpha.reshape(height // 2, 2, width // 2, 2)
        share = cover.mean(axis=(1, 3))
        chroma = made[height:]
        if pix_fmt == "nv12":
            planes = np.moveaxis(chroma.reshape(height // 2, width // 2, 2), 2, 0)
        else:
            planes = chroma.reshape(2, height // 2, width // 2)
        for plane, colour in zip(planes, (u, v), strict=True):
            added = (colour * alpha).reshape(cover.shape).mean(axis=(1, 3))
            plane[:] = _blended(plane, share, added)
    return made


def _blended(plane: U8, alpha: npt.NDArray[np.float64], added: npt.NDArray[np.float64]) -> U8:
    return np.asarray(np.rint(np.clip(plane * (1 - alpha) + added, 0, 255)), np.uint8)


def _layers(shape: Shape, width: int, height: int) -> npt.NDArray[np.float64]:
    """[4, H, W]: alpha 0 to 1, Y, U, V of a shape over the whole frame."""
    if isinstance(shape, Box):
        mine = np.zeros((4, shape.height, shape.width))
        mine[0] = 1
        line = shape.line_px
        mine[0, line : shape.height - line, line : shape.width - line] = 0
        mine[1:] = np.array(shape.yuv)[:, None, None]
    elif isinstance(shape, Stroke):
        mine = np.empty((4, shape.height, shape.width))
        mine[0] = shape.alpha / 255.0
        mine[1:] = np.array(shape.yuv)[:, None, None]
    else:
        mine = shape.ayuv / np.array([255.0, 1, 1, 1])[:, None, None]
    whole = np.zeros((4, height, width))
    x0, y0 = max(shape.left, 0), max(shape.top, 0)
    x1, y1 = min(shape.left + shape.width, width), min(shape.top + shape.height, height)
    if x0 < x1 and y0 < y1:
        cut = np.s_[:, y0 - shape.top : y1 - shape.top, x0 - shape.left : x1 - shape.left]
        whole[:, y0:y1, x0:x1] = mine[cut]
    return whole
