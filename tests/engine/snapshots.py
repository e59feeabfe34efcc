"""A snapshot of a small run, with something of everything in it."""

from __future__ import annotations

from engine.telemetry.stats import (
    EdgeStats,
    Histogram,
    NodeStats,
    RunEvent,
    RunSnapshot,
    WorkerStats,
)

EDGE = "camera.frames->find.frames"


def histogram(*values_ms: float) -> Histogram:
    made = Histogram()
    for value in values_ms:
        made.add(round(value * 1e6))
    return made


def snapshot() -> RunSnapshot:
    """Two nodes, one edge, one worker."""
    camera = NodeStats(node="camera", worker="main", device="cpu", state="running", frames=100)
    camera.fps = 29.5
    camera.streams = 2
    camera.records = {"Packet": 7}
    find = NodeStats(node="find", worker="main", device="cuda:0", state="open_circuit", frames=90)
    find.quarantined = 3
    find.restarts = 1
    find.busy = histogram(4, 4, 9)
    find.age = histogram(12, 14, 90, 20_000)
    find.records = {"Face": 180}
    edge = EdgeStats(edge=EDGE, link="ipc", policy="drop_oldest")
    edge.sent, edge.consumed, edge.in_flight = 100, 90, 2
    edge.drops = {"late": 5, "queue_full": 3}
    edge.depth, edge.peak_depth, edge.bytes = 1, 4, 138_240_000
    edge.slab_misses, edge.malformed, edge.fps = 2, 1, 28.0
    edge.age = histogram(3, 5)
    worker = WorkerStats(
        worker="main", pid=7, restarts=1, rss_bytes=1 << 28, cpu_seconds=2.5, threads=9
    )
    worker.state = "running"
    event = RunEvent(code="TIMEOUT", node="camera", stream_id="door", message="m", time="t")
    return RunSnapshot(
        graph="g",
        mode="live",
        seconds=4.0,
        nodes={"camera": camera, "find": find},
        edges={edge.edge: edge},
        workers={"main": worker},
        events=[event],
    )
