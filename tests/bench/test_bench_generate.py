"""What `bench generate` runs and how it judges, on a checkpoint with random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench import calls, generate, latency
from bench.pictures import (
    FIRST_STATISTIC,
    STATISTICS,
    PictureNotes,
    PictureNotesConfig,
    drift,
    look,
)
from engine import Caps, Frame
from engine.check import check
from engine.clock import FakeClock
from engine.errors import DeviceError
from engine.loader import load_graph
from engine.testing import HarnessContext, make_frame, run_operator
from operators.generate import settings
from operators.generate.dream import DreamConfig
from operators.nn.ar_diffusion.files import load_system
from tests.operators.models import random_ar_diffusion

SIDE = 32
CAPS = Caps(
    media="video", pix_fmt="yuv420p", dtype="uint8", width=SIDE, height=SIDE, device="cpu",
    colorspace="bt601", color_range="limited",
)  # fmt: skip


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The random checkpoint in place of the one that comes along."""
    monkeypatch.setattr(settings, "SHIPPED", random_ar_diffusion())
    return random_ar_diffusion()


def pictures(count: int, seed: int, amount: float, level: float = 110.0) -> list[Frame]:
    """Noise of so many grey levels about a level, in luma and chroma."""
    rng = np.random.default_rng(seed)
    return [
        make_frame(
            (level + amount * rng.standard_normal((SIDE * 3 // 2, SIDE))).clip(0, 255).astype("u1"),
            seq=seq,
            caps=CAPS,
        )
        for seq in range(count)
    ]


def statistics(frames: list[Frame]) -> np.ndarray:
    rows, last = [], None
    for frame in frames:
        last, row = look(frame, last)
        rows.append(row)
    return np.array(rows[1:])


def test_statistics_are_what_their_names_say() -> None:
    flat = make_frame(np.full((SIDE * 3 // 2, SIDE), 90, np.uint8), caps=CAPS)
    luma, first = look(flat, None)
    assert first == (90.0, 0.0, 0.0, 0.0, 0.0)
    brighter = make_frame(np.full((SIDE * 3 // 2, SIDE), 97, np.uint8), caps=CAPS)
    _, second = look(brighter, luma)
    assert dict(zip(STATISTICS, second, strict=True))["motion"] == 7.0
    stripes = np.full((SIDE * 3 // 2, SIDE), 90, np.uint8)
    stripes[:SIDE, ::2] = 110
    _, third = look(make_frame(stripes, caps=CAPS), None)
    assert third[:2] == (100.0, 10.0)
    assert third[3] > 30, "all of it is fine detail"


def test_a_film_that_stays_as_it_was_has_not_drifted() -> None:
    figures = drift(statistics(pictures(60, 1, 20)), statistics(pictures(60, 2, 20)))
    assert figures["statistics_drifted"] == 0
    assert set(figures) == {
        f"{name}_{when}" for name in STATISTICS for when in ("early", "late")
    } | {"statistics_drifted"}


@pytest.mark.parametrize(
    ("late", "drifted"),
    [
        (pictures(60, 2, 1.0), 4),  # grey: no contrast, no colour, no detail, no motion
        (pictures(60, 2, 60.0), 4),  # noise
        (pictures(1, 2, 20.0) * 60, 1),  # stands still
        (pictures(60, 2, 20.0, level=60.0), 1),  # dark
    ],
    ids=["grey", "noise", "still", "dark"],
)
def test_each_way_to_go_wrong_is_seen(late: list[Frame], drifted: int) -> None:
    figures = drift(statistics(pictures(60, 1, 20)), statistics(late))
    assert figures["statistics_drifted"] >= drifted


def test_notes_are_taken_of_frames_that_pass(tmp_path: Path) -> None:
    frames = pictures(3, 0, 20)
    ctx = HarnessContext(clock=FakeClock(7_000), output=tmp_path)
    passed = run_operator(PictureNotes(PictureNotesConfig(path="n.npy")), frames, ctx=ctx)
    assert passed == frames
    notes = np.load(tmp_path / "n.npy", allow_pickle=False)
    assert notes.shape == (3, FIRST_STATISTIC + len(STATISTICS))
    assert notes[:, :FIRST_STATISTIC].tolist() == [
        [7_000, frame.stamp.capture_ns, 0] for frame in frames
    ]


def test_the_film_has_nothing_but_the_model(shipped: Path) -> None:
    plan = check(generate.film(10))
    assert plan.mode == "file"
    assert set(plan.nodes) == {"dream", "notes", "mark", "sink"}
    config = plan.nodes["dream"].config
    assert (config["realtime"], config["hold_fps"]) == (False, False)
    assert {edge.policy for edge in plan.edges} == {"block"}


def test_the_rate_is_held_by_the_graph_as_it_comes(shipped: Path) -> None:
    plan, as_it_comes = check(generate.noted_dream()), load_graph("dream")
    assert set(plan.nodes) == {*as_it_comes.nodes, "notes"}
    assert plan.workers["dreamer"].nice == 19
    assert plan.nodes["dream"].config["fps"] == generate.FPS


def test_guard_and_dream_are_one_graph(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "small_clip", lambda *_: Path("clip.mp4"))
    alone = latency.guard("blazeface")
    spec = generate.with_dream(alone)
    plan = check(spec)
    for name, node in alone.nodes.items():
        assert spec.nodes[name] == node
    added = set(spec.nodes) - set(alone.nodes)
    assert added == {"dream", "enlarge", "mark", "dream-video", "dream-page"}
    assert spec.nodes["dream-video"].inputs["frames"].from_ == "mark.out"
    assert plan.nodes["dream"].worker == "dreamer"
    assert plan.workers["dreamer"].nice > plan.workers["judge"].nice


def test_a_call_and_a_picture_are_timed() -> None:
    config = DreamConfig(checkpoint=str(random_ar_diffusion()), steps=6, lag=3)
    figures = calls.compact_figures(config, 3)
    assert (figures["steps"], figures["lag"]) == (6, 3)
    assert figures["call_ms"] > 0
    assert figures["decode_ms"] > 0


def test_without_a_gpu_there_are_no_figures_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise DeviceError("no driver")

    monkeypatch.setattr(calls, "ask_driver", absent)
    assert calls.gpu_figures(DreamConfig(), 1) == {}


def test_any_size_is_timed_with_random_weights() -> None:
    system = load_system(random_ar_diffusion()).config
    figures = calls.size_figures(system, 3, "cpu")
    expected = 1e3 / (system.lag * figures["call_ms"] + figures["decode_ms"])
    assert figures["fps"] == pytest.approx(expected, rel=0.2)


@pytest.mark.slow
def test_a_short_film_and_a_held_rate_are_measured() -> None:
    checkpoint = str(random_ar_diffusion())
    figures, loose = generate.long_film(40, checkpoint)
    assert loose == 0
    assert figures["film_frames"] == 40
    assert figures["film_fps"] > 0
    assert 0 < figures["first_frame_ms"] < 20_000
    assert figures["film_rss_mib"] > 50
    assert {type(value) for value in figures.values()} <= {int, float}, "as JSON has them"
    figures, loose = generate.held_rate(4.0, checkpoint)
    assert loose == 0
    assert figures["stale_frames"] == 0
    assert 0 < figures["held_fps"] < 2 * generate.FPS
    assert 0 < figures["new_prompt_ms"] < 4_000
    assert {type(value) for value in figures.values()} <= {int, float}
