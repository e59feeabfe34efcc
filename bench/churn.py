"""200 streams come and go on a live graph, three times over: nothing stays behind."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil  # type: ignore[import-untyped]

from bench.common import say, shm_entries
from bench.media import small_clip
from bench.operators import Remember
from bench.result import Bar, at_most, exactly
from bench.runs import BenchRun, drop_figures, running, unbalanced
from engine.graph import Graph
from engine.spec import GraphSpec
from engine.telemetry.stats import RunSnapshot
from operators.sinks.null import NullSink
from operators.sources.file import FileSource, FileSourceConfig

CYCLES = 3
AT_ONCE = 25  # streams that are alive together
WIDTH, HEIGHT, FPS = 160, 90, 10
PATIENCE_S = 30.0
SETTLE_S = 1.0  # for the heartbeat after the last stream, and for buffers to be handed back
LIMIT = 0.02


@dataclass(frozen=True)
class Holdings:
    """What the workers hold while no stream is there."""

    rss_bytes: int
    threads: int
    descriptors: int
    shm_entries: int


def run(quick: bool) -> tuple[dict[str, float], tuple[Bar, ...]]:
    """Cycle 3 is compared with cycle 1: by then every library has what it will ever have."""
    streams = 100 if quick else 200
    clip = str(small_clip(WIDTH, HEIGHT, FPS))
    with running(graph(), keep_open=True) as active:
        cycles = []
        for cycle in range(CYCLES):
            say(f"churn: cycle {cycle + 1} of {CYCLES}, {streams} streams")
            for first in range(0, streams, AT_ONCE):
                names = [f"c{cycle}-{first + index}" for index in range(AT_ONCE)]
                come_and_go(active, names, clip)
            time.sleep(SETTLE_S)
            cycles.append(holdings(active))
        snapshot = active.finish().snapshot
    figures: dict[str, float] = {"streams_per_cycle": streams}
    for number, held in enumerate(cycles, 1):
        figures[f"rss_mib_{number}"] = round(held.rss_bytes / 2**20, 2)
        figures[f"threads_{number}"] = held.threads
        figures[f"descriptors_{number}"] = held.descriptors
        figures[f"shm_entries_{number}"] = held.shm_entries
    figures["frames"] = snapshot.nodes["sink"].frames
    figures |= drop_figures(snapshot)
    bars = [
        at_most(f"{what}_change", LIMIT, change(cycles, read))
        for what, read in (
            ("rss", lambda held: held.rss_bytes),
            ("threads", lambda held: held.threads),
            ("descriptors", lambda held: held.descriptors),
            ("shm_entries", lambda held: held.shm_entries),
        )
    ]
    bars.append(exactly("unbalanced_edges", 0, len(unbalanced(snapshot))))
    return figures, tuple(bars)


def graph() -> GraphSpec:
    """Sources in one worker, what keeps state per stream in another: both must forget."""
    g = Graph("churn", mode="live", latency_budget_ms=1000, max_in_flight=3)
    config = FileSourceConfig(uri="added-while-running.mp4", loop=True, realtime=True)
    cameras = g.add("cameras", FileSource, config)
    state = g.add(
        "state",
        Remember,
        inputs={"frames": cameras.edge("frames", queue=32, full="drop_oldest")},
        worker=g.worker("state"),
    )
    g.add("sink", NullSink, inputs={"frames": state.edge(queue=32, full="block")}, worker="state")
    return g.spec()


def come_and_go(active: BenchRun, names: list[str], clip: str) -> None:
    """Add the streams, wait until all are alive and frames have come through, remove them."""
    sunk = active.run.snapshot().nodes["sink"].frames
    for name in names:
        active.run.add_stream("cameras", name, {"uri": clip})
    enough = sunk + 2 * len(names)
    active.wait_for("all streams alive", _alive(len(names)), PATIENCE_S)
    active.wait_for("frames at the sink", lambda s: s.nodes["sink"].frames >= enough, PATIENCE_S)
    for name in names:
        active.run.remove_stream("cameras", name)
    active.wait_for("all streams gone", _alive(0), PATIENCE_S)


def _alive(count: int) -> Callable[[RunSnapshot], bool]:
    return lambda snapshot: snapshot.nodes["cameras"].streams == count


def holdings(active: BenchRun) -> Holdings:
    """Of all workers together, as the kernel sees them."""
    pids = [worker.pid for worker in active.run.snapshot().workers.values()]
    workers = [psutil.Process(pid) for pid in pids]
    return Holdings(
        rss_bytes=sum(worker.memory_info().rss for worker in workers),
        threads=sum(worker.num_threads() for worker in workers),
        descriptors=sum(worker.num_fds() for worker in workers),
        shm_entries=shm_entries(),
    )


def change(cycles: list[Holdings], read: Callable[[Holdings], int]) -> float:
    """How far the last cycle is from the first, as a share of the first."""
    first, last = read(cycles[0]), read(cycles[-1])
    return abs(last - first) / max(first, 1)
