"""How things go on: every pixel of the last picture keeps its own velocity, and slows down.

A thing that moves takes its velocity along, so a later picture is made by throwing pixels forward
(paths of their own), not by looking up the motion that a place had. Where two land on one place
the one that moves unlike most of the picture is in front; what nobody lands on was hidden.

Ours: how fast it slows down is not fixed but fitted to the stream itself, place by place. Motion as
it was 1, 3, 5 and 10 frames ago is continued with several dampings up to now; the one that would
have been right most is taken. Constant flow is the special case `Course(past, damping=1)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from operators.predict.flow import F32, U8, fitted, motion, working_size

FLOW_PX = 240  # longer side of the pictures that velocities are found in
FIT_PX = 160  # and of those that dampings are fitted in
STEPS = (1, 3, 5, 10)  # frames that the past is foretold
KEPT = max(STEPS) + 2  # pictures that are worth keeping
FIT_PLACES = 80  # of the damping, along the longer side
DAMPINGS = np.array([0.3, 0.5, 0.65, 0.8, 0.9, 0.96, 1.0], np.float32)
USUAL = 0.8  # where the past says nothing
BLUR = 4.0  # places that a damping holds over
PRIOR = 0.01  # px^2 of FIT_PX: less motion than that says nothing
SURE_PX = 3.0  # of FIT_PX: something that far off is found by chance only
HALF_LIFE = 25.0  # frames after which half of what is shown may be news, even where nothing moved
GRID = 8  # cells to a side of what is said of sureness
STILL_PX = 0.05  # of FLOW_PX: motion that a cell counts for though nothing moves there


class Way(NamedTuple):
    """How one later picture is made of the last one."""

    field: F32  # [h, w, 2]
    hidden: npt.NDArray[np.bool_]  # [h, w]: nothing of the last picture is there


class Course:
    """What the last pictures promise. `past`: gray [H, W] each, newest last.

    More than `KEPT` are not looked at. With a `damping` (0 stands still, 1 keeps the speed) none is
    fitted. `span`: frames from the last but one to the last, 1 unless some are missing. Of one
    picture alone no motion is known: it stands still, and little of it is sure. ValueError for
    none, or pictures of several sizes.
    """

    def __init__(self, past: Sequence[U8], damping: float | None = None, span: int = 1) -> None:
        if not past:
            raise ValueError("nothing follows from no picture")
        height, width = past[-1].shape[:2]
        size = working_size(width, height, FLOW_PX)
        small = working_size(width, height, FIT_PX)
        if len(past) == 1:
            self._velocity = np.zeros((size[1], size[0], 2), np.float32)
            fit = _Fit(*(np.full(small[::-1], value, np.float32) for value in (0, SURE_PX)))
        else:
            last, before = (fitted(one, size) for one in past[:-3:-1])
            self._velocity = -motion(last, before) / np.float32(span)
            fit = _fitted(past, small, damping)
        unlike = self._velocity - np.median(self._velocity[::4, ::4], axis=(0, 1))
        self._priority = np.hypot(unlike[..., 0], unlike[..., 1])
        self._damping = np.asarray(cv2.resize(fit.damping, size), np.float32)
        self._error_px = fit.error_px

    def way(self, ahead: int) -> Way:
        """To the picture `ahead` (1 or more) frames after the last."""
        gone = _gone(self._damping, ahead)
        return thrown(self._velocity * gone[..., None], self._priority)

    def sure(self, ahead: int) -> F32:
        """[GRID, GRID] 0 to 1: how far what is shown then can be trusted. Falls with `ahead`.

        By what the fit missed per frame, and by half in `HALF_LIFE` frames in any case.
        """
        return cells_of(self._error_px * np.float32(ahead), ahead)

    def weights(self) -> F32:
        """[GRID, GRID], in all 1: where things move, for what is said of the picture as a whole."""
        speed = np.hypot(self._velocity[..., 0], self._velocity[..., 1])
        cells = cv2.resize(speed, (GRID, GRID), interpolation=cv2.INTER_AREA) + STILL_PX
        return np.asarray(cells / cells.sum(), np.float32)


def cells_of(error_px: F32, ahead: int) -> F32:
    """[h, w] pixels (of FIT_PX) that things may be off -> [GRID, GRID] sureness."""
    trust = np.exp(-error_px / SURE_PX) * 0.5 ** (ahead / HALF_LIFE)
    cells = cv2.resize(trust.astype(np.float32), (GRID, GRID), interpolation=cv2.INTER_AREA)
    return np.asarray(cells, np.float32)


class _Fit(NamedTuple):
    damping: F32  # [h, w]
    error_px: F32  # [h, w] that it was off, per frame ahead


def _fitted(past: Sequence[U8], size: tuple[int, int], damping: float | None) -> _Fit:
    """The damping that would have foretold the newest picture's places from earlier ones."""
    small = [fitted(one, size) for one in past[-KEPT:]]
    places = working_size(*size, FIT_PLACES)
    tried = DAMPINGS if damping is None else np.array([damping], np.float32)
    usual = np.array(USUAL if damping is None else damping, np.float32)
    cost = np.zeros((len(tried), places[1], places[0]), np.float32)
    cost += (PRIOR * (_gone(tried, 5) - _gone(usual, 5)) ** 2)[:, None, None]
    missed = np.zeros_like(cost)
    steps = [step for step in STEPS if len(small) >= step + 2]
    for step in steps:
        back = cv2.resize(motion(small[-1 - step], small[-2 - step], "quick"), places)
        came = cv2.resize(motion(small[-1 - step], small[-1], "quick"), places)
        products = cv2.merge([(one * other).sum(-1) for one, other in
                              ((back, back), (-back, came), (came, came))])  # fmt: skip
        squared, along, rest = cv2.split(cv2.GaussianBlur(products, (0, 0), BLUR))
        gone = _gone(tried, step)[:, None, None]
        off = np.maximum(gone * (gone * squared - 2 * along) + rest, 0)  # px^2
        cost += off / step
        missed += np.sqrt(off) / step
    best = cost.argmin(axis=0)
    error = np.take_along_axis(missed, best[None], 0)[0] / max(len(steps), 1)
    return _Fit(tried[best], error)


