"""What the benches run: their graphs pass `check`, their operators measure what they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench import churn, gst, guard, latency, overload, pipeline
from bench.links import Inproc
from bench.operators import (
    FACES,
    AgeSink,
    AgeSinkConfig,
    FixedFaces,
    Remember,
    Slow,
    SlowConfig,
    VerdictSink,
    VerdictSinkConfig,
)
from bench.runs import drop_figures, unbalanced
from bench.straight import call
from engine.check import check
from engine.clock import FakeClock
from engine.contract import NoConfig
from engine.loader import load_graph
from engine.plan import LinkKind
from engine.spec import GraphSpec
from engine.telemetry.stats import EdgeStats, RunSnapshot
from engine.testing import HarnessContext, make_frame, run_operator
from operators.face.records import Face
from operators.face.verdicts import Verdict

FRAMES = [make_frame(np.full((4, 4), seq, np.uint8), seq=seq) for seq in range(3)]


@pytest.mark.parametrize(
    ("spec", "links"),
    [
        (overload.graph(), {"inproc", "ipc"}),
        (churn.graph(), {"inproc", "ipc"}),
        (pipeline.detecting(Path("clip.mp4")), {"inproc"}),
        (pipeline.drawing(Path("clip.mp4")), {"inproc"}),
    ],
    ids=lambda value: getattr(value, "graph", ""),
)
def test_graphs_are_sound(spec: GraphSpec, links: set[LinkKind]) -> None:
    assert {edge.link for edge in check(spec).edges} == links


@pytest.mark.parametrize("detector", latency.DETECTORS)
def test_latency_runs_all_of_guard_and_one_sink_more(
    detector: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "small_clip", lambda *_: Path("clip.mp4"))
    plan = check(latency.guard(detector))
    assert plan.mode == "live"
    assert plan.nodes["camera"].config["realtime"]
    assert {"detect", "track", "overlay", "video", "log", "page", "shown"} <= set(plan.nodes)
    assert plan.nodes["detect"].config["model"] == latency.DETECTORS[detector]


def test_guard_runs_live_with_two_sinks_more() -> None:
    spec = guard.guard("clip.mp4")
    assert spec.mode == "live"
    assert spec.nodes["camera"].config["realtime"]
    shipped = load_graph("guard")
    assert set(spec.nodes) == {*shipped.nodes, "shown", "told"}
    assert spec.workers == shipped.workers
    for name in ("encode", "antispoof", "mask3d", "decision"):
        assert spec.nodes[name] == shipped.nodes[name]


def test_verdict_sink_notes_age_and_whether_it_opens(tmp_path: Path) -> None:
    said = (
        Verdict(1, "live", "", "", 2.0, "balanced", 0.25, 9, 120, (), True),
        Verdict(2, "unsure", "", "", None, "balanced", 0.25, 0, None, (), False),
    )
    frames = [FRAMES[0], FRAMES[1].with_records(*said)]
    run_operator(VerdictSink(VerdictSinkConfig(path="v.npy")), frames, output=tmp_path)
    noted = np.load(tmp_path / "v.npy", allow_pickle=False)
    captured_ns = FRAMES[1].stamp.capture_ns
    assert noted.tolist() == [[captured_ns, 1, 120, 1], [captured_ns, 2, -1, 0]]
    assert guard.verdict_figures(noted, frames=1) == {
        "faces_per_frame": 2.0,
        "verdicts": 2,
        "verdicts_without_evidence": 1,
        "verdict_age_p50_ms": 120.0,
        "verdict_age_p95_ms": 120.0,
        "verdict_age_max_ms": 120,
    }


def test_age_sink_notes_arrival_and_age(tmp_path: Path) -> None:
    ctx = HarnessContext(clock=FakeClock(5_000_000_000), output=tmp_path)
    run_operator(AgeSink(AgeSinkConfig(path="ages.npy")), FRAMES, ctx=ctx)
    noted = np.load(tmp_path / "ages.npy", allow_pickle=False)
    captured = [frame.stamp.capture_ns for frame in FRAMES]
    assert noted.tolist() == [[5_000_000_000, 5_000_000_000 - ns] for ns in captured]


def test_slow_and_remember_change_nothing() -> None:
    assert run_operator(Slow(SlowConfig(work_ms=0)), FRAMES) == FRAMES
    assert run_operator(Remember(NoConfig()), FRAMES) == FRAMES


def test_fixed_faces_are_what_gstreamer_draws_as_well(tmp_path: Path) -> None:
    (frame,) = run_operator(FixedFaces(NoConfig()), FRAMES[:1])
    assert tuple(frame.of(Face)) == FACES
    draw = gst.boxes(FACES, tmp_path)
    assert str(tmp_path / "boxes.svg") in draw
    assert (tmp_path / "boxes.svg").read_text().count("<rect") == len(FACES)


def test_gst_line_has_the_same_quality_as_the_mp4_sink() -> None:
    line = gst.line(Path("a.mp4"), Path("b.mp4"), gst.TEXT)
    assert {"speed-preset=ultrafast", "quantizer=23", "pass=qual"} <= set(line)
    assert "queue" not in line
    assert "queue" in gst.line(Path("a.mp4"), Path("b.mp4"), gst.TEXT, queues=True)


def test_the_straight_loop_calls_operators_that_take_one_frame() -> None:
    assert call(Slow(SlowConfig(work_ms=0)), FRAMES[1]) is FRAMES[1]


def test_inproc_bench_takes_every_frame() -> None:
    link = Inproc(0.0, 50)
    link.run(np.zeros((2, 2, 3), np.uint8))
    assert len(link.ages_ns) == 50
    assert min(link.ages_ns) >= 0


def snapshot_of(**edges: EdgeStats) -> RunSnapshot:
    return RunSnapshot(graph="g", mode="live", seconds=1, edges=edges)


def edge(sent: int, consumed: int, in_flight: int = 0, **drops: int) -> EdgeStats:
    return EdgeStats(
        edge="a.out->b.in",
        link="inproc",
        policy="block",
        sent=sent,
        consumed=consumed,
        in_flight=in_flight,
        drops=drops,
    )


def test_unbalanced_names_edges_that_lost_or_still_hold_frames() -> None:
    fine, lost, held = edge(5, 3, late=2), edge(5, 4), edge(5, 4, in_flight=1)
    assert unbalanced(snapshot_of(fine=fine, lost=lost, held=held)) == ["lost", "held"]


def test_drops_are_listed_by_consumer_and_cause() -> None:
    snapshot = RunSnapshot(
        graph="g", mode="live", seconds=1, edges={"a.out->b.in": edge(5, 3, late=2)}
    )
    assert drop_figures(snapshot) == {"drops_b_late": 2}


def test_growth_compares_the_halves_and_deviation_the_samples() -> None:
    assert overload.growth(np.array([100.0] * 50 + [200.0] * 50)) == 2
    assert overload.deviation([100.0, 104.0, 97.0]) == pytest.approx(0.04)


def test_change_is_a_share_of_the_first_cycle() -> None:
    first, last = churn.Holdings(100, 10, 30, 0), churn.Holdings(98, 10, 31, 1)
    assert churn.change([first, last], lambda held: held.rss_bytes) == pytest.approx(0.02)
    assert churn.change([first, last], lambda held: held.threads) == 0
    assert churn.change([first, last], lambda held: held.shm_entries) == 1
