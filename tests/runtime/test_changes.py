"""What a worker that starts again is told: the last word on epochs, tunables and streams."""

from __future__ import annotations

import pytest

from engine.plan import Plan
from engine.runtime import messages as m
from engine.runtime.changes import Change, Changes
from tests.runtime.fakes import planned_node


@pytest.fixture
def changes() -> Changes:
    nodes = {
        "cams": planned_node("cams", worker="near", streams={"door": {}}),
        "gain": planned_node("gain", worker="far"),
    }
    plan = Plan(
        graph="t", mode="live", latency_budget_ms=None, max_in_flight=None, nodes=nodes, edges=()
    )
    return Changes(plan)


def told(changes: Changes, worker: str) -> list[Change]:
    return list(changes.for_worker(worker))


def test_only_the_last_value_of_a_tunable_is_told_and_only_where_it_matters(
    changes: Changes,
) -> None:
    for value in (b"1", b"2"):
        changes.remember(m.Tune("gain", "gain", value, from_seq=500), going=True)
    assert told(changes, "far") == [m.Tune("gain", "gain", b"2", from_seq=0)]
    assert told(changes, "near") == []


def test_before_the_start_a_tunable_keeps_the_frame_it_is_for(changes: Changes) -> None:
    changes.remember(m.Tune("gain", "gain", b"2", from_seq=500), going=False)
    assert told(changes, "far") == [m.Tune("gain", "gain", b"2", from_seq=500)]


def test_everybody_is_told_the_newest_epochs(changes: Changes) -> None:
    for epoch in (1, 2):
        changes.remember(m.Epoch("door", epoch), going=True)
    changes.remember(m.Epoch("yard", 1), going=True)
    for worker in ("near", "far"):
        assert told(changes, worker) == [m.Epoch("door", 2), m.Epoch("yard", 1)]


def test_a_stream_that_came_and_went_leaves_nothing(changes: Changes) -> None:
    for number in range(3):
        changes.remember(m.AddStream("cams", f"s{number}", b""), going=True)
    changes.remember(m.RemoveStream("cams", "s0"), going=True)
    changes.remember(m.RemoveStream("cams", "s2"), going=True)
    assert told(changes, "near") == [m.AddStream("cams", "s1", b"")]


def test_a_stream_of_the_graph_that_was_removed_stays_so(changes: Changes) -> None:
    changes.remember(m.RemoveStream("cams", "door"), going=True)
    assert told(changes, "near") == [m.RemoveStream("cams", "door")]
    changes.remember(m.AddStream("cams", "door", b"x"), going=True)
    assert told(changes, "near") == [m.AddStream("cams", "door", b"x")]
