"""A node ten times too slow for its camera: what comes out is fresh, what does not is counted."""

from __future__ import annotations

import time

import numpy as np

from bench.common import quantile, say
from bench.operators import AgeSink, AgeSinkConfig, Slow, SlowConfig
from bench.result import Bar, at_most, exactly
from bench.runs import BenchRun, drop_figures, running, unbalanced
from engine.clock import MonotonicClock
from engine.graph import Graph
from engine.spec import GraphSpec
from operators.sources.test_pattern import TestPattern, TestPatternConfig

FPS = 30
WORK_MS = 333.0
BRANCHES = ("near", "far")
WARM_UP_SHARE = 0.2  # of the run: libraries, pools and histograms reach their size
SAMPLE_S = 0.5


def run(quick: bool) -> tuple[dict[str, float], tuple[Bar, ...]]:
    """`near` is slow in the camera's worker, `far` in another; `view` sees every frame."""
    seconds = 12 if quick else 60
    say(f"overload: {seconds} s of {FPS} fps into nodes that take {WORK_MS:g} ms")
    with running(graph()) as active:
        rss_bytes = watch_memory(active, seconds)
        stopped_ns = MonotonicClock().now_ns()
        snapshot = active.finish().snapshot
        noted = {name: active.ages(f"{name}.npy") for name in (*BRANCHES, "view")}
    # The last frame before the stop waits for no newer one to take its place: not part of the load.
    ages_ms = {name: ages[ages[:, 0] <= stopped_ns, 1] / 1e6 for name, ages in noted.items()}
    figures: dict[str, float] = {"seconds": seconds, "work_ms": WORK_MS}
    for name, ages in ages_ms.items():
        figures[f"{name}_frames"] = len(noted[name])
        for percent in (50, 99):
            figures[f"{name}_age_p{percent}_ms"] = round(quantile(ages, percent), 1)
    figures["rss_mib"] = round(rss_bytes[-1] / 2**20, 1)
    figures |= drop_figures(snapshot)
    bars = [
        at_most(f"{name}_age_p99_by_work", 3.0, figures[f"{name}_age_p99_ms"] / WORK_MS)
        for name in BRANCHES
    ]
    bars += [at_most(f"{name}_age_p99_growth", 1.2, growth(ages_ms[name])) for name in BRANCHES]
    bars.append(at_most("rss_deviation", 0.05, deviation(rss_bytes)))
    bars.append(exactly("unbalanced_edges", 0, len(unbalanced(snapshot))))
    made = snapshot.nodes["camera"].frames
    bars.append(exactly("view_frames_missing", 0, made - figures["view_frames"]))
    return figures, tuple(bars)


def graph() -> GraphSpec:
    g = Graph("overload", mode="live")
    camera = g.add("camera", TestPattern, TestPatternConfig(width=1280, height=720, fps=FPS))
    g.add(
        "view",
        AgeSink,
        AgeSinkConfig(path="view.npy"),
        inputs={"frames": camera.edge(queue=8, full="block")},
    )
    for branch in BRANCHES:
        worker = "main" if branch == "near" else g.worker("far")
        slow = g.add(
            f"slow-{branch}",
            Slow,
            SlowConfig(work_ms=WORK_MS),
            inputs={"frames": camera.edge(queue=1, full="drop_oldest")},
            worker=worker,
        )
        g.add(
            f"sink-{branch}",
            AgeSink,
            AgeSinkConfig(path=f"{branch}.npy"),
            inputs={"frames": slow.edge(queue=2, full="block")},
            worker=worker,
        )
    return g.spec()


def watch_memory(active: BenchRun, seconds: float) -> list[float]:
    """Resident bytes of all workers together, once per sample, from the warm-up on."""
    samples: list[float] = []
    begin = time.monotonic()
    while (elapsed := time.monotonic() - begin) < seconds:
        if elapsed > seconds * WARM_UP_SHARE:
            workers = active.run.snapshot().workers.values()
            samples.append(float(sum(worker.rss_bytes for worker in workers)))
        time.sleep(SAMPLE_S)
    return samples


def deviation(samples: list[float]) -> float:
    """The largest distance from the first sample, as a share of it."""
    return max(abs(value / samples[0] - 1) for value in samples)


def growth(ages_ms: np.ndarray) -> float:
    """p99 of the second half by that of the first: 1 where ages stay as they are."""
    middle = len(ages_ms) // 2
    return quantile(ages_ms[middle:], 99) / quantile(ages_ms[:middle], 99)
