"""A node that is called at a moment of the clock: what comes of it when nothing comes in."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from engine.contract import OpContext, Operator
from engine.errors import EngineError, OperatorError
from engine.frame import Frame, Item
from engine.runtime.calls import PASSED_OVER, Call, Calls
from engine.runtime.circuit import FAILURES
from engine.runtime.lane import NodeLane
from engine.runtime.outlets import Outlets
from engine.runtime.work import Work
from engine.telemetry.stats import NodeStats
from engine.testing import HarnessContext
from tests.runtime.fakes import Exits, FakeHost, FakeInbox, broken, end, frame, planned_node, told

MS = 1_000_000
GONE = OperatorError("GONE", "for good")


class TimedInputs:
    """Items that come in at moments of the host's clock; then they are over."""

    def __init__(self, host: FakeHost, items: list[tuple[int, Item]]) -> None:
        self._host = host
        self._inbox = FakeInbox()
        self._items = deque((host.clock.now_ns() + ms * MS, item) for ms, item in items)

    def next(self, now_ns: int) -> Any:
        if not self._items or self._items[0][0] > now_ns:
            return None
        item = self._items.popleft()[1]
        return Work({"frames": item}, [(self._inbox, item)]) if isinstance(item, Frame) else item

    def wait_ns(self, now_ns: int) -> int | None:
        return max(self._items[0][0] - now_ns, 0) if self._items else None

    @property
    def finished(self) -> bool:
        return not self._items

    closed = finished


class Patient(Operator):
    """Asks, at each frame, to be called a while later; says when it was, and gives that frame."""

    def __init__(self, after_ms: int = 10) -> None:
        super().__init__(self.config_type())
        self.after_ms = after_ms
        self.called: list[tuple[str, int]] = []  # stream, ms since the start
        self.act: Callable[[Frame], Any] = lambda last: last

    def open(self, ctx: OpContext) -> None:
        self.ctx = ctx
        self.start_ns = ctx.clock.now_ns()

    def process(self, frames: Frame) -> Frame:
        stream_id, now_ns = frames.stamp.stream_id, self.ctx.clock.now_ns()
        moment_ns = now_ns + self.after_ms * MS
        self.ctx.call_at(moment_ns, stream_id, lambda: self.called_back(frames))
        return frames

    def called_back(self, last: Frame) -> Any:
        since_ms = (self.ctx.clock.now_ns() - self.start_ns) // MS
        self.called.append((last.stamp.stream_id, since_ms))
        return self.act(last)


class Imaginative(Patient):
    """Makes pictures."""

    synthesizes = True


class Rig:
    """A live node whose items come at moments."""

    def __init__(
        self, out: Path, operator: Operator[Any], *items: tuple[int, Item], mode: Any = "live"
    ) -> None:
        self.host = FakeHost(out, mode)
        self.exits = Exits()
        outlets: Outlets = self.exits.outlets
        outlets._synthesizes = operator.synthesizes
        self.stats = NodeStats(node="node", worker="main", device="cpu")
        inputs = TimedInputs(self.host, list(items))
        self.lane = NodeLane(self.host, planned_node(), operator, inputs, outlets, self.stats)

    def run(self) -> list[Any]:
        self.lane.run()
        return told(self.exits.taken())


def test_it_is_called_when_nothing_comes(tmp_path: Path) -> None:
    operator = Patient()
    rig = Rig(tmp_path, operator, (0, frame(0)), (4, frame(1)), (40, end()))
    assert rig.run() == [("cam", 0), ("cam", 1), ("cam", 1), ("end", "cam", None)]
    assert operator.called == [("cam", 14)], "once, for the last wish of the stream counts"
    assert (rig.stats.busy.count, rig.stats.frames) == (3, 2)


def test_every_stream_has_a_call_of_its_own(tmp_path: Path) -> None:
    operator = Patient()
    rig = Rig(tmp_path, operator, (0, frame(0, "a")), (3, frame(0, "b")), (40, end("a")))
    rig.run()
    assert operator.called == [("a", 10), ("b", 13)]


def test_a_call_may_ask_for_the_next_one(tmp_path: Path) -> None:
    operator = Patient()
    operator.act = lambda last: operator.process(last) and None
    rig = Rig(tmp_path, operator, (0, frame(0)), (35, end()))
    rig.run()
    assert operator.called == [("cam", 10), ("cam", 20), ("cam", 30)]


@pytest.mark.parametrize("signal", [end(), broken()])
def test_the_end_and_a_break_take_it_away(signal: Item, tmp_path: Path) -> None:
    operator = Patient()
    Rig(tmp_path, operator, (0, frame(0)), (5, signal), (40, end("other"))).run()
    assert operator.called == []


def test_a_new_epoch_takes_the_old_ones_call_away(tmp_path: Path) -> None:
    operator = Patient()
    rig = Rig(tmp_path, operator, (0, frame(0)), (5, frame(1, epoch=1)), (40, end()))
    rig.run()
    assert operator.called == [("cam", 15)]


