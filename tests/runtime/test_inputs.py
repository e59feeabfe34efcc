"""Inputs of one driving port: one at a time, in batches, with the latest of others beside it."""

from __future__ import annotations

from typing import Any

import pytest

from engine.caps import Caps
from engine.contract import Port
from engine.frame import Latest
from engine.runtime.inputs import LAG, BatchInputs, SingleInputs, make_inputs
from engine.runtime.work import Inputs, Work
from tests.runtime.fakes import (
    FakeInbox,
    batched,
    brief,
    broken,
    end,
    frame,
    mark,
    planned_node,
)

MS = 1_000_000
ANY = Caps()
FRAMES = {"frames": Port("frames", ANY)}
BATCH = {"frames": Port("frames", ANY, "batch")}
STEERED = {"frames": Port("frames", ANY), "prompt": Port("prompt", ANY, "latest")}


def batch_inputs(inbox: FakeInbox, size: int, wait_ms: float = 0, mode: Any = "file") -> Inputs:
    return make_inputs(batched(size, wait_ms), BATCH, {"frames": inbox}, mode)


def sizes(inputs: Inputs, now_ns: int = 0) -> list[Any]:
    """What `next` gives until it has nothing: batches as lists of (stream, seq)."""
    found = []
    while (step := inputs.next(now_ns)) is not None:
        if isinstance(step, Work):
            found.append([brief(item) for item in step.arguments["frames"].frames])
        else:
            found.append(brief(step))
    return found


def test_one_port_gives_items_as_they_come() -> None:
    inbox = FakeInbox(frame(0), mark(1), frame(2), end(), closed=True)
    inputs = make_inputs(planned_node(), FRAMES, {"frames": inbox}, "file")
    assert isinstance(inputs, SingleInputs)
    work = inputs.next(0)
    assert isinstance(work, Work)
    assert brief(work.arguments["frames"]) == ("cam", 0)
    assert work.frames == [(inbox, work.newest)]
    assert not inputs.finished
    assert brief(inputs.next(0)) == ("mark", "cam", 1)
    assert brief(inputs.next(0).newest) == ("cam", 2)
    assert brief(inputs.next(0)) == ("end", "cam", None)
    assert inputs.next(0) is None
    assert inputs.finished
    assert inputs.wait_ns(0) is None


def test_an_optional_port_that_is_not_connected_is_none() -> None:
    ports = FRAMES | {"audio": Port("audio", ANY, optional=True)}
    inputs = make_inputs(planned_node(), ports, {"frames": FakeInbox(frame(0))}, "file")
    assert inputs.next(0).arguments["audio"] is None


def test_the_latest_of_another_port_is_waited_for_once_and_then_kept() -> None:
    frames, prompt = FakeInbox(frame(0), frame(1), frame(2)), FakeInbox()
    inboxes = {"frames": frames, "prompt": prompt}
    inputs = make_inputs(planned_node(), STEERED, inboxes, "live")
    assert inputs.next(0) is None
    assert len(frames.items) == 3, "a frame was taken before there was a prompt to go with it"
    prompt.feed(frame(7, "text"), mark(8, "text"), frame(9, "text"))
    seen = [inputs.next(0).arguments["prompt"].value for _ in range(2)]
    assert [brief(value) for value in seen] == [("text", 9)] * 2
    prompt.feed(frame(10, "text"))
    assert brief(inputs.next(0).arguments["prompt"].value) == ("text", 10)


def test_a_latest_port_that_ended_without_a_value_stops_nobody() -> None:
    inboxes = {"frames": FakeInbox(frame(0)), "prompt": FakeInbox(closed=True)}
    inputs = make_inputs(planned_node(), STEERED, inboxes, "file")
    assert inputs.next(0).arguments["prompt"].value is None


def test_a_latest_port_that_is_not_connected_is_empty() -> None:
    inputs = make_inputs(planned_node(), STEERED, {"frames": FakeInbox(frame(0))}, "file")
    assert inputs.next(0).arguments["prompt"] == Latest(None)


def test_a_file_graph_fills_batches_across_streams() -> None:
    inbox = FakeInbox(frame(0, "a"), frame(0, "b"), frame(1, "a"))
    inputs = batch_inputs(inbox, 2)
    assert isinstance(inputs, BatchInputs)
    assert sizes(inputs, now_ns=10**12) == [[("a", 0), ("b", 0)]]
    assert inputs.wait_ns(10**12) is None, "a file graph waits for frames, not for the clock"
    inbox.feed(frame(1, "b"))
    assert sizes(inputs) == [[("a", 1), ("b", 1)]]


