"""What leaves a node: results split over ports and edges, and marks where nothing came out."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
from msgspec import structs

from engine.clock import FakeClock
from engine.contract import Marked
from engine.frame import Batch, Frame, Latest, Record, Watermark
from engine.runtime.outlets import Outlets, split_result
from engine.runtime.work import Work
from engine.transport.outbox import Outbox
from tests.runtime.fakes import Exits, broken, end, frame, mark, planned_edge, told


class Both(NamedTuple):
    left: Any = None
    right: Any = None


class OutletSighting(Record, frozen=True):
    """For counting."""

    where: int = 0


SOURCE = frame(7)


@pytest.mark.parametrize(
    "result",
    [frame(0), Batch((frame(0),)), [frame(0)]],
    ids=["frame", "batch", "list"],
)
def test_a_result_goes_to_the_only_port(result: Any) -> None:
    exits = Exits("video")
    exits.outlets.send_result(result, SOURCE)
    assert told(exits.taken("video")) == [("cam", 0)]


@pytest.mark.parametrize("several", [Batch((frame(0), frame(1))), [frame(0), frame(1)]])
def test_several_frames_leave_in_their_order(several: Any) -> None:
    exits = Exits()
    exits.outlets.send_result(several, SOURCE)
    assert told(exits.taken()) == [("cam", 0), ("cam", 1)]


def test_a_named_tuple_names_the_ports_and_empty_ones_get_a_mark() -> None:
    exits = Exits("left", "right")
    exits.outlets.send_result(Both(right=[frame(0), frame(1)]), SOURCE)
    assert told(exits.taken("left")) == [("mark", "cam", 7)]
    assert told(exits.taken("right")) == [("cam", 0), ("cam", 1)]


def test_an_empty_list_is_nothing() -> None:
    exits = Exits("left", "right")
    exits.outlets.send_result(Both(left=[], right=frame(0)), SOURCE)
    assert told(exits.taken("left")) == [("mark", "cam", 7)]


def test_nothing_leaves_the_mark_of_the_frame_it_was_made_from() -> None:
    exits = Exits("left", "right")
    exits.outlets.send_result(None, SOURCE)
    for port in ("left", "right"):
        assert exits.taken(port) == [Watermark("cam", 7, SOURCE.stamp.pts_ns)]


def test_the_rest_of_a_stream_has_no_frame_to_mark() -> None:
    exits = Exits("left", "right")
    exits.outlets.send_result(Both(left=frame(0)), None)
    assert exits.taken("right") == []


def test_who_looks_ahead_sends_no_marks() -> None:
    """A frame that was taken may still come out later."""
    exits = Exits(looks_ahead=True)
    exits.outlets.send_result(None, SOURCE)
    exits.outlets.skip(SOURCE)
    exits.outlets.signal(mark(9))
    assert exits.taken() == []
    exits.outlets.signal(end())
    assert told(exits.taken()) == [("end", "cam", None)]


def test_a_frame_that_was_skipped_leaves_its_mark_on_every_port() -> None:
    exits = Exits("left", "right")
    exits.outlets.skip(SOURCE)
    assert told(exits.taken("left")) == told(exits.taken("right")) == [("mark", "cam", 7)]


@pytest.mark.parametrize("signal", [mark(3), end(), broken()])
def test_a_signal_goes_to_every_port(signal: Any) -> None:
    exits = Exits("left", "right")
    exits.outlets.signal(signal)
    assert exits.taken("left") == exits.taken("right") == [signal]


def test_every_edge_of_a_port_gets_the_same_frame() -> None:
    boxes = [Outbox(planned_edge("node", name), FakeClock()) for name in "xy"]
    outlets = Outlets({"out": boxes}, lambda: False, False, {})
    made = frame(0)
    outlets.send_result(made, SOURCE)
    assert [box.take() for box in boxes] == [made, made]
    assert all(box.take() is None for box in boxes)


def test_records_are_counted_by_class_once_for_all_edges() -> None:
    boxes = [Outbox(planned_edge("node", name), FakeClock()) for name in "xy"]
    records: dict[str, int] = {}
    outlets = Outlets({"out": boxes}, lambda: False, False, records)
    outlets.send_result(
        [frame(0).with_records(OutletSighting(), OutletSighting()), frame(1)], SOURCE
    )
    outlets.send_result(frame(2).with_records(OutletSighting()), SOURCE)
    assert records == {"OutletSighting": 3}


def test_what_is_refused_is_sent_and_dropped_and_never_comes() -> None:
    exits = Exits("left", "right")
    exits.outlets.refuse(Both(left=[frame(0), frame(1)]))
    assert exits.taken("left") == exits.taken("right") == []
    left, right = exits.boxes["left"].stats(), exits.boxes["right"].stats()
    assert (left.sent, left.drops, left.balanced) == (2, {"queue_full": 2}, True)
    assert right.sent == 0


def test_closing_closes_every_edge() -> None:
    exits = Exits("left", "right")
    exits.outlets.send_result(Both(left=frame(0)), None)
    exits.outlets.close()
    assert not exits.boxes["left"].closed, "a frame waits there"
    assert exits.boxes["right"].closed
    exits.taken("left")
    assert exits.boxes["left"].closed


def test_who_waits_for_room_is_let_go_when_the_run_is_aborted() -> None:
    aborted = threading.Event()
    box = Outbox(planned_edge("node", "slow", queue=1), FakeClock())
    outlets = Outlets({"out": [box]}, aborted.is_set, False, {})
    outlets.send_result(frame(0), SOURCE)
    waiting = threading.Thread(target=outlets.send_result, args=(frame(1), SOURCE), daemon=True)
    waiting.start()
    aborted.set()
    box.wake()
    waiting.join(5)
    assert not waiting.is_alive()
    assert (box.stats().sent, box.stats().in_flight) == (1, 1)


@pytest.mark.parametrize("wrong", ["text", 3, {"out": 1}, (frame(0),), frame(0).data])
def test_a_result_of_another_kind_is_named(wrong: Any) -> None:
    with pytest.raises(TypeError, match=f"returned {type(wrong).__name__}; Frame, Batch, list"):
        split_result(wrong, ["out"])


@pytest.mark.parametrize("wrong", [[1], [frame(0), None], Batch(("x",)), Both(left=["x"])])
def test_something_else_among_frames_is_named_before_any_is_sent(wrong: Any) -> None:
    exits = Exits("left", "right")
    with pytest.raises(TypeError, match="Frame"):
        exits.outlets.send_result(wrong, SOURCE)
    assert exits.taken("left") == exits.taken("right") == []


def test_a_port_that_does_not_exist_is_named() -> None:
    class Other(NamedTuple):
        left: Frame
        middle: Frame

    exits = Exits("left", "right")
    with pytest.raises(TypeError, match="middle"):
        exits.outlets.send_result(Other(frame(0), frame(1)), SOURCE)
    assert exits.taken("left") == [], "what cannot be sent whole is not sent"


def test_a_sink_that_returns_a_frame_is_told_that_it_has_no_output() -> None:
    with pytest.raises(TypeError, match="output out; there is none"):
        Outlets({}, lambda: False, False, {}).send_result(frame(0), SOURCE)


def synthetic_one(seq: int, stream_id: str = "cam") -> Frame:
    real = frame(seq, stream_id)
    return replace(real, stamp=structs.replace(real.stamp, synthetic=True))


def synthetic(frames: list[Frame]) -> list[bool]:
    return [one.stamp.synthetic for one in frames]


def test_what_a_model_makes_is_synthetic_whatever_it_says() -> None:
    box = Outbox(planned_edge("node", "x", queue=4), FakeClock())
    outlets = Outlets({"out": [box]}, lambda: False, False, {}, synthesizes=True)
    outlets.send_result([frame(0), frame(1)], SOURCE)
    assert synthetic([box.take(), box.take()]) == [True, True]  # type: ignore[list-item]


def test_what_a_model_passes_on_untouched_was_captured() -> None:
    """The same array, that is: a copy of it, or another one in its place, is what it made."""
    box = Outbox(planned_edge("node", "x", queue=8), FakeClock())
    outlets = Outlets({"out": [box]}, lambda: False, False, {}, synthesizes=True)
    given = frame(0)
    copied = given.with_data(given.data.copy())
    noted = given.with_records(OutletSighting())
    outlets.send_result([given, copied, noted, frame(0)], SOURCE, None, iter([SOURCE, given]))
    assert synthetic([box.take() for _ in range(4)]) == [False, True, False, True]  # type: ignore[misc]


def test_what_a_model_passes_on_keeps_the_taint_it_came_with() -> None:
    box = Outbox(planned_edge("node", "x", queue=8), FakeClock())
    outlets = Outlets({"out": [box]}, lambda: False, False, {}, synthesizes=True)
    given = frame(0)
    outlets.send_result(given, SOURCE, lambda stamp: True, [given])
    assert synthetic([box.take()]) == [True]  # type: ignore[list-item]


def test_every_port_of_a_model_may_pass_on_what_was_captured() -> None:
    boxes = {port: Outbox(planned_edge("node", port, queue=8), FakeClock()) for port in "ab"}
    outlets = Outlets(
        {port: [box] for port, box in boxes.items()}, lambda: False, False, {}, synthesizes=True
    )

    class Ports(NamedTuple):
        a: Frame
        b: Frame

    given = frame(0)
    outlets.send_result(Ports(given, given), SOURCE, None, iter([given]))
    assert synthetic([box.take() for box in boxes.values()]) == [False, False]  # type: ignore[misc]


def test_taint_reaches_those_that_it_names() -> None:
    box = Outbox(planned_edge("node", "x", queue=4), FakeClock())
    outlets = Outlets({"out": [box]}, lambda: False, False, {})
    outlets.send_result([frame(0), frame(1)], SOURCE, lambda stamp: stamp.seq == 1)
    outlets.send_result(frame(2), SOURCE)
    assert synthetic([box.take() for _ in range(3)]) == [False, True, False]  # type: ignore[misc]


def test_what_goes_in_taints_what_comes_out() -> None:
    real, made = frame(0), frame(1)
    made = replace(made, stamp=structs.replace(made.stamp, synthetic=True))
    inbox: Any = None
    assert Work({"frames": real}, [(inbox, real)]).taint is None
    single = Work({"frames": made, "other": real}, [(inbox, made), (inbox, real)]).taint
    assert single is not None
    assert single(real.stamp)
    held = Work({"frames": real, "prompt": Latest(made)}, [(inbox, real)]).taint
    assert held is not None
    assert held(real.stamp)
    batch = Work({"frames": Batch((real, made))}, [(inbox, real), (inbox, made)]).taint
    assert batch is not None
    assert [batch(one.stamp) for one in (real, made)] == [False, True]


def test_what_comes_beside_a_batch_taints_all_of_it() -> None:
    """Whatever moment it is of: the streams may be others, and so may the stamps."""
    inbox: Any = None
    real, made = frame(0), synthetic_one(0, "style")
    held = Work({"frames": Batch((real,)), "style": Latest(made)}, [(inbox, real)]).taint
    assert held is not None
    assert held(real.stamp)
    joined = Work({"frames": Batch((real,)), "other": made}, [(inbox, real), (inbox, made)]).taint
    assert joined is not None
    assert joined(real.stamp)
    both = Batch((real,)), Latest(frame(0, "style"))
    assert Work(dict(zip(("frames", "style"), both, strict=True)), [(inbox, real)]).taint is None


def test_a_result_of_a_moment_that_the_batch_does_not_have_is_made_of_all_of_it() -> None:
    inbox: Any = None
    real, made = frame(0), synthetic_one(1)
    batch = Work({"frames": Batch((real, made))}, [(inbox, real), (inbox, made)]).taint
    assert batch is not None
    assert [batch(frame(7).stamp), batch(frame(0, "both").stamp)] == [True, True]
    assert not batch(frame(0).stamp)


# ---- marks


def marks(items: list[Any]) -> list[bool]:
    return [bool(item.of(Marked)) for item in items]


BADGE = Marked("AI")


def test_a_mark_does_not_outlive_the_pixels_that_it_speaks_of() -> None:
    exits = Exits()
    given = synthetic_one(0).with_records(BADGE)
    changed = given.with_data(given.data + 1)
    noted = given.with_records(OutletSighting())
    exits.outlets.send_result([given, changed, noted], SOURCE, None, iter([given]), frozenset())
    passed, renewed, other = exits.taken()
    assert passed is given
    assert marks([passed, renewed, other]) == [True, False, True]  # type: ignore[list-item]


def test_a_mark_belongs_to_the_frame_that_it_came_on() -> None:
    exits = Exits()
    marked, bare = synthetic_one(0).with_records(BADGE), synthetic_one(1)
    borrowed = bare.with_records(*marked.records)
    exits.outlets.send_result(borrowed, SOURCE, None, [marked, bare], frozenset())
    assert marks(exits.taken()) == [False]


@pytest.mark.parametrize(("trusted", "right"), [(None, True), ({"left"}, False)])
def test_a_mark_holds_on_ports_that_are_trusted(trusted: Any, right: bool) -> None:
    exits = Exits("left", "right")
    made = synthetic_one(0).with_records(BADGE)
    exits.outlets.send_result(Both(made, made), SOURCE, None, (), trusted)
    assert marks(exits.taken("left")) + marks(exits.taken("right")) == [True, right]


def test_a_node_leads_nowhere_when_nobody_takes_what_it_gives() -> None:
    assert not Exits("left", "right").outlets.lead_nowhere
    assert Outlets({"left": [], "right": []}, lambda: False, False, {}).lead_nowhere
    assert Outlets({}, lambda: False, False, {}).lead_nowhere
