"""Frames in layouts that few operators know, made of those that all know."""

from __future__ import annotations

import numpy as np
from msgspec.structs import replace

from engine import Frame


def as_nv12(frame: Frame) -> Frame:
    """A yuv420p frame with its chroma side by side."""
    height = frame.caps.height or 0
    chroma = frame.data[height:].reshape(2, -1).T.reshape(frame.data[height:].shape)
    data = np.concatenate([frame.data[:height], chroma])
    return frame.with_data(data, replace(frame.caps, pix_fmt="nv12"))
