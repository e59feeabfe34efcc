"""The `guard` graph live at 720p with two faces: does it keep up, how old are the verdicts?"""

from __future__ import annotations

import time

import msgspec
import numpy as np

from bench.common import quantile, say
from bench.media import two_faces_clip
from bench.operators import AgeSink, AgeSinkConfig, VerdictSink, VerdictSinkConfig
from bench.result import Bar, at_least, at_most, exactly
from bench.runs import drop_figures, running, unbalanced
from engine.graph import plain_config
from engine.loader import load_graph
from engine.spec import EdgeSpec, GraphSpec, NodeSpec
from engine.telemetry.stats import RunSnapshot

FPS, FACES = 25, 2
WARM_UP_S = 3.0  # weights are touched for the first time, both faces are found and followed
AGES, VERDICTS = "age.npy", "verdicts.npy"
NANOSECONDS = 1_000_000_000


def run(quick: bool) -> tuple[dict[str, float], tuple[Bar, ...]]:
    """The whole product runs: detection, tracking, verdicts, recording, events and preview."""
    seconds = 15 if quick else 60
    clip = str(two_faces_clip(64))  # longer than the run: where it begins again all tracks end
    say(f"guard: {seconds} s of 1280x720 at {FPS} fps with {FACES} faces")
    ages, verdicts, snapshot = measure(guard(clip), seconds)
    figures = {
        "shown_fps": round(float(len(ages) / (seconds - WARM_UP_S)), 2),
        "frame_age_p50_ms": round(quantile(ages, 50), 2),
        "frame_age_p99_ms": round(quantile(ages, 99), 2),
        **verdict_figures(verdicts, len(ages)),
        **drop_figures(snapshot),
    }
    bars = (
        at_least("shown_fps", 0.99 * FPS, figures["shown_fps"]),
        at_least("faces_per_frame", 0.99 * FACES, figures["faces_per_frame"]),
        at_most("verdict_age_max_ms", 300, figures["verdict_age_max_ms"]),
        exactly("verdicts_without_evidence", 0, figures["verdicts_without_evidence"]),
        exactly("unbalanced_edges", 0, len(unbalanced(snapshot))),
    )
    return figures, bars


def measure(spec: GraphSpec, seconds: float) -> tuple[np.ndarray, np.ndarray, RunSnapshot]:
    """Ages in ms of shown frames and rows of `VerdictSink`, after the warm-up; the snapshot."""
    with running(spec) as active:
        time.sleep(seconds)
        snapshot = active.finish().snapshot
        noted, verdicts = active.ages(AGES), active.ages(VERDICTS)
    captured_ns = noted[:, 0] - noted[:, 1]
    begin_ns = captured_ns[0] + int(WARM_UP_S * NANOSECONDS)
    return noted[captured_ns >= begin_ns, 1] / 1e6, verdicts[verdicts[:, 0] >= begin_ns], snapshot


def verdict_figures(verdicts: np.ndarray, frames: int) -> dict[str, float]:
    """Of rows of `VerdictSink`; a verdict without evidence has no age."""
    ages_ms = verdicts[verdicts[:, 2] >= 0, 2].tolist()
    figures = {
        "faces_per_frame": round(len(verdicts) / max(frames, 1), 3),
        "verdicts": len(verdicts),
        "verdicts_without_evidence": len(verdicts) - len(ages_ms),
    }
    for percent in (50, 95):
        figures[f"verdict_age_p{percent}_ms"] = round(quantile(ages_ms, percent), 1)
    figures["verdict_age_max_ms"] = max(ages_ms)
    return figures


def guard(clip: str) -> GraphSpec:
    """graphs/guard.yaml, live, on a paced clip, with sinks that note ages and verdicts."""
    spec = load_graph("guard")
    paced = {"uri": clip, "loop": True, "realtime": True}
    nodes = {
        **spec.nodes,
        "camera": msgspec.structs.replace(spec.nodes["camera"], config=paced),
        "shown": NodeSpec(
            op=f"{AgeSink.__module__}:{AgeSink.__qualname__}",
            config=plain_config(AgeSinkConfig(path=AGES)),
            inputs={"frames": EdgeSpec(from_="overlay.out", queue=4, full="drop_oldest")},
        ),
        "told": NodeSpec(
            op=f"{VerdictSink.__module__}:{VerdictSink.__qualname__}",
            config=plain_config(VerdictSinkConfig(path=VERDICTS)),
            inputs={"frames": EdgeSpec(from_="decision.out", queue=4, full="block")},
        ),
    }
    return msgspec.structs.replace(spec, mode="live", nodes=nodes)
