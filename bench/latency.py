"""The `guard` graph on a live 30 fps source, 640 wide: how old a frame is when it is shown."""

from __future__ import annotations

import time

import msgspec
import numpy as np

from bench.common import quantile, say
from bench.media import small_clip
from bench.operators import AgeSink, AgeSinkConfig
from bench.result import Bar, at_most, exactly
from bench.runs import drop_figures, running, unbalanced
from engine.graph import plain_config
from engine.loader import load_graph
from engine.spec import EdgeSpec, GraphSpec, NodeSpec
from engine.telemetry.stats import RunSnapshot

WIDTH, HEIGHT, FPS = 640, 360, 30
WARM_UP_S = 2.0  # weights, pools and encoders are touched for the first time
AGES = "age.npy"
NANOSECONDS = 1_000_000_000
DETECTORS = {"blazeface": "full", "centerface": "crowd"}  # `model` of FaceDetect


def run(quick: bool) -> tuple[dict[str, float], tuple[Bar, ...]]:
    """The whole product runs beside it: tracking, recording, events and preview."""
    seconds = {"blazeface": 10 if quick else 60, "centerface": 8 if quick else 20}
    figures: dict[str, float] = {}
    balanced_badly = 0
    for name, duration_s in seconds.items():
        say(f"latency: {duration_s} s of guard with {name}")
        ages_ms, snapshot = measure(name, duration_s)
        figures[f"{name}_frames"] = len(ages_ms)
        for percent in (50, 95, 99):
            figures[f"{name}_age_p{percent}_ms"] = round(quantile(ages_ms, percent), 2)
        figures[f"{name}_shown_fps"] = round(len(ages_ms) / (duration_s - WARM_UP_S), 2)
        figures |= {f"{name}_{key}": count for key, count in drop_figures(snapshot).items()}
        balanced_badly += len(unbalanced(snapshot))
    bars = (
        at_most("blazeface_age_p50_ms", 40, figures["blazeface_age_p50_ms"]),
        at_most("blazeface_age_p99_ms", 100, figures["blazeface_age_p99_ms"]),
        exactly("unbalanced_edges", 0, balanced_badly),
    )
    return figures, bars


def measure(detector: str, seconds: float) -> tuple[np.ndarray, RunSnapshot]:
    """Ages in ms of the frames that were captured after the warm-up, and the final snapshot."""
    return measure_graph(guard(detector), seconds)


def measure_graph(spec: GraphSpec, seconds: float) -> tuple[np.ndarray, RunSnapshot]:
    """`measure` of any graph with a sink `shown`."""
    with running(spec) as active:
        time.sleep(seconds)
        snapshot = active.finish().snapshot
        noted = active.ages(AGES)
    captured_ns = noted[:, 0] - noted[:, 1]
    counted = captured_ns >= captured_ns[0] + int(WARM_UP_S * NANOSECONDS)
    return noted[counted, 1] / 1e6, snapshot


def guard(detector: str) -> GraphSpec:
    """graphs/guard.yaml, live, on a paced clip, with a sink that notes ages beside the recorder."""
    spec = load_graph("guard")
    clip = {"uri": str(small_clip(WIDTH, HEIGHT, FPS)), "loop": True, "realtime": True}
    camera = msgspec.structs.replace(spec.nodes["camera"], config=clip)
    detect = msgspec.structs.replace(spec.nodes["detect"], config={"model": DETECTORS[detector]})
    shown = NodeSpec(
        op=f"{AgeSink.__module__}:{AgeSink.__qualname__}",
        config=plain_config(AgeSinkConfig(path=AGES)),
        inputs={"frames": EdgeSpec(from_="overlay.out", queue=4, full="drop_oldest")},
    )
    nodes = {**spec.nodes, "camera": camera, "detect": detect, "shown": shown}
    return msgspec.structs.replace(spec, mode="live", nodes=nodes)
