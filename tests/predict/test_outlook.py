"""A slow predictor beside the pictures: flow first, then its news, and what becomes of errors."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from engine import OpContext
from engine.testing import HarnessContext
from operators.predict.ahead import Predicted, Predictor, check
from operators.predict.beside import Beside
from operators.predict.conceal import Conceal, ConcealConfig
from operators.predict.flow import fitted
from tests.predict.feeds import HEIGHT, WIDTH, Live, apart, picture, said, view

U8 = npt.NDArray[np.uint8]
S = 32


class Seer:
    """Knows what comes: the camera turns back after frame 14."""

    size_px: int | None = S
    past = 3
    most = 4

    def __init__(self, *, slow: bool = False, error: Exception | None = None) -> None:
        self.may_answer = threading.Event()
        if not slow:
            self.may_answer.set()
        self.error = error
        self.given: list[int] = []  # pictures, at each call

    def predict(self, past: U8, ahead: int) -> Predicted:
        check(past, ahead, self.most)
        assert self.may_answer.wait(30)
        calls = len(self.given)
        self.given.append(len(past))
        if self.error is not None:
            raise self.error
        frames = [square(turned(calls * self.most + n)) for n in range(1, ahead + 1)]
        return Predicted(np.stack(frames), np.ones((ahead, 4, 4), np.float32), past[-1])


def turned(n: int) -> float:
    """Where the camera is `n` frames after frame 14."""
    return 14.0 - n


def square(n: float) -> U8:
    return fitted(view(n), (S, S))


class SeeingConceal(Conceal):
    """With a predictor."""

    def __init__(self, seer: Predictor, **settings: Any) -> None:
        super().__init__(ConcealConfig(**settings))
        self.seer = seer

    def predictor(self, ctx: OpContext) -> Predictor | None:
        return self.seer


@contextmanager
def live(seer: Seer) -> Iterator[Live]:
    found = Live(SeeingConceal(seer))
    try:
        yield found
    finally:
        seer.may_answer.set()
        found.close()


def bridge(found: Live) -> Any:
    (one,) = found.operator._bridges._states.values()  # type: ignore[attr-defined]
    return one


def wait_for_answers(found: Live) -> None:
    """Until the thread has nothing to do."""
    for future in bridge(found)._outlook._asked:
        future.exception(timeout=30)


def test_what_was_predicted_is_shown_in_full() -> None:
    with live(Seer()) as found:
        found.feed(range(15))
        found.run_until(15 * 40 + 34)  # somewhat late: it has been asked
        wait_for_answers(found)
        found.run_until(17 * 40 + 50)
    truth = [picture(turned(n)) for n in (1, 2, 3)]
    course = Live()
    course.feed(range(15))
    course.run_until(17 * 40 + 50)
    course.close()
    for made, alone, true in zip(found.made[-2:], course.made[-2:], truth[-2:], strict=True):
        assert apart(made, true) < 0.7 * apart(alone, true)
    record = said(found.made[-1])
    assert record is not None
    assert record.confidence > 0.3


def test_nobody_waits_for_a_slow_one() -> None:
    seer = Seer(slow=True)
    with live(seer) as found:
        found.feed(range(15))
        found.run_until(17 * 40 + 50)
        assert found.moments == list(range(18)), "by their course alone"
        assert seer.given == []
        alone = found.made[-1]
        seer.may_answer.set()
        wait_for_answers(found)
        found.run_until(24 * 40 + 50)
    assert found.moments == list(range(25))
    assert max(found.lateness_ms()) <= 20
    steps = [apart(one, other) for one, other in itertools.pairwise(found.frames)]
    usual = max(apart(picture(n), picture(n + 1)) for n in range(14))
    assert max(steps) <= 1.4 * usual, "the news come without a jump"
    assert apart(found.made[-1], alone) > usual


def test_it_is_asked_on_before_it_runs_out() -> None:
    seer = Seer()
    with live(seer) as found:
        found.feed(range(15))
        for n in range(15, 26):
            found.run_until(n * 40 + 34)
            wait_for_answers(found)
        found.run_until(26 * 40)
    assert seer.given[:3] == [3, 3, 3], "from the pictures it has seen and those it has foretold"
    assert len(seer.given) >= 3


def test_an_error_is_told_once_and_the_course_goes_on() -> None:
    with live(Seer(error=RuntimeError("weights are wet"))) as found:
        found.feed(range(15))
        for n in range(15, 20):
            found.run_until(n * 40 + 34)
            wait_for_answers(found)
        found.run_until(20 * 40)
    assert found.moments == list(range(20))
    assert found.codes == ["PREDICT_FAILED"]
    assert "weights are wet" in found.ctx.reports[0][1]


def test_in_a_file_graph_predictions_are_made_at_once() -> None:
    seer = Seer()
    ctx = HarnessContext(mode="file")
    operator = SeeingConceal(seer)
    with ctx.exits:
        operator.open(ctx)
        out = [f for n in [*range(15), 18, 19] for f in operator.process(picture(n))]
        operator.close()
    assert [frame.stamp.seq for frame in out[15:18]] == [18, 18, 18]
    assert apart(out[17], picture(turned(3))) < apart(out[17], picture(14))
    assert seer.given[0] == 3
    assert threading.active_count() == 1 or not any(
        thread.name.startswith("predict") for thread in threading.enumerate()
    )


@pytest.mark.parametrize("at_once", [True, False])
def test_what_a_predictor_raises_is_kept_for_who_looks(at_once: bool) -> None:
    with Beside(Seer(error=ValueError("bad")), at_once=at_once) as beside:
        future = beside.ask(np.zeros((3, S, S, 3), np.uint8))
        error = future.exception(timeout=30)
    assert str(error) == "bad"


def test_squares_are_of_the_predictors_size() -> None:
    seen: list[tuple[int, ...]] = []

    class Looker(Seer):
        def predict(self, past: U8, ahead: int) -> Predicted:
            seen.append(past.shape)
            return super().predict(past, ahead)

    with live(Looker()) as found:
        found.feed(range(15))
        found.run_until(15 * 40 + 34)
        wait_for_answers(found)
    assert seen == [(3, S, S, 3)]
    assert (WIDTH, HEIGHT) != (S, S)
