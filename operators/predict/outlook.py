"""The pictures after the last known one, in full: its course, corrected by a predictor's news."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import NamedTuple

import cv2
import numpy as np

from engine import Caps
from operators.predict.ahead import Predicted
from operators.predict.beside import Beside
from operators.predict.course import GRID, Course
from operators.predict.detail import corrected, correction, small_course
from operators.predict.flow import F32, U8
from operators.predict.moving import Picture, move

CELLS = (GRID, GRID)


class Known(NamedTuple):
    """What is known of a stream when its pictures stop coming."""

    picture: Picture  # the last one
    caps: Caps
    lumas: Sequence[U8]  # of the last ones, small, newest last, one period apart
    span: int  # periods between the last two, where there are only two
    squares: Sequence[U8]  # [S, S, 3] RGB of the last ones, for the predictor, if there is one


class Seen(NamedTuple):
    """A picture that was foreseen."""

    picture: Picture
    sure: F32  # [GRID, GRID] 0 to 1: how far it can be trusted
    corrected: bool  # by a prediction


class Outlook:
    """From one last picture. The predictor is asked when this is made, and again when what it has
    foretold runs out; until it has answered, the course alone is shown.
    """

    def __init__(
        self, known: Known, damping: float | None, beside: Beside | None, take: Callable[[], U8]
    ) -> None:
        self._known = known
        self._beside = beside
        self._take = take
        self._asked: list[Future[Predicted]] = []
        self.trouble: BaseException | None = None  # why a prediction was not had
        if beside is not None and known.squares:
            self._ask(np.stack(known.squares))
        self.course = Course(known.lumas, damping, known.span)

    def picture(self, ahead: int) -> Seen:
        """The one `ahead` (1 or more) after the last."""
        known = self._known.picture
        way = self.course.way(ahead)
        moved = move(known, way.field, self._take())
        seen = cv2.resize(1 - way.hidden.astype(np.float32), CELLS, interpolation=cv2.INTER_AREA)
        sure = self.course.sure(ahead) * seen
        told = self._told(ahead)
        if told is None:
            return Seen(moved, sure, False)
        wanted, trust, rendered = told
        fix = correction(small_course(rendered, way.field), wanted, trust)
        whole = corrected(moved, fix, self._known.caps, self._take())
        return Seen(whole, np.maximum(sure, cv2.resize(trust, CELLS)), True)

    def _told(self, ahead: int) -> tuple[U8, F32, U8] | None:
        """What the predictor said of that picture, if it has; asks on where it comes to its end."""
        if self._beside is None or not self._asked:
            return None
        most = self._beside.predictor.most
        part, number = divmod(ahead - 1, most)
        parts = [self._result(future) for future in self._asked]
        newest = parts[-1]
        if newest is not None and ahead + most // 2 > len(parts) * most:
            past = np.concatenate([np.stack(self._known.squares), newest.frames])
            self._ask(past[-self._beside.predictor.past :])
        if part >= len(parts):
            return None
        first, found = parts[0], parts[part]
        if first is None or found is None:
            return None
        return found.frames[number], found.sure[number], first.known

    def _ask(self, past: U8) -> None:
        assert self._beside is not None
        self._asked.append(self._beside.ask(past))

    def _result(self, future: Future[Predicted]) -> Predicted | None:
        if not future.done():
            return None
        self.trouble = self.trouble or future.exception()
        return None if future.exception() else future.result()
