"""YUV 4:2:0 to RGB planes of floating point, fitted into a picture and normalised, in one pass.

What detectors want of a frame. The same as `operators.video.yuv.letterbox` with a network's
normalisation behind it: planes are scaled first (averaged over their area when they shrink by more
than two, else between pixels), then converted; the twin differs in rounding planes to whole levels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from operators.kernels.launching import OUT_BYTES, On, Out, check, constant, launch, room, rounded
from operators.video.yuv import yuv_matrix

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]
LAYOUTS = ("yuv420p", "nv12")


@dataclass(frozen=True)
class Fit:
    """How frames of one kind become pictures. ValueError for sizes and layouts that cannot be.

    A value v of RGB, 0 to 255, becomes v * scale + shift; bars are `pad` before that.
    """

    width: int  # of the frames, even
    height: int
    size: tuple[int, int]  # (width, height) of the pictures
    pix_fmt: str = "nv12"
    colorspace: str | None = None
    color_range: str | None = None
    scale: tuple[float, float, float] = (1 / 255, 1 / 255, 1 / 255)
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    out: Out = "float32"
    pad: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        if self.pix_fmt not in LAYOUTS:
            raise ValueError(f"frames of {self.pix_fmt}; {' and '.join(LAYOUTS)} can be read")
        if min(self.width, self.height) < 2 or self.width % 2 or self.height % 2:
            raise ValueError(f"frames of {self.width}x{self.height}: even sizes from 2 on")
        if min(self.size) < 1:
            raise ValueError(f"pictures of {self.size}")

    @property
    def ratio(self) -> float:
        """Picture pixels per frame pixel."""
        return min(self.size[0] / self.width, self.size[1] / self.height)

    @property
    def box(self) -> tuple[int, int, int, int]:
        """(left, top, width, height) of the frame in the picture."""
        width = min(max(round(self.width * self.ratio), 1), self.size[0])
        height = min(max(round(self.height * self.ratio), 1), self.size[1])
        return (self.size[0] - width) // 2, (self.size[1] - height) // 2, width, height

    @cached_property
    def numbers(self) -> F32:
        """[21]: matrix, offset, scale, shift and the bars, as the kernel reads them."""
        matrix, offset = yuv_matrix(self.colorspace, self.color_range)
        bars = np.multiply(self.pad, self.scale) + self.shift
        parts = (matrix.ravel(), offset, self.scale, self.shift, bars)
        return np.concatenate(parts).astype(np.float32)

    def bytes_moved(self) -> int:
        """Read and written for one frame."""
        width, height = self.size
        return self.width * self.height * 3 // 2 + 3 * width * height * OUT_BYTES[self.out]


class PlanesKernel:
    """The kernel for one `Fit`, on one device."""

    def __init__(self, fit: Fit, device: int = 0) -> None:
        self.fit = fit
        self._device = device
        self._numbers = constant(fit.numbers, device)

    def __call__(self, frames: Any, pictures: Any, stream: int) -> Any:
        """frames [H*3/2, W] uint8 -> pictures [3, h, w] of `fit.out`, or [n, ...] of both in one
        launch; made where None is given. Arrays as `memory_of` takes them. ValueError for others.
        """
        fit, on = self.fit, On(stream, self._device)
        width, height = fit.size
        batch = tuple(frames.shape[:-2])
        if pictures is None:
            pictures = room((*batch, 3, height, width), fit.out, on)
        check("frames", frames, (*batch, fit.height * 3 // 2, fit.width), "uint8")
        check("pictures", pictures, (*batch, 3, height, width), fit.out)
        launch(
            "planes",
            (width, height, math.prod(batch)),
            (
                frames, pictures, self._numbers, fit.width, fit.height,
                fit.pix_fmt == "nv12", width, height, *fit.box,
            ),
            on,
            fit.out,
        )  # fmt: skip
        return pictures


def planes_twin(frame: U8, fit: Fit) -> F32:
    """[H*3/2, W] -> [3, h, w], float32 holding what `fit.out` can: for a batch, frame by frame.

    Within 0.1 level of 255 of the kernel, and one step of `fit.out`.
    """
    left, top, width, height = fit.box
    planes = [
        np.asarray(_resized(plane, (width, height))) for plane in planes_of_layout(frame, fit)
    ]
    k = fit.numbers.astype(np.float64)
    rgb = np.einsum("cp,phw->chw", k[:9].reshape(3, 3), np.stack(planes).astype(np.float64))
    rgb = np.clip(rgb + k[9:12, None, None], 0, 255)
    picture = np.empty((3, fit.size[1], fit.size[0]), np.float32)
    picture[:] = k[18:, None, None]
    picture[:, top : top + height, left : left + width] = (
        rgb * k[12:15, None, None] + k[15:18, None, None]
    )
    return rounded(picture, fit.out)


def planes_of_layout(frame: U8, fit: Fit) -> tuple[U8, U8, U8]:
    """Luma [H, W] and both chroma planes [H/2, W/2] of a frame in either layout."""
    luma, chroma = frame[: fit.height], frame[fit.height :]
    half = (fit.height // 2, fit.width // 2)
    if fit.pix_fmt == "nv12":
        pairs = chroma.reshape(*half, 2)
        return luma, np.ascontiguousarray(pairs[..., 0]), np.ascontiguousarray(pairs[..., 1])
    blue, red = chroma.reshape(2, *half)
    return luma, blue, red


def _resized(plane: U8, size: tuple[int, int]) -> F32:
    shrinks = plane.shape[1] > 2 * size[0]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(plane.astype(np.float32), size, interpolation=how))
