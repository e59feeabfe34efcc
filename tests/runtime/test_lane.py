"""The lane of a node, run in the test's own thread: bad frames, failures, signals, tunables."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest

from engine.contract import TUNABLE, Config, OpContext, Operator
from engine.errors import DeviceError, OperatorError
from engine.frame import Batch, Frame, Item
from engine.runtime.circuit import FAILURES
from engine.runtime.inputs import make_inputs
from engine.runtime.lane import FIRST_RETRY_NS, NodeLane
from engine.telemetry.stats import NodeStats
from tests.runtime.fakes import (
    Exits,
    FakeHost,
    FakeInbox,
    batched,
    broken,
    end,
    frame,
    mark,
    told,
)

SECOND = 10**9


class GainConfig(Config, frozen=True):
    """A factor."""

    gain: Annotated[int, TUNABLE] = 1


class Scripted(Operator[GainConfig]):
    """Does for each frame what the script says of its seq; remembers every call."""

    def __init__(self, config: GainConfig | None = None) -> None:
        super().__init__(config or GainConfig())
        self.script: dict[int, Callable[[], Any]] = {}
        self.opens: list[Callable[[], Any]] = []  # what the next calls of `open` do
        self.calls: list[Any] = []
        self.rest: Any = None

    def open(self, ctx: OpContext) -> None:
        self.calls.append("open")
        self.states = ctx.per_stream(lambda stream_id: [0])
        if self.opens:
            self.opens.pop(0)()

    def process(self, frames: Frame) -> Frame | None:
        seq = frames.stamp.seq
        self.calls.append(seq)
        self.states[frames.stamp.stream_id][0] += 1
        if seq in self.script:
            return self.script[seq]()
        return frames.with_data(frames.data * np.uint8(self.config.gain))

    def reset(self, stream_id: str) -> Any:
        self.calls.append(f"reset {stream_id}")
        return self.rest

    def close(self) -> None:
        self.calls.append("close")


class Hoarder(Operator):
    """Takes batches and gives nothing."""

    def process(self, frames: Batch[Frame]) -> Batch[Frame] | None:
        return None


def does(error: Exception) -> Callable[[], Any]:
    def act() -> Any:
        raise error

    return act


class Rig:
    """A node between one inbox and one outbox."""

    def __init__(self, operator: Operator[Any], out: Path, mode: Any, *items: Item) -> None:
        self.operator = operator
        self.host = FakeHost(out, mode)
        self.inbox = FakeInbox(*items, closed=True)
        self.exits = Exits()
        self.stats = NodeStats(node="node", worker="main", device="cpu")
        node = batched(8)
        inputs = make_inputs(node, type(operator).inputs, {"frames": self.inbox}, mode)
        self.lane = NodeLane(self.host, node, operator, inputs, self.exits.outlets, self.stats)

    def run(self) -> list[Any]:
        """Everything that came out, in short."""
        self.lane.run()
        return told(self.exits.taken())


@pytest.fixture
def operator() -> Scripted:
    return Scripted()


def test_life_of_an_operator(operator: Scripted, tmp_path: Path) -> None:
    rig = Rig(operator, tmp_path, "file", frame(0), mark(1), frame(2), end())
    assert rig.run() == [("cam", 0), ("mark", "cam", 1), ("cam", 2), ("end", "cam", None)]
    assert operator.calls == ["open", 0, 2, "reset cam", "close"]
    assert (rig.stats.state, rig.stats.frames, rig.stats.busy.count) == ("finished", 2, 2)
    assert rig.host.ended == [rig.lane]
    assert rig.host.reached == {"cam": 2}
    assert rig.exits.boxes["out"].closed
    assert rig.host.failures == []


def test_a_skipped_frame_leaves_its_mark(operator: Scripted, tmp_path: Path) -> None:
    operator.script[1] = lambda: None
    rig = Rig(operator, tmp_path, "file", frame(0), frame(1), frame(2), end())
    assert rig.run() == [("cam", 0), ("mark", "cam", 1), ("cam", 2), ("end", "cam", None)]


def test_a_batch_that_gives_nothing_marks_its_newest_frames(tmp_path: Path) -> None:
    items = [frame(0, "a"), frame(0, "b"), frame(1, "a"), frame(1, "b"), frame(2, "a")]
    rig = Rig(Hoarder(Hoarder.config_type()), tmp_path, "live", *items)
    assert sorted(item for item in rig.run() if item[0] == "mark") == [
        ("mark", "a", 2),
        ("mark", "b", 1),
    ]


# ---- bad frames


def test_a_bad_frame_is_kept_and_the_stream_goes_on(operator: Scripted, tmp_path: Path) -> None:
    operator.script[1] = does(ValueError("seven is not eight"))
    rig = Rig(operator, tmp_path, "file", frame(0), frame(1), frame(2), end())
    assert rig.run() == [("cam", 0), ("mark", "cam", 1), ("cam", 2), ("end", "cam", None)]
    assert rig.inbox.drops == ["quarantined"]
    assert rig.stats.quarantined == 1
    ((code, stream_id, message),) = rig.host.reports
    assert (code, stream_id) == ("QUARANTINED", "cam")
    assert "seq 1" in message
    assert "seven is not eight" in message
    trace = (tmp_path / "quarantine" / "node" / "cam-1.txt").read_text()
    assert "ValueError: seven is not eight" in trace
    assert rig.host.reached == {"cam": 2}
    assert rig.host.failures == []


def test_a_frame_that_cannot_be_kept_stops_nothing(operator: Scripted, tmp_path: Path) -> None:
    (tmp_path / "quarantine").write_text("a file is in the way")
    operator.script[1] = does(ValueError("bad"))
    rig = Rig(operator, tmp_path, "file", frame(0), frame(1), frame(2), end())
    assert rig.run() == [("cam", 0), ("mark", "cam", 1), ("cam", 2), ("end", "cam", None)]
    assert rig.host.codes == ["QUARANTINE_FAILED", "QUARANTINED"]
    assert rig.stats.state == "finished"


def test_a_result_of_the_wrong_kind_is_a_bad_frame(operator: Scripted, tmp_path: Path) -> None:
    operator.script[0] = lambda: "a word"
    rig = Rig(operator, tmp_path, "file", frame(0), frame(1), end())
    assert rig.run() == [("mark", "cam", 0), ("cam", 1), ("end", "cam", None)]
    assert "process returned str" in rig.host.reports[0][2]


def test_a_circuit_opens_after_failures_and_closes_after_a_rest(
    operator: Scripted, tmp_path: Path
) -> None:
    operator.script = {seq: does(ValueError("bad")) for seq in range(FAILURES)}
    # 25 fps, a rest of 2 s of pts: frames 5..53 pass it by, the next one is tried again
    rig = Rig(operator, tmp_path, "file", *[frame(seq) for seq in range(60)], end())
    frames = [item for item in rig.run() if item[0] == "cam"]
    assert rig.host.codes == ["QUARANTINED"] * FAILURES + ["CIRCUIT_OPEN"]
    assert frames == [("cam", seq) for seq in range(54, 60)]
    assert [call for call in operator.calls if isinstance(call, int)] == [
        *range(FAILURES),
        *range(54, 60),
    ]
    assert rig.inbox.drops == ["quarantined"] * 54
    assert rig.stats.quarantined == FAILURES


def test_after_the_rest_one_failure_opens_it_again(operator: Scripted, tmp_path: Path) -> None:
    operator.script = {seq: does(ValueError("bad")) for seq in (*range(FAILURES), 54)}
    rig = Rig(operator, tmp_path, "file", *[frame(seq) for seq in range(60)], end())
    rig.run()
    assert rig.host.codes.count("CIRCUIT_OPEN") == 2
    assert operator.calls[-3] == 54


# ---- failures


def failing(operator: Scripted, tmp_path: Path, mode: Any, error: Exception) -> Rig:
    operator.script[1] = does(error)
    items = [frame(seq) for seq in range(4)]
    return Rig(operator, tmp_path, mode, *items, end())


@pytest.mark.parametrize(
    ("mode", "error"),
    [
        ("file", OperatorError("DISK_FULL", "no room", permanent=False)),
        ("file", OperatorError("GONE", "for good")),
        ("live", OperatorError("GONE", "for good")),
        ("live", DeviceError("the GPU fell off the bus")),
    ],
)
def test_a_node_that_fails_for_good_keeps_draining(
    operator: Scripted, tmp_path: Path, mode: Any, error: Exception
) -> None:
    rig = failing(operator, tmp_path, mode, error)
    found = rig.run()
    assert rig.host.failures == [("node", "node", str(error))]
    assert rig.stats.state == "failed"
    assert rig.stats.error == str(error)
    assert operator.calls == ["open", 0, 1, "close"]
    assert rig.inbox.drops == ["quarantined"] * 3
    assert rig.inbox.closed
    assert rig.host.reached == {"cam": 3}, "the flow limit must not wait for it"
    assert [item for item in found if item[0] == "cam"] == [("cam", 0)]
    assert [item for item in found if item[0] == "end"] == [("end", "cam", str(error))]


def test_a_live_node_tries_again_later(operator: Scripted, tmp_path: Path) -> None:
    rig = failing(operator, tmp_path, "live", OperatorError("AWAY", "soon", permanent=False))
    states = []

    def look() -> Frame:
        states.append(rig.stats.state)
        rig.host.clock.advance(FIRST_RETRY_NS)
        return frame(0)

    rig.exits.outlets.skip = lambda source: rig.host.clock.advance(FIRST_RETRY_NS)  # type: ignore[method-assign]
    operator.script[2] = look
    found = rig.run()
    assert [item for item in found if item[0] == "cam"] == [("cam", 0), ("cam", 0), ("cam", 3)]
    assert operator.calls == ["open", 0, 1, "close", "open", 2, 3, "reset cam", "close"]
    assert states == ["running"]
    assert rig.host.reports == [("AWAY", "cam", "soon")]
    assert rig.host.failures == []
    assert (rig.stats.restarts, rig.stats.state) == (1, "finished")
    assert rig.inbox.drops == ["quarantined"]


def test_between_tries_frames_pass_by(operator: Scripted, tmp_path: Path) -> None:
    rig = failing(operator, tmp_path, "live", OperatorError("AWAY", "soon", permanent=False))
    found = rig.run()  # the clock stands still
    assert operator.calls == ["open", 0, 1, "close"]
    assert rig.inbox.drops == ["quarantined"] * 3
    assert found[-1] == ("end", "cam", None)
    assert rig.host.failures == []


def reopening(operator: Scripted, tmp_path: Path, *opens: Exception) -> Rig:
    """A live node that went away at frame 1; each frame that passes by takes a minute."""
    rig = failing(operator, tmp_path, "live", OperatorError("AWAY", "soon", permanent=False))
    operator.opens = [lambda: None, *map(does, opens)]
    rig.exits.outlets.skip = lambda source: rig.host.clock.advance(60 * SECOND)  # type: ignore[method-assign]
    return rig


def test_opening_again_is_tried_again(operator: Scripted, tmp_path: Path) -> None:
    rig = reopening(operator, tmp_path, OperatorError("AWAY", "still", permanent=False))
    rig.run()
    assert operator.calls == ["open", 0, 1, "close", "open", "open", 3, "reset cam", "close"]
    assert rig.host.failures == []


@pytest.mark.parametrize("error", [OperatorError("GONE", "for good"), ValueError("a bug")])
def test_opening_again_may_fail_for_good(
    operator: Scripted, tmp_path: Path, error: Exception
) -> None:
    rig = reopening(operator, tmp_path, error)
    rig.run()
    assert operator.calls == ["open", 0, 1, "close", "open"]
    assert rig.host.failures == [("node", "node", str(error))]
    assert rig.inbox.drops == ["quarantined"] * 3
    assert rig.stats.state == "failed"


@pytest.mark.parametrize("error", [OperatorError("NOT_FOUND", "no model"), RuntimeError("a bug")])
def test_an_open_that_fails_is_told_and_never_closed(
    operator: Scripted, tmp_path: Path, error: Exception
) -> None:
    operator.opens = [does(error)]
    rig = Rig(operator, tmp_path, "file", frame(0), end())
    rig.host.going = False  # nothing starts
    assert rig.run() == []
    assert operator.calls == ["open"]
    assert rig.host.failures == [("node", "node", str(error))]
    assert rig.lane.opened.is_set()
    assert rig.stats.state == "failed"


def test_a_node_that_cannot_open_in_a_second_life_keeps_draining(
    operator: Scripted, tmp_path: Path
) -> None:
    operator.opens = [does(OperatorError("GONE", "for good"))]
    rig = Rig(operator, tmp_path, "live", frame(0), frame(1), end())
    rig.host.incarnation = 1
    assert rig.run() == []
    assert rig.inbox.closed
    assert rig.inbox.drops == ["quarantined"] * 2
    assert rig.host.failures == [("node", "node", "GONE: for good")]


def test_a_second_life_may_open_later(operator: Scripted, tmp_path: Path) -> None:
    operator.opens = [does(OperatorError("AWAY", "soon", permanent=False))]
    rig = Rig(operator, tmp_path, "live", frame(0), frame(1), end())
    rig.host.incarnation = 1
    rig.exits.outlets.skip = lambda source: rig.host.clock.advance(SECOND)  # type: ignore[method-assign]
    assert rig.run() == [("cam", 1), ("end", "cam", None)]
    assert operator.calls == ["open", "open", 1, "reset cam", "close"]
    assert (rig.host.failures, rig.host.codes) == ([], ["AWAY"])


def test_what_open_acquired_is_released_when_it_fails(tmp_path: Path) -> None:
    released: list[str] = []

    class HalfOpen(Scripted):
        def open(self, ctx: OpContext) -> None:
            stack = ExitStack()
            stack.callback(released.append, "handle")
            ctx.enter(stack)
            raise OperatorError("NOT_FOUND", "the second half")

    rig = Rig(HalfOpen(), tmp_path, "file")
    rig.run()
    assert released == ["handle"]


def test_a_close_that_fails_is_a_failure_and_ends_the_lane(
    operator: Scripted, tmp_path: Path
) -> None:
    operator.close = does(OSError("disk full"))  # type: ignore[method-assign]
    rig = Rig(operator, tmp_path, "file", frame(0), end())
    assert rig.run()[-1] == ("end", "cam", None)
    assert rig.host.failures == [("node", "node", "disk full")]
    assert rig.host.ended == [rig.lane]


# ---- signals, epochs, tunables


def test_state_of_a_stream_is_forgotten_at_its_end_and_at_a_break(
    operator: Scripted, tmp_path: Path
) -> None:
    sizes = []
    operator.script = {
        2: lambda: sizes.append(operator.states["cam"][0]),
        3: lambda: sizes.append(len(operator.states)),
    }
    items = [frame(0), frame(1), broken(), frame(2), end(), frame(3, "other")]
    rig = Rig(operator, tmp_path, "file", *items, end("other"))
    found = rig.run()
    assert sizes == [1, 1], "frame 2 finds a new state, frame 3 only its own"
    assert found[2] == broken()
    assert operator.calls == [
        "open", 0, 1, "reset cam", 2, "reset cam", 3, "reset other", "close",
    ]  # fmt: skip


def test_what_reset_returns_is_sent_before_the_end(operator: Scripted, tmp_path: Path) -> None:
    operator.rest = frame(9)
    rig = Rig(operator, tmp_path, "file", frame(0), end())
    assert rig.run() == [("cam", 0), ("cam", 9), ("end", "cam", None)]


@pytest.mark.parametrize(("others", "resets"), [(0, 0), (1, 1)])
def test_who_asked_for_the_epoch_is_not_reset_for_it(
    others: int, resets: int, tmp_path: Path
) -> None:
    """But for one that somebody else asked for after it."""
    operator = Scripted()
    last = 1 + others
    rig = Rig(operator, tmp_path, "live", frame(0), frame(1, epoch=last), frame(2, epoch=last))
    operator.script[0] = lambda: rig.lane.ctx.new_epoch("prompt", "cam")
    rig.run()
    assert rig.host.epoch_reasons == ["prompt"]
    before_the_end = operator.calls[: operator.calls.index(2)]
    assert before_the_end.count("reset cam") == resets
    assert operator.calls[-2:] == ["reset cam", "close"], "its end is another matter"


def test_a_new_epoch_resets_the_stream_and_sends_no_rest(
    operator: Scripted, tmp_path: Path
) -> None:
    operator.rest = frame(9)
    rig = Rig(operator, tmp_path, "live", frame(0), frame(1, epoch=1), frame(2, epoch=1))
    found = rig.run()
    assert operator.calls == ["open", 0, "reset cam", 1, 2, "reset cam", "close"]
    assert [item for item in found if item[0] == "cam"][:3] == [("cam", 0), ("cam", 1), ("cam", 2)]


def test_a_reset_that_raises_is_told_and_the_end_still_goes_on(
    operator: Scripted, tmp_path: Path
) -> None:
    operator.reset = does_with_stream(ValueError("bad"))  # type: ignore[method-assign]
    rig = Rig(operator, tmp_path, "file", frame(0), end())
    assert rig.run() == [("cam", 0), ("end", "cam", None)]
    assert rig.host.codes == ["RESET_FAILED"]
    assert rig.stats.state == "finished"


def test_a_reset_that_cannot_do_its_work_fails_the_node(operator: Scripted, tmp_path: Path) -> None:
    operator.reset = does_with_stream(OperatorError("DISK_FULL", "no"))  # type: ignore[method-assign]
    rig = Rig(operator, tmp_path, "file", frame(0), end())
    found = rig.run()
    assert [item for item in found if item[0] == "end"] == [("end", "cam", "DISK_FULL: no")]
    assert rig.stats.state == "failed"
    assert operator.calls[-1] == "close"


def does_with_stream(error: Exception) -> Callable[[str], Any]:
    def act(stream_id: str) -> Any:
        raise error

    return act


def test_a_stream_whose_end_never_came_ends_with_the_edge(
    operator: Scripted, tmp_path: Path
) -> None:
    rig = Rig(operator, tmp_path, "live", frame(0))
    assert rig.run() == [("cam", 0), ("end", "cam", "ended without a StreamEnd")]
    assert operator.calls == ["open", 0, "reset cam", "close"]


def test_a_tunable_changes_from_the_frame_it_is_for(operator: Scripted, tmp_path: Path) -> None:
    items = [frame(seq) for seq in range(1, 6)]
    rig = Rig(operator, tmp_path, "live", *items, end())
    rig.lane.tune("gain", 2, 3)
    rig.lane.tune("gain", 5, 5)
    rig.lane.run()
    values = [int(item.data[0, 0]) for item in rig.exits.taken() if isinstance(item, Frame)]
    assert values == [1, 2, 6, 8, 25]
    assert operator.config.gain == 5


def test_an_aborted_run_stops_taking(operator: Scripted, tmp_path: Path) -> None:
    rig = Rig(operator, tmp_path, "file", *[frame(seq) for seq in range(5)])
    operator.script[1] = lambda: setattr(rig.host, "aborted", True)
    rig.run()
    assert [call for call in operator.calls if isinstance(call, int)] == [0, 1]
    assert operator.calls[-1] == "close"
