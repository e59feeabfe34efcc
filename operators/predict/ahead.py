"""What a predictor is, and the two that need no checkpoint: the last picture, and its motion.

A network stands behind the same protocol. `FlowAhead(damping=1)` is the baseline that others are
measured by, optical flow that goes on as it was; without a damping it fits one (see `Course`).
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from operators.predict.course import KEPT, Course
from operators.predict.flow import F32, U8, enlarged, looked_up, to_gray


class Predicted(NamedTuple):
    """What comes next, nearest first."""

    frames: U8  # [N, H, W, 3] RGB
    sure: F32  # [N, C, C] 0 to 1: how far each cell of each frame can be trusted
    known: U8  # [H, W, 3] the last picture that was given, as the predictor itself draws it: what
    # it cannot draw is missing here as in `frames`, and is not taken for news


class Predictor(Protocol):
    """From the last pictures the next ones. Keeps nothing between calls; one thread at a time."""

    size_px: int | None  # side of the squares that it works on; None: pictures of any size
    past: int  # pictures that it uses; fewer may be given, but not none
    most: int  # pictures that it can foretell in one call

    def predict(self, past: U8, ahead: int) -> Predicted:
        """[K, H, W, 3] RGB, newest last -> `ahead` (1 to `most`) pictures of the same size.

        ValueError for shapes, types or numbers that are not of this kind.
        """


class CopyLast:
    """The last picture, for ever. As sure as it would have been until now."""

    size_px: int | None = None
    past = KEPT
    most = 1000

    def predict(self, past: U8, ahead: int) -> Predicted:
        """See `Predictor`."""
        check(past, ahead, self.most)
        course = Course(to_gray(past[-KEPT:]), damping=0)
        sure = [course.sure(n) for n in range(1, ahead + 1)]
        return Predicted(np.repeat(past[-1:], ahead, axis=0), np.stack(sure), past[-1])


class FlowAhead:
    """The last picture, moved on by its optical flow. `damping`: as of `Course`."""

    size_px: int | None = None
    past = KEPT
    most = 1000

    def __init__(self, damping: float | None = None) -> None:
        if damping is not None and not 0 <= damping <= 1:
            raise ValueError(f"damping must be 0 to 1, not {damping}")
        self._damping = damping

    def predict(self, past: U8, ahead: int) -> Predicted:
        """See `Predictor`."""
        check(past, ahead, self.most)
        course = Course(to_gray(past[-KEPT:]), self._damping)
        size = (past.shape[2], past.shape[1])
        steps = range(1, ahead + 1)
        frames = [
            looked_up(past[-1], enlarged(course.way(n).field, size), fine=True) for n in steps
        ]
        return Predicted(np.stack(frames), np.stack([course.sure(n) for n in steps]), past[-1])


def check(past: npt.NDArray[np.generic], ahead: int, most: int) -> None:
    """ValueError unless these can be given to a predictor."""
    if past.ndim != 4 or past.shape[-1] != 3 or past.dtype != np.uint8 or not len(past):
        raise ValueError(f"[K, H, W, 3] uint8 with K >= 1 is needed, not {past.shape} {past.dtype}")
    if not 1 <= ahead <= most:
        raise ValueError(f"1 to {most} pictures can be foretold, not {ahead}")
