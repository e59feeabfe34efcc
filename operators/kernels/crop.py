"""Faces out of frames: N turned and scaled squares of M frames to RGB planes, in one launch.

As `operators.video.warp.warp_rgb` cuts them, followed by a network's normalisation; it rounds to
whole levels between its steps, the kernel does not. What a square shows does not depend on those
beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from operators.kernels.launching import (
    OUT_BYTES,
    On,
    Out,
    check,
    constant,
    launch,
    room,
    rounded,
    sent,
)
from operators.kernels.sampling import between, places
from operators.video.warp import invert, oversampling
from operators.video.yuv import yuv_matrix

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
U8 = npt.NDArray[np.uint8]
LAYOUTS = {"yuv420p": 0, "nv12": 1, "rgb24": 2}


@dataclass(frozen=True)
class Squares:
    """What frames of one kind are cut into. ValueError for what cannot be.

    Beyond the frame is its mirror image, or black. v of RGB, 0 to 255, becomes v * scale + shift.
    """

    width: int
    height: int
    size_px: int
    pix_fmt: str = "nv12"
    colorspace: str | None = None
    color_range: str | None = None
    mirrored: bool = True
    scale: tuple[float, float, float] = (1 / 255, 1 / 255, 1 / 255)
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    out: Out = "float32"

    def __post_init__(self) -> None:
        if self.pix_fmt not in LAYOUTS:
            raise ValueError(f"frames of {self.pix_fmt}; {', '.join(LAYOUTS)} can be read")
        if self.size_px < 1 or min(self.width, self.height) < 2:
            raise ValueError(f"squares of {self.size_px} out of {self.width}x{self.height}")
        if self.pix_fmt != "rgb24" and (self.width % 2 or self.height % 2):
            raise ValueError(f"4:2:0 frames of {self.width}x{self.height}: even sizes only")

    @cached_property
    def numbers(self) -> F32:
        """[19]: matrix, offset, scale, shift, and the luma of black, as the kernel reads them."""
        if self.pix_fmt == "rgb24":
            matrix, offset, black = np.eye(3), np.zeros(3), 0.0
        else:
            matrix, offset = yuv_matrix(self.colorspace, self.color_range)
            black = 0.0 if self.color_range == "full" else 16.0
        parts = (matrix.ravel(), offset, self.scale, self.shift, (black,))
        return np.concatenate(parts).astype(np.float32)

    @property
    def frame_shape(self) -> tuple[int, ...]:
        if self.pix_fmt == "rgb24":
            return self.height, self.width, 3
        return self.height * 3 // 2, self.width

    def bytes_moved(self, matrices: F64) -> int:
        """Read and written for these squares: of the frames the pixels that they show, once."""
        per_pixel = 3 if self.pix_fmt == "rgb24" else 1.5
        pixels = self.size_px**2
        shown = sum(pixels / abs(float(np.linalg.det(matrix[:, :2]))) for matrix in matrices)
        read = min(shown, len(matrices) * self.width * self.height) * per_pixel
        return round(read) + len(matrices) * 3 * pixels * OUT_BYTES[self.out]


class CropKernel:
    """The kernel for one kind of `Squares`, on one device."""

    def __init__(self, squares: Squares, device: int = 0) -> None:
        self.squares = squares
        self._device = device
        self._numbers = constant(squares.numbers, device)

    def __call__(
        self, frames: Any, matrices: F64, crops: Any, stream: int, of: Sequence[int] | None = None
    ) -> Any:
        """frames [H*3/2, W] or [H, W, 3] uint8, or M of them; matrices [n, 2, 3], frame -> square
        pixels; crops [n, 3, S, S] of `squares.out`, made where None is given; `of` [n]: the frame
        that each square is of, the first where it is not given. Arrays as `memory_of` takes them.
        ValueError for others, and for a frame that is not there.
        """
        kind, on = self.squares, On(stream, self._device)
        shape, wanted = kind.frame_shape, (len(matrices), 3, kind.size_px, kind.size_px)
        count = frames.shape[0] if len(frames.shape) > len(shape) else 1
        if crops is None:
            crops = room(wanted, kind.out, on)
        check("frames", frames, (*frames.shape[: -len(shape)], *shape), "uint8")
        check("crops", crops, wanted, kind.out)
        table = from_of(matrices, of, count)
        if not len(matrices):
            return crops
        launch(
            "crop",
            (kind.size_px, kind.size_px, len(matrices)),
            (
                frames, crops, sent(maps_of(matrices), on), sent(table, on), self._numbers,
                kind.width, kind.height, LAYOUTS[kind.pix_fmt], kind.size_px, kind.mirrored,
            ),
            on,
            kind.out,
        )  # fmt: skip
        return crops


def maps_of(matrices: F64) -> F32:
    """[n, 2, 3] -> [n, 6]: the ways back, as kernels read them."""
    return np.array([invert(m).ravel() for m in matrices], np.float32).reshape(-1, 6)


def from_of(matrices: F64, of: Sequence[int] | None, count: int) -> I32:
    """[n, 2]: each square's frame, and its samples each way per pixel."""
    which = [0] * len(matrices) if of is None else list(of)
    if len(which) != len(matrices) or not all(0 <= one < count for one in which):
        raise ValueError(f"{len(matrices)} squares of frames {which}; there are {count} frames")
    over = [oversampling(matrix) for matrix in matrices]
    return np.array([which, over], np.int32).T.reshape(-1, 2)


