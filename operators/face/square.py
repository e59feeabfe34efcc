"""The square around a face that spoof detectors look at: by its points, so that detectors agree."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from engine import Frame
from operators.face.records import Point
from operators.video.warp import warp_rgb
from operators.video.yuv import frame_size

U8 = npt.NDArray[np.uint8]
F64 = npt.NDArray[np.float64]
# Side of the square by the distance of the eyes (or eyes to mouth, whichever is larger: a face
# that is turned keeps its height). About 2.7 times the width of the box: the face with its rim and
# what is around it, for the edges of a paper or a screen, or a hand that holds it, are the plainest
# evidence there is at this distance.
SIDE_BY_SPAN = 6.6


def face_square(points: tuple[Point, ...]) -> tuple[float, float, float] | None:
    """Centre x, centre y and side in the pixels of the points; None where they tell no size.

    Points as in `Face`: eyes, nose, then the mouth's corners (of five) or its centre (of six).
    """
    if len(points) < 4:
        return None
    eyes = np.array(points[:2]).mean(axis=0)
    mouth = np.array(points[3:5]).mean(axis=0) if len(points) == 5 else np.array(points[3])
    span = max(math.dist(points[0], points[1]), math.dist(eyes, mouth))
    if not math.isfinite(span) or span < 1e-6:
        return None
    x, y = (eyes + mouth) / 2
    return float(x), float(y), SIDE_BY_SPAN * span


def square_matrix(square: tuple[float, float, float], size_px: int) -> F64:
    """[2, 3], frame pixels -> pixels of the square at `size_px`; whole numbers are centres."""
    x, y, side = square
    scale = size_px / side
    shift = (size_px - 1) / 2
    return np.array([(scale, 0.0, shift - scale * x), (0.0, scale, shift - scale * y)])


def cut_out(frame: Frame, square: tuple[float, float, float], size_px: int) -> U8:
    """[S, S, 3] RGB of the square. Beyond the frame's rim it goes on mirrored: a black bar beside a
    face would look like the rim of a screen.
    """
    return warp_rgb(frame, square_matrix(square, size_px), size_px, mirrored=True)


def share_inside(square: tuple[float, float, float], frame: Frame) -> float:
    """How much of the square lies on the frame, 0 to 1."""
    x, y, side = square
    width, height = frame_size(frame)
    inside_x = max(0.0, min(x + side / 2, width) - max(x - side / 2, 0.0))
    inside_y = max(0.0, min(y + side / 2, height) - max(y - side / 2, 0.0))
    return inside_x * inside_y / (side * side)
