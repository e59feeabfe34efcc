"""CenterFace: one network over the whole frame, for crowds and tiny faces.

Xu et al. 2019, arXiv:1911.03599.

The network gives for every 4 x 4 pixels how likely the centre of a face is there, the face's height
and width as logarithms, the centre's place inside the cell and five points relative to the box.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from engine import Frame
from operators.face.candidates import F32, Candidates, keep_best
from operators.face.nets import Placement, open_net
from operators.video.yuv import frame_size, small_rgb

STRIDE = 4
STEP_PX = 32  # sides of the input are multiples of the deepest layer's stride


class CenterFace:
    """Finds the faces of a frame scaled to `width_px`. One call at a time."""

    def __init__(self, width_px: int, place: Placement) -> None:
        self._width_px = width_px
        self._net = open_net("centerface.onnx", place)

    def __call__(self, frame: Frame, min_score: float, max_iou: float) -> Candidates:
        """One candidate per face, in frame pixels, best first."""
        width, height = frame_size(frame)
        scale = self._width_px / width
        fitted = max(round(height * scale), 1)
        tensor = np.zeros((1, 3, -(-fitted // STEP_PX) * STEP_PX, self._width_px), np.float32)
        tensor[0, :, :fitted] = small_rgb(frame, (self._width_px, fitted)).transpose(2, 0, 1)
        heat, sizes, offsets, points = self._net(tensor)
        found = decode(heat[0, 0], sizes[0], offsets[0], points[0], min_score)
        return keep_best(found, max_iou).in_frame(scale)


def decode(heat: F32, sizes: F32, offsets: F32, points: F32, min_score: float) -> Candidates:
    """[H, W], [2, H, W], [2, H, W], [10, H, W] -> candidates in input pixels. Pairs are y, x."""
    rows, columns = np.nonzero(heat >= min_score)
    cells = np.stack([rows, columns])
    sides = np.exp(sizes[:, rows, columns]) * STRIDE
    centres = (cells + offsets[:, rows, columns] + 0.5) * STRIDE
    corners = centres - sides / 2
    boxes = np.stack([*corners[::-1], *(corners + sides)[::-1]], axis=1)
    marks = points[:, rows, columns].reshape(5, 2, -1) * sides + corners
    return Candidates(
        _f32(boxes), _f32(heat[rows, columns]), _f32(marks.transpose(2, 0, 1)[..., ::-1])
    )


def _f32(array: npt.NDArray[Any]) -> F32:
    return np.ascontiguousarray(array, np.float32)