def crop_twin(frames: U8, matrices: F64, squares: Squares, of: Sequence[int] | None = None) -> F32:
    """[n, 3, S, S], float32 holding what `squares.out` can. Within 0.1 level of 255 of the kernel,
    and one step of `squares.out`.
    """
    several = frames if frames.ndim > len(squares.frame_shape) else frames[None]
    table = from_of(matrices, of, len(several))
    made = [
        _square(several[which], way, int(over), squares)
        for way, (which, over) in zip(maps_of(matrices), table, strict=True)
    ]
    return np.stack(made) if made else np.zeros((0, 3, *(squares.size_px,) * 2), np.float32)


def _square(frame: U8, way: F32, over: int, squares: Squares) -> F32:
    k = squares.numbers
    y, x = np.mgrid[: squares.size_px, : squares.size_px].astype(np.float32)
    layers = _layers(frame, squares, float(k[18]))
    sums = np.zeros((3, *x.shape), np.float32)
    steps = (np.arange(over, dtype=np.float32) + np.float32(0.5)) / np.float32(over)
    for down in steps:
        for across in steps:
            fx, fy = places(way, x + across - np.float32(0.5), y + down - np.float32(0.5))
            for c, (plane, divisor, black) in enumerate(layers):
                centre = np.float32((divisor - 1) / 2)
                px, py = (fx - centre) / np.float32(divisor), (fy - centre) / np.float32(divisor)
                sums[c] += between(plane, px, py, "mirror" if squares.mirrored else black)
    rgb = np.einsum("cp,phw->chw", k[:9].reshape(3, 3), sums / np.float32(over * over))
    rgb = np.clip(rgb + k[9:12, None, None], 0, 255)
    return rounded(rgb * k[12:15, None, None] + k[15:18, None, None], squares.out)


def _layers(frame: U8, squares: Squares, black: float) -> list[tuple[U8, int, float]]:
    """(plane, frame pixels per pixel of it, its black)."""
    if squares.pix_fmt == "rgb24":
        return [(frame[:, :, c], 1, 0.0) for c in range(3)]
    luma, chroma = frame[: squares.height], frame[squares.height :]
    half = (squares.height // 2, squares.width // 2)
    if squares.pix_fmt == "nv12":
        blue, red = np.moveaxis(chroma.reshape(*half, 2), 2, 0)
    else:
        blue, red = chroma.reshape(2, *half)
    return [(luma, 1, black), (blue, 2, 128.0), (red, 2, 128.0)]