def test_what_has_come_in_goes_first(tmp_path: Path) -> None:
    operator = Patient()
    rig = Rig(tmp_path, operator, (0, frame(0)), (10, frame(1)), (15, end()))
    assert rig.run() == [("cam", 0), ("cam", 1), ("end", "cam", None)]
    assert operator.called == []


def test_a_lane_that_is_never_idle_calls_all_the_same() -> None:
    calls = Calls()
    calls.ask(Call(5, "cam", lambda: None))
    assert calls.take(4, busy=False) is None
    taken = [calls.take(6, busy=True) is not None for _ in range(PASSED_OVER + 2)]
    assert taken == [False] * PASSED_OVER + [True, False]


def test_the_one_that_is_due_longest_comes_first() -> None:
    calls = Calls()
    for moment, stream_id in ((7, "late"), (3, "early"), (20, "not yet")):
        calls.ask(Call(moment, stream_id, lambda: None))
    assert calls.wait_ns(1) == 2
    assert calls.wait_ns(9) == 0
    found = [calls.take(9, busy=False) for _ in range(3)]
    assert [call and call.stream_id for call in found] == ["early", "late", None]
    calls.clear()
    assert calls.wait_ns(9) is None


# ---- what comes out


def test_pictures_that_a_call_makes_are_synthetic(tmp_path: Path) -> None:
    operator = Imaginative()
    operator.act = lambda last: last.with_data(last.data + 1)
    rig = Rig(tmp_path, operator, (0, frame(0)), (40, end()))
    rig.lane.run()
    out = [item for item in rig.exits.taken() if isinstance(item, Frame)]
    assert [one.stamp.synthetic for one in out] == [False, True]


def test_so_is_what_comes_of_a_stream_that_something_synthetic_went_into(tmp_path: Path) -> None:
    made, real = frame(0, "made"), frame(0, "real")
    made = Frame(made.data, made.caps, structs.replace(made.stamp, synthetic=True))
    operator = Patient()
    operator.act = lambda last: frame(1, last.stamp.stream_id)
    rig = Rig(tmp_path, operator, (0, made), (1, real), (40, end("real")))
    rig.lane.run()
    out = [item for item in rig.exits.taken() if isinstance(item, Frame)]
    assert [one.stamp.synthetic for one in out] == [True, False, True, False]


def test_a_call_that_gives_nothing_sends_nothing(tmp_path: Path) -> None:
    operator = Patient()
    operator.act = lambda last: None
    rig = Rig(tmp_path, operator, (0, frame(0)), (40, end()))
    assert rig.run() == [("cam", 0), ("end", "cam", None)]


# ---- errors


def fails(error: Exception) -> Callable[[Frame], Any]:
    def act(last: Frame) -> Any:
        raise error

    return act


def test_a_call_that_fails_is_told_and_the_stream_goes_on(tmp_path: Path) -> None:
    operator = Patient()
    operator.act = fails(ValueError("no picture"))
    rig = Rig(tmp_path, operator, (0, frame(0)), (40, frame(1)), (41, end()))
    assert rig.run() == [("cam", 0), ("cam", 1), ("end", "cam", None)]
    ((code, stream_id, message),) = rig.host.reports
    assert (code, stream_id) == ("CALL_FAILED", "cam")
    assert "no picture" in message
    assert rig.host.failures == []


def test_calls_that_fail_again_and_again_open_the_circuit(tmp_path: Path) -> None:
    operator = Patient()
    operator.act = fails(ValueError("bad"))
    frames = [(40 * n, frame(n)) for n in range(FAILURES + 1)]
    rig = Rig(tmp_path, operator, *frames, (1000, end()))
    rig.run()
    assert rig.host.codes == ["CALL_FAILED"] * FAILURES + ["CIRCUIT_OPEN"]
    assert len(operator.called) == FAILURES


def test_a_failure_for_good_ends_the_node(tmp_path: Path) -> None:
    operator = Patient()
    operator.act = fails(GONE)
    rig = Rig(tmp_path, operator, (0, frame(0)), (40, frame(1)), (41, end()))
    rig.run()
    assert [(node, error) for node, _, error in rig.host.failures] == [("node", str(GONE))]
    assert rig.stats.state == "failed"
    assert operator.called == [("cam", 10)]


# ---- where there is no clock


def test_a_file_graph_calls_nobody(tmp_path: Path) -> None:
    rig = Rig(tmp_path, Patient(), (0, frame(0)), (40, end()), mode="file")
    rig.run()
    ((code, _, message),) = rig.host.reports
    assert code == "QUARANTINED"
    assert "goes by pts" in message


def test_the_harness_calls_as_the_clock_runs() -> None:
    operator, ctx = Patient(), HarnessContext(mode="live")
    with ExitStack():
        operator.open(ctx)
        operator.process(frame(3))
    assert ctx.run_calls(9 * MS) == []
    assert [one.stamp.seq for one in ctx.run_calls(30 * MS)] == [3]
    assert (operator.called, ctx.clock.now_ns()) == ([("cam", 10)], 30 * MS)
    with pytest.raises(EngineError):
        HarnessContext(mode="file").call_at(0, "cam", lambda: None)
