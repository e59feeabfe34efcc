"""`dream` on this machine: how fast, how soon, for how long, and what `guard` notices of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
import psutil  # type: ignore[import-untyped]

from bench import guard, latency
from bench.calls import compact_figures, gpu_figures
from bench.common import quantile, say, significant
from bench.media import two_faces_clip
from bench.pictures import (
    ARRIVAL,
    EPOCH,
    FIRST_STATISTIC,
    PictureNotes,
    PictureNotesConfig,
    drift,
)
from bench.result import Bar, at_least, at_most, exactly
from bench.runs import BenchRun, running, unbalanced
from engine.graph import Graph, plain_config
from engine.loader import load_graph
from engine.spec import EdgeSpec, GraphSpec, NodeSpec
from engine.telemetry.stats import RunSnapshot
from operators.generate.dream import Dream, DreamConfig
from operators.sinks.null import NullSink
from operators.video.mark import Mark

FPS = 15
NOTES = "pictures.npy"
FILM_S = 3600.0  # patience
VERDICT_AGES = ("verdict_age_p50_ms", "verdict_age_max_ms")
PART = 0.1  # of a film: its begin and its end, which are compared
NANOSECONDS = 1e9
PROMPTS = ("bounce", "pan")  # the second one comes while the first one is shown


@dataclass(frozen=True)
class Lengths:
    """How much of everything."""

    frames: int  # of the long film
    held_s: float
    beside_s: float
    calls: int


FULL = Lengths(frames=10_000, held_s=60, beside_s=60, calls=200)
QUICK = Lengths(frames=150, held_s=6, beside_s=5, calls=30)


def run(quick: bool) -> tuple[dict[str, float], tuple[Bar, ...]]:
    """The compact model; the drift is no bar of the quick run, which is too short to tell."""
    lengths = QUICK if quick else FULL
    say(f"generate: {lengths.calls} calls, then a film of {lengths.frames} frames")
    figures = compact_figures(DreamConfig(prompt=PROMPTS[0]), lengths.calls)
    film, loose = long_film(lengths.frames)
    figures |= film
    say(f"generate: {lengths.held_s:g} s at {FPS} fps, with a new prompt")
    held, more = held_rate(lengths.held_s)
    figures |= held
    say(f"generate: guard with dream beside it, twice {lengths.beside_s:g} s")
    beside, most = beside_guard(lengths.beside_s)
    figures |= beside
    figures |= gpu_figures(DreamConfig(prompt=PROMPTS[0]), lengths.calls)
    bars = [
        at_least("film_fps", FPS, figures["film_fps"]),
        at_most("first_frame_ms", 500, figures["first_frame_ms"]),
        at_most("film_rss_growth", 0.05, figures["film_rss_growth"]),
        exactly("stale_frames", 0, figures["stale_frames"]),
        at_most("beside_age_p50_ms", 40, figures["beside_age_p50_ms"]),
        at_most("beside_age_p99_ms", 100, figures["beside_age_p99_ms"]),
        exactly("unbalanced_edges", 0, loose + more + most),
    ]
    if not quick:
        bars.append(exactly("statistics_drifted", 0, figures["statistics_drifted"]))
    return figures, tuple(bars)


# ---- in a graph


def long_film(frames: int, checkpoint: str = "") -> tuple[dict[str, float], int]:
    """As fast as it goes, all steps taken; figures and the number of unbalanced edges."""
    with running(film(frames, checkpoint)) as active:
        begin_ns = time.monotonic_ns()
        early = rss_after(active, frames * PART)
        late = rss_after(active, frames * (1 - PART))
        snapshot = active.wait_end(FILM_S).snapshot
        notes = active.ages(NOTES)
    took_ns = float(notes[-1, ARRIVAL] - notes[0, ARRIVAL])
    part = max(round(frames * PART), 1)
    statistics = notes[:, FIRST_STATISTIC:]
    return {
        "film_frames": len(notes),
        "film_fps": significant((len(notes) - 1) / (took_ns / NANOSECONDS)),
        "first_frame_ms": round(float(notes[0, ARRIVAL] - begin_ns) / 1e6, 1),
        "film_rss_mib": round(late / 2**20, 1),
        "film_rss_growth": significant(late / early - 1),
        **drift(statistics[1:part], statistics[-part:]),
    }, len(unbalanced(snapshot))


def film(frames: int, checkpoint: str = "") -> GraphSpec:
    """Nothing but the model, somebody who takes notes, and the mark that has to be."""
    g = Graph("generate", mode="file")
    config = DreamConfig(
        checkpoint=checkpoint, prompt=PROMPTS[0], frames=frames, realtime=False, hold_fps=False
    )
    dream = g.add("dream", Dream, config, worker=g.worker("dreamer"))
    edge = dream.edge("frames", queue=4, full="block")
    notes = g.add("notes", PictureNotes, PictureNotesConfig(path=NOTES), inputs={"frames": edge})
    mark = g.add("mark", Mark, inputs={"frames": notes.edge(queue=4, full="block")})
    g.add("sink", NullSink, inputs={"frames": mark.edge(queue=4, full="block")})
    return g.spec()


def rss_after(active: BenchRun, frames: float) -> int:
    """Memory of the process that dreams, once so many frames are made."""
    active.wait_for(f"{frames:g} frames", lambda s: s.nodes["notes"].frames >= frames, FILM_S)
    pid = active.run.snapshot().workers["dreamer"].pid
    resident: int = psutil.Process(pid).memory_info().rss
    return resident


def held_rate(seconds: float, checkpoint: str = "") -> tuple[dict[str, float], int]:
    """graphs/dream.yaml as it is; half-way it is asked for something else."""
    with running(noted_dream(checkpoint)) as active:
        time.sleep(seconds / 2)
        tuned_ns = time.monotonic_ns()
        active.run.tune("dream", "prompt", PROMPTS[1])
        time.sleep(seconds / 2)
        snapshot = active.finish().snapshot
        notes = active.ages(NOTES)
    renewed = notes[:, EPOCH] == 1
    first = int(np.argmax(renewed))
    took_ns = float(notes[-1, ARRIVAL] - notes[0, ARRIVAL])
    return {
        "held_fps": round((len(notes) - 1) / (took_ns / NANOSECONDS), 2),
        "held_pace_changes": pace_changes(snapshot),
        "new_prompt_ms": round(float(notes[first, ARRIVAL] - tuned_ns) / 1e6, 1),
        "stale_frames": int(np.count_nonzero(~renewed[first:])),
    }, len(unbalanced(snapshot))


def noted_dream(checkpoint: str = "") -> GraphSpec:
    """The shipped graph with somebody who takes notes behind the model."""
    spec = load_graph("dream")
    config = spec.nodes["dream"].config | {"prompt": PROMPTS[0], "fps": FPS}
    if checkpoint:
        config = config | {"checkpoint": checkpoint}
    notes = NodeSpec(
        op=f"{PictureNotes.__module__}:{PictureNotes.__qualname__}",
        config=plain_config(PictureNotesConfig(path=NOTES)),
        inputs={"frames": EdgeSpec(from_="dream.frames", queue=2, full="drop_oldest")},
    )
    enlarge = spec.nodes["enlarge"]
    taken = {"frames": msgspec.structs.replace(enlarge.inputs["frames"], from_="notes.out")}
    changed = {
        "dream": msgspec.structs.replace(spec.nodes["dream"], config=config),
        "notes": notes,
        "enlarge": msgspec.structs.replace(enlarge, inputs=taken),
    }
    return msgspec.structs.replace(spec, nodes={**spec.nodes, **changed})


def pace_changes(snapshot: RunSnapshot) -> int:
    return sum(event.code == "PACE" for event in snapshot.events)


# ---- beside guard


def beside_guard(seconds: float) -> tuple[dict[str, float], int]:
    """The benches `latency` and `guard` again, with all of `dream` in the same graph."""
    ages_ms, snapshot = latency.measure_graph(with_dream(latency.guard("blazeface")), seconds)
    figures = {
        f"beside_age_p{percent}_ms": round(quantile(ages_ms, percent), 2) for percent in (50, 99)
    }
    figures |= dream_figures(snapshot, seconds)
    clip = str(two_faces_clip(64))
    ages_ms, verdicts, second = guard.measure(with_dream(guard.guard(clip)), seconds)
    told = guard.verdict_figures(verdicts, len(ages_ms))
    figures["beside_guard_fps"] = round(len(ages_ms) / (seconds - guard.WARM_UP_S), 2)
    figures |= {
        f"beside_{name}": told[name] for name in ("verdict_age_p50_ms", "verdict_age_max_ms")
    }
    return figures, len(unbalanced(snapshot)) + len(unbalanced(second))


def with_dream(spec: GraphSpec) -> GraphSpec:
    """Both graphs in one; what both call by the same name gets another in the second."""
    other = load_graph("dream")
    names = {name: f"dream-{name}" if name in spec.nodes else name for name in other.nodes}
    nodes = {names[name]: renamed(node, names) for name, node in other.nodes.items()}
    return msgspec.structs.replace(
        spec, nodes={**spec.nodes, **nodes}, workers={**spec.workers, **other.workers}
    )


def renamed(node: NodeSpec, names: Mapping[str, str]) -> NodeSpec:
    """With its inputs from where these are called so now."""
    inputs = {}
    for port, edge in node.inputs.items():
        producer, _, output = edge.from_.partition(".")
        inputs[port] = msgspec.structs.replace(edge, from_=f"{names[producer]}.{output}")
    return msgspec.structs.replace(node, inputs=inputs)


def dream_figures(snapshot: RunSnapshot, seconds: float) -> dict[str, float]:
    return {
        "beside_dream_fps": round(snapshot.nodes["dream"].frames / seconds, 2),
        "beside_pace_changes": pace_changes(snapshot),
    }
