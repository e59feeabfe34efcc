"""The supervisor's books: sums that survive a worker, and edges that stay balanced."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from engine.plan import Plan
from engine.runtime.ledger import Ledger
from engine.runtime.messages import Heartbeat
from engine.telemetry.stats import EdgeStats, Histogram, NodeStats, RunSnapshot, WorkerStats
from tests.runtime.fakes import planned_edge, planned_node

EDGE = "cam.out->det.frames"
SECOND = 1_000_000_000


@pytest.fixture
def ledger() -> Ledger:
    """A camera in one worker, a detector in another."""
    return Ledger(
        Plan(
            graph="t", mode="live", latency_budget_ms=None, max_in_flight=None,
            nodes={
                "cam": planned_node("cam", worker="source"),
                "det": planned_node("det", worker="gpu"),
            },
            edges=(planned_edge("cam", "det"),),
        )
    )  # fmt: skip


def hist(*durations_ns: int) -> Histogram:
    histogram = Histogram()
    for duration_ns in durations_ns:
        histogram.add(duration_ns)
    return histogram


def source_beat(frames: int, **edge: Any) -> Heartbeat:
    """From the worker of the camera, which keeps the books of the edge."""
    node = NodeStats(
        node="cam", worker="source", device="cpu", state="running", frames=frames,
        busy=hist(*[2_000_000] * frames), records={"Face": frames},
    )  # fmt: skip
    stats = EdgeStats(edge=EDGE, link="ipc", policy="block", **edge)
    return Heartbeat(WorkerStats(worker="source", pid=7), {"cam": node}, {EDGE: stats})


def detector_beat(frames: int, quarantined: int = 0) -> Heartbeat:
    node = NodeStats(
        node="det", worker="gpu", device="cpu", state="running", frames=frames,
        quarantined=quarantined,
    )  # fmt: skip
    return Heartbeat(WorkerStats(worker="gpu"), {"det": node}, {})


def look(ledger: Ledger) -> RunSnapshot:
    return ledger.snapshot(1.0, [])


def test_before_anybody_speaks_everything_is_named(ledger: Ledger) -> None:
    snapshot = look(ledger)
    assert list(snapshot.nodes) == ["cam", "det"]
    assert list(snapshot.edges) == [EDGE]
    assert list(snapshot.workers) == ["source", "gpu"]
    assert all(node.state == "starting" for node in snapshot.nodes.values())
    assert not ledger.degraded


def test_the_newest_word_counts(ledger: Ledger) -> None:
    ledger.update("source", source_beat(3, sent=3, consumed=2, in_flight=1), 0)
    ledger.update("source", source_beat(9, sent=9, consumed=9), SECOND)
    snapshot = look(ledger)
    assert snapshot.nodes["cam"].frames == 9
    assert (snapshot.edges[EDGE].sent, snapshot.edges[EDGE].in_flight) == (9, 0)
    assert snapshot.workers["source"].pid == 7
    assert ledger.edges()[EDGE].sent == 9


def test_what_a_dead_producer_held_is_lost_and_the_rest_adds_up(ledger: Ledger) -> None:
    first = source_beat(
        10, sent=10, consumed=6, in_flight=3, depth=2, peak_depth=4, bytes=100,
        drops={"late": 1}, slab_misses=1, malformed=2, age=hist(5),
    )  # fmt: skip
    ledger.update("source", first, 0)
    ledger.died("source")
    edge = look(ledger).edges[EDGE]
    assert edge.balanced
    assert (edge.in_flight, edge.depth, edge.drops) == (0, 0, {"late": 1, "peer_lost": 3})

    second = source_beat(
        4, sent=4, consumed=2, in_flight=1, depth=1, peak_depth=3, bytes=40,
        drops={"peer_lost": 1}, slab_misses=1, malformed=1, age=hist(6),
    )  # fmt: skip
    ledger.update("source", second, SECOND)
    edge = look(ledger).edges[EDGE]
    assert edge.balanced
    assert (edge.sent, edge.consumed, edge.in_flight, edge.depth) == (14, 8, 1, 1)
    assert edge.drops == {"late": 1, "peer_lost": 4}
    assert (edge.bytes, edge.slab_misses, edge.malformed, edge.peak_depth) == (140, 2, 3, 4)
    assert (edge.age.count, edge.age.sum_ns) == (2, 11)


def test_figures_of_a_node_go_on_after_each_death(ledger: Ledger) -> None:
    for life in range(3):
        for frames in (2, 5):  # two beats a life: the past must not be added twice
            ledger.update("source", source_beat(frames), life * SECOND)
        node = look(ledger).nodes["cam"]
        assert (node.frames, node.busy.count) == (5 * (life + 1), 5 * (life + 1))
        assert node.records == {"Face": 5 * (life + 1)}
        assert (node.restarts, node.state) == (life, "running")
        ledger.died("source")
    snapshot = look(ledger)
    assert (snapshot.nodes["cam"].restarts, snapshot.nodes["cam"].state) == (3, "retrying")
    assert snapshot.workers["source"].state == "restarting"
    assert snapshot.nodes["det"].restarts == 0


def test_a_dead_consumer_leaves_the_books_to_the_producer(ledger: Ledger) -> None:
    ledger.update("source", source_beat(3, sent=3, consumed=1, in_flight=2), 0)
    ledger.died("gpu")
    assert look(ledger).edges[EDGE].in_flight == 2, "the producer itself books what was lost"


def test_a_worker_that_dies_before_its_first_word_loses_nothing(ledger: Ledger) -> None:
    ledger.died("source")
    ledger.died("source")
    ledger.update("source", source_beat(1, sent=1, consumed=1), 0)
    snapshot = look(ledger)
    assert (snapshot.nodes["cam"].restarts, snapshot.nodes["cam"].frames) == (2, 1)
    assert snapshot.edges[EDGE].drops == {}


@pytest.mark.parametrize(("how", "state"), [("stopped", "running"), ("failed", "failed")])
def test_a_worker_that_left_says_how(ledger: Ledger, how: Any, state: str) -> None:
    ledger.update("gpu", detector_beat(1), 0)
    ledger.left("gpu", how)
    snapshot = look(ledger)
    assert (snapshot.workers["gpu"].state, snapshot.nodes["det"].state) == (how, state)
    assert snapshot.workers["source"].state == "starting"


def test_a_run_is_degraded_by_bad_frames(ledger: Ledger) -> None:
    assert not ledger.degraded
    ledger.update("gpu", detector_beat(5, quarantined=1), 0)
    assert ledger.degraded


def test_a_run_is_degraded_by_frames_lost_with_a_peer(ledger: Ledger) -> None:
    ledger.update("source", source_beat(2, sent=2, consumed=1, drops={"late": 1}), 0)
    assert not ledger.degraded, "being late is how a live graph stays fresh"
    ledger.update("source", source_beat(2, sent=2, drops={"late": 1, "peer_lost": 1}), 0)
    assert ledger.degraded


def test_a_run_is_degraded_by_a_death_although_no_edge_held_anything(ledger: Ledger) -> None:
    ledger.update("source", source_beat(2, sent=2, consumed=2), 0)
    ledger.died("gpu")  # with a frame in `process`, which counts as consumed
    assert ledger.degraded


def test_a_snapshot_does_not_change_any_more(ledger: Ledger) -> None:
    ledger.update("source", source_beat(3, sent=3, in_flight=3, depth=1), 0)
    ledger.update("gpu", detector_beat(1), 0)
    taken = look(ledger)
    before = msgspec.msgpack.encode(taken)
    ledger.died("source")
    ledger.left("gpu", "failed")
    ledger.update("source", source_beat(4, sent=4, consumed=4), SECOND)
    assert msgspec.msgpack.encode(taken) == before
    assert msgspec.msgpack.encode(look(ledger)) != before


def test_rates_are_of_the_last_second(ledger: Ledger) -> None:
    for quarter in range(9):  # 40 frames/s, every second one consumed
        count = quarter * 10
        beat = source_beat(count, sent=count, consumed=count // 2)
        ledger.update("source", beat, quarter * SECOND // 4)
    snapshot = look(ledger)
    assert snapshot.nodes["cam"].fps == pytest.approx(40)
    assert snapshot.edges[EDGE].fps == pytest.approx(20)
    for quarter in range(9, 18):
        ledger.update("source", source_beat(80, sent=80, consumed=40), quarter * SECOND // 4)
    assert look(ledger).nodes["cam"].fps == 0
