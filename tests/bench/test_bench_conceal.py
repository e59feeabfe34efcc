"""What `bench conceal` runs: the feed with faults, who takes notes, and how these are judged."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from bench import conceal, faults
from bench.faults import BACK, CAPTURED, MADE, FaultyFeed, FaultyFeedConfig, to_and_fro
from engine import EndOfStream, Frame
from engine.check import check
from engine.testing import HarnessContext, run_operator
from operators.predict.records import Concealed
from tests.predict.feeds import apart, picture

MS = 1_000_000


@pytest.fixture(autouse=True)
def clip(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short one that need not be decoded."""
    monkeypatch.setattr(faults, "decoded", lambda path: (picture(n) for n in range(20)))
    monkeypatch.setattr(conceal, "decoded", lambda path: (picture(n) for n in range(20)))


def played(count: int, **settings: float) -> list[Frame]:
    feed = FaultyFeed(FaultyFeedConfig(path="clip.mp4", pictures=20, **settings))  # type: ignore[arg-type]
    ctx = HarnessContext(mode="live")
    with ctx.exits:
        feed.open(ctx)
        return [feed.process().frames for _ in range(count)]


def test_a_feed_without_faults_comes_on_time() -> None:
    frames = played(60, stall_ms=0, lost=0)
    assert [frame.stamp.pts for frame in frames] == list(range(60))
    assert [frame.stamp.capture_ns for frame in frames] == [n * 40 * MS for n in range(60)]
    assert frames[25].data is frames[13].data, "to and fro"


def test_it_stalls_at_key_frames_and_gives_what_it_held_up_at_once() -> None:
    frames = played(90, stall_ms=400, lost=0, key_every=50)
    late = [frame.stamp.capture_ns // MS - 40 * frame.stamp.pts for frame in frames]
    assert late[:50] == [0] * 50
    assert late[50:62] == [400, 360, 320, 280, 240, 200, 160, 120, 80, 40, 0, 0]


def test_it_loses_a_share_in_bursts() -> None:
    numbers = [frame.stamp.pts for frame in played(3000, stall_ms=0, lost=0.02)]
    assert 1 - 3000 / numbers[-1] == pytest.approx(0.02, abs=0.01)
    gaps = [after - before - 1 for before, after in itertools.pairwise(numbers)]
    assert np.mean([gap for gap in gaps if gap]) > 1.5
    assert [frame.stamp.seq for frame in played(50, lost=0.5)] == list(range(50))


def test_it_ends_when_the_run_does() -> None:
    feed = FaultyFeed(FaultyFeedConfig(path="clip.mp4", pictures=20))
    ctx = HarnessContext(mode="live")
    feed.open(ctx)
    ctx.stop.set()
    with pytest.raises(EndOfStream):
        feed.process()


def test_notes_tell_what_was_shown_when(tmp_path: Path) -> None:
    frames = [picture(0), picture(1), picture(2)]
    frames[1] = frames[1].with_records(Concealed("made", 1, 40, 0.5, bytes(64)))
    run_operator(
        faults.ShownNotes(faults.ShownNotesConfig(path="notes.npy")), frames, output=tmp_path
    )
    notes = np.load(tmp_path / "notes.npy")
    assert notes[:, faults.PTS].tolist() == [0, 40 * MS, 80 * MS]
    assert notes[:, faults.KIND].tolist() == [CAPTURED, MADE, CAPTURED]
    expected = [0, apart(frames[1], frames[0]), apart(frames[2], frames[1])]
    assert notes[:, faults.CHANGE] == pytest.approx(expected)


def test_the_graph_is_sound() -> None:
    assert check(conceal.graph("clip.mp4")).mode == "live"


def notes_of(kinds: list[int], changes: list[float], late_ms: float = 0) -> np.ndarray:
    numbers = np.arange(len(kinds))
    arrivals = numbers * 40e6 + 7e6
    arrivals[5] += late_ms * 1e6
    return np.stack([arrivals, numbers * 40e6, kinds, changes], axis=1)


def test_jumps_are_judged_by_what_was_filmed() -> None:
    kinds = [CAPTURED] * 60
    kinds[20:24], kinds[24:26] = [MADE] * 4, [BACK] * 2
    changes = [2.0] * 60
    changes[20], changes[24], changes[26] = 9.0, 3.0, 2.4
    filmed = np.full(80, 2.0)
    assert conceal.seams(notes_of(kinds, changes), filmed) == [pytest.approx(1.5)]
    filmed[24] = 6.0
    assert conceal.seams(notes_of(kinds, changes), filmed)[0] < 1.25
    still = conceal.seams(notes_of(kinds, [0.4] * 60), np.zeros(80))
    assert still[0] < 1, "what rounding alone does is no jump"


def test_lateness_and_missed_moments_are_counted() -> None:
    kinds = [CAPTURED] * 20 + [MADE] * 4 + [CAPTURED] * 20
    notes = notes_of(kinds, [2.0] * 44, late_ms=33)
    found = conceal.judged(np.delete(notes, 30, axis=0), np.full(80, 2.0))
    assert (found["frames"], found["frames_made"], found["seams"]) == (43, 4, 1)
    assert found["moments_missed"] == 1
    assert found["late_max_ms"] == pytest.approx(33)


def test_what_was_filmed_goes_to_and_fro_too() -> None:
    filmed = conceal.filmed("clip.mp4", 45)
    assert filmed[0] == 0
    assert filmed[1] == pytest.approx(apart(picture(1), picture(0)))
    assert filmed[38] == filmed[1], "on its way back"
    assert [to_and_fro(n, 4) for n in range(8)] == [0, 1, 2, 3, 2, 1, 0, 1]


def test_stretches_have_no_cut_in_them(monkeypatch: pytest.MonkeyPatch) -> None:
    dark = picture(0).with_data(np.zeros_like(picture(0).data))
    frames = [picture(n % 5) for n in range(50)] + [dark] * 60
    found = conceal.chosen(frames, 100)
    assert len(found) > 2
    for past, true in found:
        assert (len(past), len(true)) == (12, 25)
        bright = [frame is not dark for frame in (*past, *true)]
        assert len(set(bright)) == 1
