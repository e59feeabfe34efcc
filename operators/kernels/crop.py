"""Faces out of a frame: N turned and scaled squares to normalised RGB planes, in one launch.

As `operators.video.warp.warp_rgb` cuts them, followed by a network's normalisation; it rounds to
whole levels between its steps, the kernel does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from operators.kernels.launching import OUT_BYTES, On, Out, launch, rounded, sent
from operators.video.warp import invert, oversampling
from operators.video.yuv import yuv_matrix

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
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

    def bytes_moved(self, matrices: F64) -> int:
        """Read and written for these squares: of the frame the pixels that they show, once."""
        per_pixel = 3 if self.pix_fmt == "rgb24" else 1.5
        pixels = self.size_px**2
        shown = sum(pixels / abs(float(np.linalg.det(matrix[:, :2]))) for matrix in matrices)
        read = min(shown, len(matrices) * self.width * self.height) * per_pixel
        return round(read) + len(matrices) * 3 * pixels * OUT_BYTES[self.out]


class CropKernel:
    """The kernel for one kind of `Squares`, on one device."""

    def __init__(self, squares: Squares, device: int = 0) -> None:
        import torch

        self.squares = squares
        self._device = device
        self._numbers = torch.from_numpy(squares.numbers).to(f"cuda:{device}")

    def __call__(self, frame: Any, matrices: F64, crops: Any, stream: int) -> None:
        """frame [H*3/2, W] or [H, W, 3] uint8; matrices [n, 2, 3], frame -> square pixels;
        crops [n, 3, S, S] of `squares.out`. Tensors are contiguous and on the device.
        """
        kind, on = self.squares, On(stream, self._device)
        over = max(oversampling(matrix) for matrix in matrices)
        maps = sent(maps_of(matrices), crops, on)
        launch(
            "crop",
            (kind.size_px, kind.size_px, len(matrices)),
            (
                frame, crops, maps, self._numbers, kind.width, kind.height,
                LAYOUTS[kind.pix_fmt], kind.size_px, over, kind.mirrored,
            ),
            on,
            kind.out,
        )  # fmt: skip


def maps_of(matrices: F64) -> F32:
    """[n, 2, 3] frame -> square pixels: as the kernel wants them, [n, 6] the way back."""
    return np.array([invert(matrix).ravel() for matrix in matrices], np.float32)


def crop_twin(frame: U8, matrices: F64, squares: Squares) -> F32:
    """[n, 3, S, S], float32 holding what `squares.out` can. Within 3 levels of 255 of the kernel:
    OpenCV places samples in steps of 1/32 pixel.
    """
    over = max(oversampling(matrix) for matrix in matrices)
    return np.stack([_square(frame, matrix, squares, over) for matrix in matrices])


def _square(frame: U8, matrix: F64, squares: Squares, over: int) -> F32:
    side = squares.size_px * over
    finer = over * matrix
    finer[:, 2] += (over - 1) / 2
    k = squares.numbers.astype(np.float64)
    parts = []
    for plane, divisor, black in _layers(frame, squares, float(k[18])):
        centre = (divisor - 1) / 2
        shift = finer[:, 2] + finer[:, :2].sum(axis=1) * centre
        warped = cv2.warpAffine(
            plane.astype(np.float32),
            np.column_stack([finer[:, :2] * divisor, shift]),
            (side, side),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT_101 if squares.mirrored else cv2.BORDER_CONSTANT,
            borderValue=black,
        )
        if over > 1:
            small = (squares.size_px, squares.size_px)
            warped = cv2.resize(warped, small, interpolation=cv2.INTER_AREA)
        parts.append(warped)
    rgb = np.einsum("cp,phw->chw", k[:9].reshape(3, 3), np.stack(parts).astype(np.float64))
    rgb = np.clip(rgb + k[9:12, None, None], 0, 255)
    made = rgb * k[12:15, None, None] + k[15:18, None, None]
    return rounded(made.astype(np.float32), squares.out)


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
