"""The flow limit: what is inside is what no end has accounted for yet."""

from __future__ import annotations

from typing import Any

import pytest

from engine.plan import Plan, PlannedEdge
from engine.runtime.flow import LOST_AFTER_NS, FlowLimit, terminals
from tests.runtime.fakes import planned_edge, planned_node


def plan(*wires: str, limit: int | None = 2, mode: Any = "live", back: str = "") -> Plan:
    """Edges written as "a>b"; `back` is one that closes a cycle."""
    edges: list[PlannedEdge] = [planned_edge(*wire.split(">")) for wire in wires]
    if back:
        edges.append(planned_edge(*back.split(">"), back_edge=True))
    names = dict.fromkeys(name for wire in wires for name in wire.split(">"))
    return Plan(
        graph="t", mode=mode, latency_budget_ms=None, max_in_flight=limit,
        nodes={name: planned_node(name) for name in names}, edges=tuple(edges),
    )  # fmt: skip


CHAIN = plan("cam>det", "det>sink")
FORK = plan("cam>det", "det>sink", "cam>preview")


def admitted(flow: FlowLimit, *seqs: int, stream: str = "s", now_ns: int = 0) -> list[bool]:
    return [flow.admit("cam", stream, seq, now_ns) for seq in seqs]


def test_ends_are_the_nodes_without_outputs_that_frames_can_reach() -> None:
    wired = plan("cam>det", "det>sink", "cam>preview", "mic>sink", back="det>cam")
    assert terminals(wired, "cam") == {"sink", "preview"}
    assert terminals(wired, "mic") == {"sink"}
    assert terminals(wired, "sink") == {"sink"}


def test_a_back_edge_is_no_way_out() -> None:
    assert terminals(plan("cam>det", back="det>cam"), "cam") == {"det"}


def test_no_more_are_let_in_than_the_limit() -> None:
    flow = FlowLimit(CHAIN)
    assert flow.active
    assert admitted(flow, 0, 1, 2, 3) == [True, True, False, False]


def test_an_end_that_is_done_makes_room() -> None:
    flow = FlowLimit(CHAIN)
    admitted(flow, 0, 1)
    flow.done("sink", "s", 0)
    assert admitted(flow, 2, 3) == [True, False]
    flow.done("sink", "s", 2)  # 1 was dropped on the way: what comes later says so
    assert admitted(flow, 4, 5, 6) == [True, True, False]


def test_every_end_must_be_done() -> None:
    flow = FlowLimit(FORK)
    admitted(flow, 0, 1)
    flow.done("sink", "s", 1)
    assert admitted(flow, 2) == [False]
    flow.done("preview", "s", 0)
    assert admitted(flow, 3, 4) == [True, False]


def test_progress_does_not_go_back() -> None:
    flow = FlowLimit(CHAIN)
    admitted(flow, 0, 1)
    flow.done("sink", "s", 1)
    flow.done("sink", "s", 0)  # from another worker, on another way
    assert admitted(flow, 2, 3, 4) == [True, True, False]


def test_streams_have_a_limit_each() -> None:
    flow = FlowLimit(CHAIN)
    assert admitted(flow, 0, 1, 2, stream="a") == [True, True, False]
    assert admitted(flow, 0, 1, 2, stream="b") == [True, True, False]
    flow.done("sink", "a", 1)
    assert admitted(flow, 3, stream="a") == [True]
    assert admitted(flow, 3, stream="b") == [False]


def test_a_frame_that_nobody_accounts_for_holds_the_gate_for_a_second_only() -> None:
    flow = FlowLimit(CHAIN)
    admitted(flow, 0, 1)
    assert admitted(flow, 2, now_ns=LOST_AFTER_NS) == [False]
    assert admitted(flow, 3, 4, 5, now_ns=LOST_AFTER_NS + 1) == [True, True, False]


def test_a_stream_that_ended_may_begin_again_at_0() -> None:
    flow = FlowLimit(CHAIN)
    admitted(flow, 50, 51)
    flow.done("sink", "s", 51)
    flow.forget("s")
    flow.done("sink", "s", 51)  # late news of the old one
    assert admitted(flow, 0, 1, 2) == [True, True, False]


@pytest.mark.parametrize("free", [plan("cam>det", limit=None), plan("cam>det", mode="file")])
def test_without_a_limit_and_in_files_everything_goes_in(free: Plan) -> None:
    flow = FlowLimit(free)
    assert not flow.active
    assert admitted(flow, *range(100)) == [True] * 100
