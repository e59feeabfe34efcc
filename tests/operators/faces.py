"""Frames with and without faces, in every pixel format, for the tests of the face operators."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from typing import Any

import cv2
import numpy as np
import skimage.data

from engine import Caps, Frame, Stamp
from operators.face.records import Box, Face, Track
from operators.video.yuv import rgb_to_yuv, yuv_matrix

PIX_FMTS = ("yuv420p", "rgb24", "bgr24", "gray")
# The astronaut's face in her portrait of 512x512 px, marked by eye.
FACE_BOX: Box = (170.0, 65.0, 275.0, 175.0)
RIGHT_EYE, LEFT_EYE = (203.5, 101.5), (246.5, 103.0)  # hers; her right is left in the picture
NOSE = (225.0, 128.0)
RIGHT_MOUTH, LEFT_MOUTH = (204.0, 141.0), (245.0, 141.0)


@cache
def astronaut() -> np.ndarray:
    """RGB [512, 512, 3] with one face."""
    return np.ascontiguousarray(skimage.data.astronaut())


def crowd_of(count: int) -> np.ndarray:
    """RGB [512, 512 * count, 3]: portraits side by side, every second one mirrored."""
    portrait = astronaut()
    return np.hstack([portrait[:, :: 1 if n % 2 == 0 else -1] for n in range(count)])


def picture(
    rgb: np.ndarray,
    pix_fmt: str = "rgb24",
    *,
    seq: int = 0,
    stream_id: str = "test",
    colour: tuple[str, str] = ("bt601", "limited"),
    fps: int = 25,
) -> Frame:
    """An RGB picture as a frame in `pix_fmt`."""
    height, width = rgb.shape[:2]
    caps = Caps(
        media="video",
        pix_fmt=pix_fmt,
        dtype="uint8",
        width=width,
        height=height,
        device="cpu",
        colorspace=colour[0],
        color_range=colour[1],
    )
    stamp = Stamp(stream_id, seq, Fraction(1, fps), seq * 10**9 // fps, seq)
    return Frame(pixels(rgb, pix_fmt, colour), caps, stamp)


def pixels(rgb: np.ndarray, pix_fmt: str, colour: tuple[str, str]) -> np.ndarray:
    """The array layout of `pix_fmt`; for 4:2:0 by plain arithmetic, chroma averaged over 2x2."""
    if pix_fmt == "rgb24":
        return np.ascontiguousarray(rgb)
    if pix_fmt == "bgr24":
        return np.ascontiguousarray(rgb[..., ::-1])
    if pix_fmt == "gray":
        return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))
    matrix, offset = yuv_matrix(*colour)
    inverse = np.linalg.inv(matrix)
    yuv = (rgb.astype(float) - offset) @ inverse.T
    height, width = rgb.shape[:2]
    halves = yuv.reshape(height // 2, 2, width // 2, 2, 3).mean(axis=(1, 3))
    parts = [yuv[..., 0].ravel(), halves[..., 1].ravel(), halves[..., 2].ravel()]
    flat = np.clip(np.round(np.concatenate(parts)), 0, 255).astype(np.uint8)
    return flat.reshape(height * 3 // 2, width)


def flat_picture(
    size: tuple[int, int], rgb: tuple[int, int, int], pix_fmt: str, **options: Any
) -> Frame:
    """One colour all over; size is (width, height)."""
    return picture(np.full((size[1], size[0], 3), rgb, np.uint8), pix_fmt, **options)


def as_rgb(frame: Frame) -> np.ndarray:
    """A frame as RGB [H, W, 3], chroma repeated; gray as three equal channels."""
    caps, data = frame.caps, frame.data
    if caps.pix_fmt == "rgb24":
        return np.asarray(data)
    if caps.pix_fmt == "bgr24":
        return np.asarray(data[..., ::-1])
    if caps.pix_fmt == "gray":
        return np.dstack([data] * 3)
    height, width = caps.height or 0, caps.width or 0
    flat = data.reshape(-1).astype(float)
    luma = flat[: width * height].reshape(height, width)
    chroma = flat[width * height :].reshape(2, height // 2, width // 2)
    u, v = chroma.repeat(2, axis=1).repeat(2, axis=2)
    matrix, offset = yuv_matrix(caps.colorspace, caps.color_range)
    rgb = np.dstack([luma, u, v]) @ matrix.T + offset
    return np.clip(np.round(rgb), 0, 255).astype(np.uint8)


def yuv_value(rgb: tuple[int, int, int], caps: Caps) -> tuple[int, int, int]:
    return rgb_to_yuv(rgb, caps.colorspace, caps.color_range)


def face(x: float, y: float, size: float = 60.0, score: float = 0.9) -> Face:
    """A face with its centre at (x, y)."""
    half = size / 2
    eyes = ((x - size / 5, y - size / 6), (x + size / 5, y - size / 6))
    points = (*eyes, (x, y), (x, y + size / 4), (x - half, y), (x + half, y))
    return Face((x - half, y - half, x + half, y + half), score, points)


def track(track_id: int, x: float, y: float, size: float = 60.0, **changes: Any) -> Track:
    """A track with its centre at (x, y)."""
    seen = face(x, y, size)
    fields: dict[str, Any] = {"hits": 5, "age_ms": 400, "predicted": False, **changes}
    return Track(track_id, seen.box, seen.score, seen.points, **fields)


def overlap(first: Box, second: Box) -> float:
    """Intersection over union."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return width * height / (sum(areas) - width * height)