def _gone(damping: F32, ahead: int) -> F32:
    """damping + damping^2 + ...: how many first steps long the way of `ahead` frames is."""
    total = np.zeros_like(damping)
    power = np.ones_like(damping)
    for _ in range(ahead):
        power = power * damping
        total = total + power
    return total


def thrown(displacement: F32, priority: F32) -> Way:
    """Each pixel thrown by `displacement` [h, w, 2]; of several on one place the highest priority.

    Cracks of a pixel are closed; in wider gaps the nearest pixel that is there is repeated.
    """
    height, width = displacement.shape[:2]
    count = height * width
    rows, columns = np.indices((height, width), np.float32)
    to_x = np.rint(columns + displacement[..., 0]).astype(np.int32)
    to_y = np.rint(rows + displacement[..., 1]).astype(np.int32)
    inside = (to_x >= 0) & (to_x < width) & (to_y >= 0) & (to_y < height)
    rank = np.minimum(priority * 16, 2**30 // count - 1).astype(np.int32)
    key = rank * count + np.arange(count, dtype=np.int32).reshape(height, width)
    best = np.full(count, -1, np.int32)
    np.maximum.at(best, (to_y * width + to_x)[inside], key[inside])
    best = best.reshape(height, width)
    closed = cv2.dilate(best.astype(np.float64), np.ones((3, 3)))
    best = np.where(best < 0, closed.astype(np.int32), best)
    hidden = best < 0
    field = -displacement.reshape(-1, 2)[best % count]
    if hidden.any() and not hidden.all():
        nearest = _nearest(hidden)
        field = field.reshape(-1, 2)[nearest]
        field[..., 0] += nearest % width - columns
        field[..., 1] += nearest // width - rows
    return Way(field, hidden)


def _nearest(hidden: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """[h, w]: the index of the nearest place that is not hidden."""
    kind = cv2.DIST_LABEL_PIXEL
    _, labels = cv2.distanceTransformWithLabels(
        hidden.astype(np.uint8), cv2.DIST_L2, 5, labelType=kind
    )
    there = ~hidden
    by_label = np.zeros(labels.max() + 1, np.intp)
    by_label[labels[there]] = np.flatnonzero(there)
    nearest: npt.NDArray[np.intp] = by_label[labels]
    return nearest