def test_a_file_batch_is_the_same_however_its_frames_arrive() -> None:
    items = [frame(seq, stream) for seq in range(4) for stream in "ab"] + [end("a"), end("b")]
    at_once = sizes(batch_inputs(FakeInbox(*items, closed=True), 3))
    inbox, one_by_one = FakeInbox(), []
    inputs = batch_inputs(inbox, 3)
    for item in items:
        inbox.feed(item)
        one_by_one += sizes(inputs)
    assert at_once == one_by_one
    assert [len(batch) for batch in at_once[:3]] == [3, 3, 2]


@pytest.mark.parametrize("signal", [end("other"), broken("cam")])
def test_a_signal_lets_waiting_frames_go_first(signal: Any) -> None:
    inputs = batch_inputs(FakeInbox(frame(0), frame(1), signal, frame(2)), 8)
    assert sizes(inputs) == [[("cam", 0), ("cam", 1)], brief(signal)]
    assert not inputs.finished


def test_the_end_of_the_edge_lets_waiting_frames_go() -> None:
    inbox = FakeInbox(frame(0))
    inputs = batch_inputs(inbox, 8)
    assert sizes(inputs) == []
    inbox.close()
    assert not inputs.finished, "a frame still waits here"
    assert sizes(inputs) == [[("cam", 0)]]
    assert inputs.finished


def test_a_mark_passes_unless_frames_in_front_of_it_wait() -> None:
    inbox = FakeInbox(mark(3))
    inputs = batch_inputs(inbox, 2)
    assert sizes(inputs) == [("mark", "cam", 3)]
    inbox.feed(frame(4), mark(5), frame(6), mark(7))
    assert sizes(inputs) == [[("cam", 4), ("cam", 6)], ("mark", "cam", 7)]


def test_a_file_batch_goes_when_its_stream_has_moved_on_without_frames() -> None:
    """What brings the frames another way could not be held for ever: nothing would move."""
    inbox = FakeInbox(frame(3), mark(3 + 8 + LAG))
    inputs = batch_inputs(inbox, 8)
    assert sizes(inputs) == []
    inbox.feed(mark(3 + 8 + LAG + 1))
    assert sizes(inputs) == [[("cam", 3)], ("mark", "cam", 3 + 8 + LAG + 1)]


@pytest.mark.parametrize("step", [1, 5, 10, 17, 40])
def test_a_file_batch_is_the_same_with_and_without_marks_between(step: int) -> None:
    frames = [frame(seq) for seq in range(0, 200, step)]
    marked = [item for one in frames for item in (one, mark(one.stamp.seq + step - 1))]
    bare = sizes(batch_inputs(FakeInbox(*frames, closed=True), 8))
    told = sizes(batch_inputs(FakeInbox(*marked, closed=True), 8))
    assert [found for found in told if isinstance(found, list)] == bare
    assert sum(map(len, bare)) == len(frames)


def test_a_live_batch_waits_no_longer_than_told() -> None:
    inbox = FakeInbox(frame(0))
    inputs = batch_inputs(inbox, 4, wait_ms=10, mode="live")
    assert inputs.wait_ns(0) is None
    assert sizes(inputs, 100 * MS) == []
    assert inputs.wait_ns(103 * MS) == 7 * MS
    inbox.feed(frame(1))
    assert sizes(inputs, 109 * MS) == []
    assert sizes(inputs, 110 * MS) == [[("cam", 0), ("cam", 1)]]
    assert inputs.wait_ns(110 * MS) is None


def test_a_live_batch_goes_as_soon_as_it_is_full() -> None:
    inbox = FakeInbox(*[frame(seq) for seq in range(5)])
    inputs = batch_inputs(inbox, 2, wait_ms=1000, mode="live")
    assert [len(batch) for batch in sizes(inputs)] == [2, 2]
    assert inputs.wait_ns(0) == 1000 * MS


def test_a_live_batch_without_patience_takes_what_is_there() -> None:
    inputs = batch_inputs(FakeInbox(frame(0), frame(1), frame(2)), 8, mode="live")
    assert [len(batch) for batch in sizes(inputs)] == [3]


def test_without_a_batch_spec_a_batch_is_one_frame() -> None:
    inputs = make_inputs(planned_node(), BATCH, {"frames": FakeInbox(frame(0), frame(1))}, "file")
    assert [len(batch) for batch in sizes(inputs)] == [1, 1]
