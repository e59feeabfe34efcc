"""Frames as small or full BGR pictures for people to look at."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from engine import CapsError, Frame

U8 = npt.NDArray[np.uint8]
FROM_OTHERS = {
    "rgb24": cv2.COLOR_RGB2BGR,
    "gray": cv2.COLOR_GRAY2BGR,
    "nv12": cv2.COLOR_YUV2BGR_NV12,
}
# (red from V, green from U, green from V, blue from U): ITU-R BT.601 and BT.709.
MATRIX = {
    "bt601": (1.402, 0.344136, 0.714136, 1.772),
    "bt709": (1.5748, 0.187324, 0.468124, 1.8556),
}


def to_bgr(frame: Frame, max_width_px: int | None = None) -> U8:
    """[H, W, 3] uint8, not wider than `max_width_px`. Planes shrink before they are converted."""
    width, height = frame.caps.width or 0, frame.caps.height or 0
    if max_width_px is not None and width > max_width_px:
        size = (max_width_px & ~1, max(2, round(height * max_width_px / width) & ~1))
    else:
        size = (width, height)
    if frame.caps.pix_fmt == "yuv420p":
        return _from_yuv420p(frame, size)
    return _u8(_shrunk(_convert(frame), size))


def _convert(frame: Frame) -> U8:
    pix_fmt = frame.caps.pix_fmt or ""
    if pix_fmt == "bgr24":
        return _u8(frame.data)
    if pix_fmt not in FROM_OTHERS:
        raise CapsError(
            f"pictures of {pix_fmt}: yuv420p, bgr24, {', '.join(FROM_OTHERS)} can be shown"
        )
    return _u8(cv2.cvtColor(frame.data, FROM_OTHERS[pix_fmt]))


def _from_yuv420p(frame: Frame, size: tuple[int, int]) -> U8:
    width, height = frame.caps.width or 0, frame.caps.height or 0
    chroma = frame.data.reshape(-1)[height * width :].reshape(2, height // 2, width // 2)
    luma = _shrunk(frame.data[:height], size).astype(np.float32)
    blue_diff, red_diff = (
        cv2.resize(_shrunk(plane, (size[0] // 2, size[1] // 2)), size).astype(np.float32) - 128
        for plane in chroma
    )
    if frame.caps.color_range != "full":
        luma = (luma - 16) * (255 / 219)
        blue_diff, red_diff = blue_diff * (255 / 224), red_diff * (255 / 224)
    r_v, g_u, g_v, b_u = MATRIX[frame.caps.colorspace or "bt601"]
    planes = (
        luma + b_u * blue_diff,
        luma - g_u * blue_diff - g_v * red_diff,
        luma + r_v * red_diff,
    )
    return _u8(np.clip(np.rint(np.stack(planes, axis=-1)), 0, 255).astype(np.uint8))


def _shrunk(image: Any, size: tuple[int, int]) -> Any:
    if (image.shape[1], image.shape[0]) == size:
        return image
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _u8(image: Any) -> U8:
    return np.asarray(image, np.uint8)
