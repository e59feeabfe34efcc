"""The lane of a source, run in the test's own thread: order of streams, breaks, trying again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest

from engine.clock import FakeClock
from engine.contract import TUNABLE, Config, NoConfig, OpContext, Operator
from engine.errors import EndOfStream, OperatorError
from engine.frame import Discontinuity, Frame
from engine.runtime.lane import LONGEST_RETRY_NS
from engine.runtime.source import SourceLane, Stream
from engine.telemetry.stats import NodeStats
from engine.timing import NANOSECONDS
from tests.runtime.fakes import GRAY, Exits, FakeHost, frame, planned_node, told, without_marks

MS = 1_000_000
LOST = OperatorError("DISCONNECTED", "the camera is gone", permanent=False)
REFUSED = OperatorError("AUTH_FAILED", "wrong password")


class Scripted(Operator[NoConfig]):
    """Does what the script says, call by call: a pts makes a frame, an error is raised, ..."""

    def __init__(self, *script: Any, opens: tuple[Any, ...] = ()) -> None:
        super().__init__(NoConfig())
        self.script = list(script)
        self.opens = list(opens)  # what the next calls of `open` raise; None: nothing
        self.calls: list[str] = []
        self.held = 0  # resources acquired and not yet released

    def open(self, ctx: OpContext) -> None:
        self.ctx = ctx
        self.calls.append("open")
        ctx.enter(self._hold())
        error = self.opens.pop(0) if self.opens else None
        if error is not None:
            raise error

    def process(self) -> Frame | None:
        step = self.script.pop(0) if self.script else EndOfStream()
        if isinstance(step, Exception):
            raise step
        if callable(step):
            step = step()
        if not isinstance(step, int):
            return step
        return Frame(np.zeros((2, 2), np.uint8), GRAY, self.ctx.stamp(step * MS, NANOSECONDS))

    def close(self) -> None:
        self.calls.append("close")

    @contextmanager
    def _hold(self) -> Iterator[None]:
        self.held += 1
        yield
        self.held -= 1


class Rig:
    """The lane of one source node; streams are named a, b, c."""

    def __init__(self, out: Path, mode: Any, *operators: Scripted) -> None:
        self.host = FakeHost(out, mode)
        self.exits = Exits()
        self.stats = NodeStats(node="cams", worker="main", device="cpu")
        node = planned_node("cams")
        streams = [
            Stream(self.host, node, name, operator)
            for name, operator in zip("abc", operators, strict=False)
        ]
        self.lane = SourceLane(self.host, node, streams, self.exits.outlets, self.stats)

    def run(self) -> list[Any]:
        """Everything that came out, in short."""
        self.lane.run()
        return told(without_marks(self.exits.taken()))


class WatchedClock(FakeClock):
    """Remembers for how long was waited; something may happen during the n-th wait."""

    def __init__(self, during: dict[int, Callable[[], None]] | None = None) -> None:
        super().__init__(10**12)
        self.waits_ms: list[int] = []
        self._during = during or {}

    def wait(self, event: threading.Event, timeout_ns: int) -> bool:
        self._during.get(len(self.waits_ms), lambda: None)()
        self.waits_ms.append(timeout_ns // MS)
        return super().wait(event, timeout_ns)


# ---- what comes out


def test_a_stream_is_opened_read_to_its_end_and_closed(tmp_path: Path) -> None:
    camera = Scripted(0, None, 40)
    rig = Rig(tmp_path, "file", camera)
    assert rig.run() == [("a", 0), ("a", 1), ("end", "a", None)]
    assert camera.calls == ["open", "close"]
    assert camera.held == 0
    assert rig.lane.opened.is_set()
    assert (rig.stats.frames, rig.stats.busy.count, rig.stats.state) == (2, 2, "finished")
    assert rig.host.over == ["a"]
    assert rig.host.ended == [rig.lane]
    assert rig.host.failures == []


def test_streams_of_files_take_turns_by_their_time(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "file", Scripted(0, 40, 80), Scripted(0, 100), Scripted(10, 20, 30, 90))
    assert rig.run() == [
        ("a", 0), ("b", 0), ("c", 0),
        ("a", 1), ("b", 1),  # who stands at 0 goes on before who stands at 10
        ("c", 1), ("c", 2), ("c", 3), ("a", 2),
        ("end", "a", None), ("end", "c", None), ("end", "b", None),
    ]  # fmt: skip


def test_a_break_goes_in_front_of_the_next_frame(tmp_path: Path) -> None:
    camera = Scripted()
    camera.script = [0, lambda: camera.ctx.discontinuity("LOOP"), 40, 80]
    rig = Rig(tmp_path, "file", camera)
    assert rig.run() == [
        ("a", 0), Discontinuity("a", "LOOP"), ("a", 1), ("a", 2), ("end", "a", None)
    ]  # fmt: skip


def test_nothing_is_read_when_the_others_could_not_be_opened(tmp_path: Path) -> None:
    camera = Scripted(0)
    rig = Rig(tmp_path, "live", camera)
    rig.host.going = False
    assert rig.run() == [("end", "a", None)]
    assert camera.calls == ["open", "close"]


# ---- tunables


class ShownConfig(Config, frozen=True):
    value: Annotated[int, TUNABLE] = 0


class Shown(Operator[ShownConfig]):
    """Five frames; every byte is the value of the moment."""

    def open(self, ctx: OpContext) -> None:
        self.ctx = ctx
        self.count = 0

    def process(self) -> Frame:
        if self.count == 5:
            raise EndOfStream
        self.count += 1
        stamp = self.ctx.stamp(self.count * MS, NANOSECONDS)
        return Frame(np.full((2, 2), self.config.value, np.uint8), GRAY, stamp)


def test_a_tunable_of_a_source_changes_at_the_frame_named(tmp_path: Path) -> None:
    host, exits = FakeHost(tmp_path), Exits()
    node = planned_node("cams")
    streams = [Stream(host, node, name, Shown(ShownConfig())) for name in "ab"]
    stats = NodeStats(node="cams", worker="main", device="cpu")
    lane = SourceLane(host, node, streams, exits.outlets, stats)
    lane.tune("value", 7, 3)
    lane.tune("value", 5, 0)
    lane.run()
    frames = [item for item in exits.taken() if isinstance(item, Frame)]
    for name in "ab":
        shown = [int(one.data[0, 0]) for one in frames if one.stamp.stream_id == name]
        assert shown == [5, 5, 5, 7, 7], name


# ---- the limit at the entry


def test_frames_that_the_flow_limit_refuses_are_counted_and_dropped(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "live", Scripted(0, 40, 80, 120))
    rig.host.admits = lambda seq: seq not in (1, 2)
    assert rig.run() == [("a", 0), ("a", 3), ("end", "a", None)]
    edge = rig.exits.boxes["out"].stats()
    assert (edge.sent, edge.drops) == (4, {"queue_full": 2})
    assert rig.stats.frames == 4


def test_the_flow_limit_does_not_ask_for_sound(tmp_path: Path) -> None:
    camera = Scripted()
    camera.script = [lambda: frame(5, "a", media="packet"), 0]
    rig = Rig(tmp_path, "live", camera)
    rig.host.admits = lambda seq: False
    assert rig.run() == [("a", 5), ("end", "a", None)]
    assert rig.stats.frames == 1, "packets are no frames"


# ---- ends


@pytest.mark.parametrize("named", [None, "a"])
def test_a_stream_that_is_stopped_ends_at_the_next_chance(
    named: str | None, tmp_path: Path
) -> None:
    camera = Scripted()
    rig = Rig(tmp_path, "live", camera)
    camera.script = [0, lambda: rig.lane.stop(named), 40, 80]
    assert rig.run() == [("a", 0), ("end", "a", None)]
    assert camera.ctx.stopping()
    assert camera.calls == ["open", "close"]


def test_only_the_stream_named_is_stopped(tmp_path: Path) -> None:
    first, second = Scripted(), Scripted(0, 40)
    rig = Rig(tmp_path, "file", first, second)
    first.script = [0, lambda: rig.lane.stop("a"), 40]
    found = rig.run()
    assert [item for item in found if item[0] == "b"] == [("b", 0), ("b", 1)]
    assert [item for item in found if item[0] == "a"] == [("a", 0)]


def test_an_aborted_run_reads_no_more(tmp_path: Path) -> None:
    camera = Scripted()
    rig = Rig(tmp_path, "live", camera)
    camera.script = [0, lambda: setattr(rig.host, "aborted", True), 40]
    assert rig.run() == [("a", 0), ("end", "a", None)]
    assert camera.calls == ["open", "close"]


def test_a_close_that_fails_is_told_and_resources_are_released(tmp_path: Path) -> None:
    camera = Scripted(0)

    def fail() -> None:
        raise OSError("cannot flush")

    camera.close = fail  # type: ignore[method-assign]
    rig = Rig(tmp_path, "file", camera)
    assert rig.run()[-1] == ("end", "a", None)
    assert rig.host.reports == [("CLOSE_FAILED", "a", "cannot flush")]
    assert camera.held == 0


# ---- failures


@pytest.mark.parametrize("error", [REFUSED, LOST, ValueError("bad packet")])
def test_in_a_file_one_stream_fails_and_the_others_go_on(error: Any, tmp_path: Path) -> None:
    broken, whole = Scripted(0, error, 40), Scripted(0, 40)
    rig = Rig(tmp_path, "file", broken, whole)
    found = rig.run()
    assert [item for item in found if item[0] == "b"] == [("b", 0), ("b", 1)]
    assert ("end", "a", str(error)) in found
    assert ("end", "b", None) in found
    assert rig.host.failures == [("cams", "a", str(error))]
    assert (rig.stats.state, rig.stats.error) == ("failed", str(error))
    assert broken.calls == ["open", "close"]


def test_a_source_that_cannot_be_opened_is_a_failure_and_holds_nothing(tmp_path: Path) -> None:
    camera = Scripted(0, opens=(REFUSED,))
    rig = Rig(tmp_path, "live", camera)
    assert rig.run() == [("end", "a", str(REFUSED))]
    assert rig.host.failures == [("cams", "a", str(REFUSED))]
    assert camera.calls == ["open"], "what did not open is not closed"
    assert camera.held == 0
    assert rig.lane.opened.is_set()


def test_a_result_of_the_wrong_kind_fails_the_stream(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "file", Scripted("not a frame"))
    rig.run()
    ((_, _, message),) = rig.host.failures
    assert message.startswith("process returned str")


# ---- live: trying again


@pytest.mark.parametrize(
    ("error", "code"), [(LOST, "DISCONNECTED"), (ValueError("bad packet"), "ValueError")]
)
def test_a_live_stream_goes_on_after_a_break(error: Exception, code: str, tmp_path: Path) -> None:
    camera = Scripted(0, error, 40)
    rig = Rig(tmp_path, "live", camera)
    assert rig.run() == [("a", 0), Discontinuity("a", code), ("a", 1), ("end", "a", None)]
    assert camera.calls == ["open", "close", "open", "close"]
    assert rig.host.reports == [(code, "a", f"{error}; trying again")]
    assert (rig.stats.restarts, rig.stats.state, rig.stats.error) == (1, "finished", None)
    assert rig.host.failures == []
    assert camera.held == 0


def test_it_waits_twice_as_long_each_time_up_to_ten_seconds(tmp_path: Path) -> None:
    camera = Scripted(0, LOST, 40, LOST, 80, opens=(None, *[LOST] * 6, None))
    rig = Rig(tmp_path, "live", camera)
    rig.host.clock = clock = WatchedClock()
    rig.run()
    after_a_frame = 500
    assert clock.waits_ms == [500, 1000, 2000, 4000, 8000, 10_000, 10_000, after_a_frame]
    assert LONGEST_RETRY_NS == 10_000 * MS
    assert camera.held == 0


@pytest.mark.parametrize("passing", [LOST, OSError("network is unreachable")])
def test_opening_again_may_fail_for_a_while(passing: Exception, tmp_path: Path) -> None:
    camera = Scripted(0, LOST, 40, opens=(None, passing, None))
    rig = Rig(tmp_path, "live", camera)
    assert [item for item in rig.run() if isinstance(item, tuple)] == [
        ("a", 0), ("a", 1), ("end", "a", None)
    ]  # fmt: skip
    assert camera.calls == ["open", "close", "open", "open", "close"]


def test_what_trying_again_cannot_mend_is_a_failure(tmp_path: Path) -> None:
    camera = Scripted(0, LOST, 40, opens=(None, LOST, REFUSED))
    rig = Rig(tmp_path, "live", camera)
    assert rig.run() == [("a", 0), ("end", "a", str(REFUSED))]
    assert rig.host.failures == [("cams", "a", str(REFUSED))]
    assert camera.held == 0


def test_a_live_error_that_is_permanent_is_a_failure_at_once(tmp_path: Path) -> None:
    camera = Scripted(0, REFUSED, 40)
    rig = Rig(tmp_path, "live", camera)
    assert rig.run() == [("a", 0), ("end", "a", str(REFUSED))]
    assert camera.calls == ["open", "close"]


def test_who_is_stopped_while_waiting_does_not_try_again(tmp_path: Path) -> None:
    """Opening a camera that is gone may take as long as its time-out."""
    camera = Scripted(0, LOST, 40)
    rig = Rig(tmp_path, "live", camera)
    rig.host.clock = clock = WatchedClock({0: rig.lane.stop})
    assert rig.run() == [("a", 0), ("end", "a", None)]
    assert camera.calls == ["open", "close"]
    assert len(clock.waits_ms) == 1
    assert rig.host.failures == []
