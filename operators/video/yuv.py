"""YUV 4:2:0 frames: views of their planes, small RGB pictures without a full conversion."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from engine import Caps, CapsError, Frame

U8 = npt.NDArray[np.uint8]
# Luma weights (Kr, Kb) of the two standards: ITU-R BT.601-7 section 2.5.1, BT.709-6 section 3.2.
LUMA = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}


class Planes(NamedTuple):
    """Views of an I420 array: luma [H, W], both chroma planes [H/2, W/2]."""

    y: U8
    u: U8
    v: U8


def planes_of(data: U8, width: int, height: int) -> Planes:
    """The three planes of an I420 array [H*3/2, W]; writable if the array is."""
    flat = data.reshape(-1)
    luma, chroma = width * height, width * height // 4
    half = (height // 2, width // 2)
    return Planes(
        flat[:luma].reshape(height, width),
        flat[luma : luma + chroma].reshape(half),
        flat[luma + chroma :].reshape(half),
    )


class Letterbox(NamedTuple):
    """A picture [S, S, 3] RGB with the frame fitted in, and how to get back to frame pixels."""

    rgb: U8
    scale: float  # input pixels per frame pixel
    left_px: float  # of the fitted frame in the input
    top_px: float


def letterbox(frame: Frame, size_px: int) -> Letterbox:
    """The whole frame in a square of `size_px`, aspect kept, black bars, RGB."""
    width, height = frame_size(frame)
    scale = size_px / max(width, height)
    fitted = (max(round(width * scale), 1), max(round(height * scale), 1))
    small = small_rgb(frame, fitted)
    left, top = (size_px - fitted[0]) // 2, (size_px - fitted[1]) // 2
    rgb = np.zeros((size_px, size_px, 3), np.uint8)
    rgb[top : top + fitted[1], left : left + fitted[0]] = small
    return Letterbox(rgb, scale, left, top)


def small_rgb(frame: Frame, size: tuple[int, int]) -> U8:
    """The frame scaled to (width, height) and as RGB: planes are scaled first, then converted."""
    if frame.caps.pix_fmt == "yuv420p":
        planes = planes_of(frame.data, *frame_size(frame))
        scaled = [cv2.resize(plane, size, interpolation=_filter(plane, size)) for plane in planes]
        return yuv_to_rgb(np.dstack(scaled), frame.caps.colorspace, frame.caps.color_range)
    if frame.caps.pix_fmt == "nv12":
        width, height = frame_size(frame)
        sides = frame.data[:height], frame.data[height:].reshape(height // 2, width // 2, 2)
        scaled = [cv2.resize(side, size, interpolation=_filter(side, size)) for side in sides]
        return yuv_to_rgb(np.dstack(scaled), frame.caps.colorspace, frame.caps.color_range)
    small = cv2.resize(frame.data, size, interpolation=_filter(frame.data, size))
    return merged_to_rgb(np.asarray(small, np.uint8), frame.caps)


def merged_to_rgb(picture: U8, caps: Caps) -> U8:
    """Pixels with the channels of `caps` side by side, 4:2:0 as [H, W, 3] Y, U, V -> RGB."""
    pix_fmt = caps.pix_fmt
    if pix_fmt == "yuv420p":
        return yuv_to_rgb(picture, caps.colorspace, caps.color_range)
    if pix_fmt == "rgb24":
        return picture
    if pix_fmt == "bgr24":
        return np.ascontiguousarray(picture[:, :, ::-1])
    if pix_fmt == "gray":
        return np.dstack([picture] * 3)
    raise CapsError(f"pix_fmt {pix_fmt}: yuv420p, rgb24, bgr24 or gray are understood")


def frame_size(frame: Frame) -> tuple[int, int]:
    """(width, height) in pixels; CapsError when the caps do not say."""
    if not frame.caps.width or not frame.caps.height:
        raise CapsError(f"a frame without a size: {frame.caps.describe()}")
    return frame.caps.width, frame.caps.height


def yuv_to_rgb(yuv: U8, colorspace: str | None, color_range: str | None) -> U8:
    """[H, W, 3] Y, U, V -> RGB, both 0 to 255."""
    matrix, offset = yuv_matrix(colorspace, color_range)
    return np.asarray(cv2.transform(yuv, np.column_stack([matrix, offset])), np.uint8)


def yuv_matrix(
    colorspace: str | None, color_range: str | None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """rgb = matrix @ yuv + offset. Unset means BT.709, limited range, as for HD video."""
    kr, kb = LUMA[colorspace or "bt709"]
    kg = 1 - kr - kb
    full = color_range == "full"
    luma, chroma = (1.0, 1.0) if full else (255 / 219, 255 / 224)
    matrix = np.array(
        [
            [luma, 0, 2 * (1 - kr) * chroma],
            [luma, -2 * (1 - kb) * kb / kg * chroma, -2 * (1 - kr) * kr / kg * chroma],
            [luma, 2 * (1 - kb) * chroma, 0],
        ]
    )
    zero = np.array([0.0 if full else 16.0, 128.0, 128.0])
    return matrix, -matrix @ zero


def rgb_to_yuv(
    rgb: tuple[int, int, int], colorspace: str | None, color_range: str | None
) -> tuple[int, int, int]:
    """One colour, for drawing on planes."""
    matrix, offset = yuv_matrix(colorspace, color_range)
    yuv = np.linalg.solve(matrix, np.array(rgb, float) - offset)
    y, u, v = np.clip(np.round(yuv), 0, 255).astype(int)
    return int(y), int(u), int(v)


def _filter(plane: U8, size: tuple[int, int]) -> int:
    """Area averaging when shrinking by more than two, so that nothing is skipped over."""
    return cv2.INTER_AREA if plane.shape[1] > 2 * size[0] else cv2.INTER_LINEAR
