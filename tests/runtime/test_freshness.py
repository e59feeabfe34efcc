"""Output freshness: who is stuck, which source is stale, who only waits for others."""

from __future__ import annotations

import pytest

from engine.plan import Plan, PlannedEdge, PlannedNode
from engine.runtime.freshness import STALE_NS, Freshness
from engine.runtime.messages import Heartbeat
from engine.telemetry.stats import EdgeStats, NodeStats, WorkerStats

SECOND = 1_000_000_000
STUCK_NS = 5 * SECOND


def node(name: str) -> PlannedNode:
    return PlannedNode(name=name, op="x:X", config={}, streams={}, worker="main", device="cpu")


def edge(producer: str, consumer: str, policy: str = "block") -> PlannedEdge:
    return PlannedEdge(
        id=f"{producer}->{consumer}", producer=producer, producer_port="out", consumer=consumer,
        consumer_port="frames", arrival="each", queue=2, policy=policy, window=1, link="inproc",
    )  # fmt: skip


@pytest.fixture
def plan() -> Plan:
    return Plan(
        graph="t", mode="live", latency_budget_ms=None, max_in_flight=None,
        nodes={name: node(name) for name in ("source", "slow", "sink")},
        edges=(edge("source", "slow"), edge("slow", "sink")),
    )  # fmt: skip


def stats(name: str, frames: int, state: str = "running") -> NodeStats:
    return NodeStats(node=name, worker="main", device="cpu", state=state, frames=frames, streams=1)


def edges(**depth: int) -> dict[str, EdgeStats]:
    return {
        name: EdgeStats(edge=name, link="inproc", policy="block", depth=depth.get(key, 0))
        for key, name in (("first", "source->slow"), ("second", "slow->sink"))
    }


def beat_of(*nodes: NodeStats, **stuck_ms: float) -> Heartbeat:
    worker = WorkerStats(worker="main")
    return Heartbeat(worker, {stats.node: stats for stats in nodes}, {}, stuck_ms)


def kinds(found: list) -> list[tuple[str, str]]:
    return [(finding.node, finding.code) for finding in found]


def test_frames_that_wait_while_nothing_is_done_mean_stuck(plan: Plan) -> None:
    fresh = Freshness(plan, STUCK_NS)
    beat = beat_of(stats("slow", 10))
    assert fresh.look(beat, edges(first=2), 0) == []
    assert fresh.look(beat, edges(first=2), STUCK_NS) == []
    assert kinds(fresh.look(beat, edges(first=2), STUCK_NS + 1)) == [("slow", "STUCK")]
    assert fresh.look(beat, edges(first=2), STUCK_NS + SECOND) == []  # told once


def test_progress_starts_the_time_anew(plan: Plan) -> None:
    fresh = Freshness(plan, STUCK_NS)
    for second in range(20):
        assert fresh.look(beat_of(stats("slow", second)), edges(first=2), second * SECOND) == []


@pytest.mark.parametrize(
    ("depth", "state"),
    [({}, "running"), ({"first": 2, "second": 2}, "running"), ({"first": 2}, "failed")],
)
def test_idle_held_up_or_failed_is_not_stuck(plan: Plan, depth: dict, state: str) -> None:
    fresh = Freshness(plan, STUCK_NS)
    beat = beat_of(stats("slow", 10, state))
    fresh.look(beat, edges(**depth), 0)
    assert fresh.look(beat, edges(**depth), 10 * STUCK_NS) == []


def test_a_restarted_worker_gets_its_time_anew(plan: Plan) -> None:
    fresh = Freshness(plan, STUCK_NS)
    beat = beat_of(stats("slow", 10))
    fresh.look(beat, edges(first=2), 0)
    fresh.forget("main")
    assert fresh.look(beat, edges(first=2), 2 * STUCK_NS) == []


def test_a_live_source_without_frames_is_told_once_and_again_when_it_is_back(plan: Plan) -> None:
    fresh = Freshness(plan, STUCK_NS)
    fresh.look(beat_of(stats("source", 5)), edges(), 0)
    silent = beat_of(stats("source", 5))
    assert kinds(fresh.look(silent, edges(), STALE_NS + 1)) == [("source", "STALE")]
    assert fresh.look(silent, edges(), STALE_NS + SECOND) == []
    back = beat_of(stats("source", 6))
    assert kinds(fresh.look(back, edges(), STALE_NS + 2 * SECOND)) == [("source", "FRESH")]


def test_a_call_that_does_not_return_means_stuck(plan: Plan) -> None:
    fresh = Freshness(plan, STUCK_NS)
    assert fresh.look(beat_of(stats("slow", 1), slow=5000), edges(), 0) == []
    (found,) = fresh.look(beat_of(stats("slow", 1), slow=5001), edges(), SECOND)
    assert (found.node, found.code) == ("slow", "STUCK")
    assert "has not returned for 5 s" in found.message
    assert "'main'" in found.message
