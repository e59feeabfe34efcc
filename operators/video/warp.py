"""Small RGB pictures of turned and scaled parts of a frame; only those pixels are converted."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from engine import Frame
from operators.video.layers import layers_of
from operators.video.yuv import merged_to_rgb

U8 = npt.NDArray[np.uint8]
F64 = npt.NDArray[np.float64]
MAX_OVERSAMPLING = 8


def fit_similarity(source: F64, target: F64) -> F64 | None:
    """[2, 3] rotation, scale and shift that takes `source` [N, 2] nearest to `target` [N, 2].

    Least squares in closed form: Umeyama 1991, equations 40 to 42. Never mirrors. None when the
    source points are all one.
    """
    from_centre, to_centre = source.mean(axis=0), target.mean(axis=0)
    here, there = source - from_centre, target - to_centre
    variance = (here**2).sum()
    if variance < 1e-9:
        return None
    left, stretch, right = np.linalg.svd(there.T @ here)
    signs = np.array([1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])
    rotation = (left * signs) @ right * ((stretch * signs).sum() / variance)
    return np.column_stack([rotation, to_centre - rotation @ from_centre])


def apply(matrix: F64, points: F64) -> F64:
    """[N, 2] points through a [2, 3] matrix."""
    result: F64 = points @ matrix[:, :2].T + matrix[:, 2]
    return result


def invert(matrix: F64) -> F64:
    """The [2, 3] matrix of the way back."""
    turn = np.linalg.inv(matrix[:, :2])
    return np.column_stack([turn, -turn @ matrix[:, 2]])


def warp_rgb(frame: Frame, matrix: F64, size_px: int, *, mirrored: bool = False) -> U8:
    """[S, S, 3] RGB of the square that `matrix` (frame pixels -> square pixels) cuts out.

    Outside of the frame is black, or the frame once more, `mirrored` at its rim. Strong shrinking
    samples more pixels first and averages them.
    """
    over = oversampling(matrix)
    side = size_px * over
    finer = over * matrix
    finer[:, 2] += (over - 1) / 2  # pixel centres are whole numbers at both scales
    parts = [
        cv2.warpAffine(
            layer.array,
            _for_plane(finer, layer.divisor),
            (side, side),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT_101 if mirrored else cv2.BORDER_CONSTANT,
            borderValue=(layer.black,) * 3,
        )
        for layer in layers_of(frame.data, frame.caps)
    ]
    picture = cv2.merge(parts) if len(parts) > 1 else parts[0]
    if over > 1:
        picture = cv2.resize(picture, (size_px, size_px), interpolation=cv2.INTER_AREA)
    return merged_to_rgb(np.asarray(picture, np.uint8), frame.caps)


def oversampling(matrix: F64) -> int:
    """Samples each way per pixel of the square: as many as pixels of the frame lie there."""
    shrinking = 1 / math.sqrt(abs(np.linalg.det(matrix[:, :2])))
    return min(max(math.floor(shrinking + 1e-6), 1), MAX_OVERSAMPLING)


def _for_plane(matrix: F64, divisor: int) -> F64:
    """The same way from the pixels of a plane that has fewer of them."""
    centre = (divisor - 1) / 2  # where the middle of its first pixel is in the frame
    shift = matrix[:, 2] + matrix[:, :2].sum(axis=1) * centre
    return np.column_stack([matrix[:, :2] * divisor, shift])
