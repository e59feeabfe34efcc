"""Frames as small or full BGR pictures for people to look at."""

from __future__ import annotations

import numpy as np

from engine import Frame
from operators.video.yuv import U8, frame_size, small_rgb


def to_bgr(frame: Frame, max_width_px: int | None = None) -> U8:
    """[H, W, 3] uint8, not wider than `max_width_px`. Planes shrink before they are converted."""
    width, height = frame_size(frame)
    size = (width, height)
    if max_width_px is not None and width > max_width_px:
        size = (max_width_px & ~1, max(2, round(height * max_width_px / width) & ~1))
    return np.ascontiguousarray(small_rgb(frame, size)[:, :, ::-1])
