"""Events: entered, seen and left, with the times and places of the frames they speak of."""

from __future__ import annotations

import numpy as np
import pytest

from engine import Frame
from engine.testing import HarnessContext, run_operator
from operators.events import EVENT_CAPS, Event
from operators.face.events import FaceEvents, FaceEventsConfig, VerdictChanged
from operators.face.records import Track
from operators.face.verdicts import Outcome, Verdict
from tests.operators.faces import picture, track

FPS = 10
PIXELS = np.zeros((2, 2, 3), np.uint8)


def frame(seq: int, *tracks: Track, stream_id: str = "test") -> Frame:
    return picture(PIXELS, seq=seq, stream_id=stream_id, fps=FPS).with_records(*tracks)


def told(frames: list[Frame], **settings: int) -> list[tuple[str, int, int]]:
    """(kind, track, seq of the frame it speaks of) of every event."""
    made = run_operator(FaceEvents(FaceEventsConfig(**settings)), frames)
    return [(e.kind, e.track_id, f.stamp.seq) for f in made for e in f.of(Event)]


def test_a_face_enters_is_seen_and_leaves() -> None:
    frames = [frame(n, track(7, 100, 100)) for n in range(25)] + [frame(n) for n in range(25, 40)]
    assert told(frames, seen_every_ms=1000, gone_ms=500) == [
        ("face_entered", 7, 0),
        ("face_seen", 7, 10),
        ("face_seen", 7, 20),
        ("face_left", 7, 30),  # the first frame more than 500 ms after frame 24
    ]


def test_seen_every_frame() -> None:
    frames = [frame(n, track(1, 100, 100)) for n in range(4)]
    kinds = [kind for kind, _, _ in told(frames, seen_every_ms=0)]
    assert kinds == ["face_entered", "face_seen", "face_seen", "face_seen", "face_left"]


def test_the_end_of_a_stream_lets_everybody_leave_where_last_seen() -> None:
    frames = [
        frame(n, track(1, 100, 100), *([track(2, 300, 100)] if n < 3 else [])) for n in (1, 2, 3)
    ]
    assert told(frames)[-2:] == [("face_left", 1, 3), ("face_left", 2, 2)]


def test_a_prediction_is_no_sighting() -> None:
    seen, guessed = track(1, 100, 100), track(1, 110, 100, predicted=True, lost=True)
    frames = [frame(0, seen), *[frame(n, guessed) for n in range(1, 12)]]
    assert told(frames, gone_ms=500) == [("face_entered", 1, 0), ("face_left", 1, 6)]


def test_between_two_searches_a_face_is_neither_seen_nor_gone() -> None:
    seen, carried = track(1, 100, 100), track(1, 110, 100, predicted=True)
    frames = [frame(0, seen), *[frame(n, carried) for n in range(1, 30)], frame(30, seen)]
    assert told(frames, gone_ms=500, seen_every_ms=1000) == [
        ("face_entered", 1, 0),
        ("face_seen", 1, 30),
        ("face_left", 1, 30),
    ]
    assert told(frames[:20], gone_ms=500)[-1] == ("face_left", 1, 0)
    assert told([frame(0, carried)]) == []


def test_a_face_that_comes_back_enters_again() -> None:
    frames = [frame(0, track(1, 9, 9)), *[frame(n) for n in range(1, 9)], frame(9, track(1, 9, 9))]
    assert [kind for kind, _, _ in told(frames, gone_ms=300)] == [
        "face_entered",
        "face_left",
        "face_entered",
        "face_left",
    ]


def test_a_pause_shorter_than_gone_ms_is_not_told() -> None:
    frames = [frame(0, track(1, 9, 9)), *[frame(n) for n in range(1, 5)], frame(5, track(1, 9, 9))]
    assert told(frames, gone_ms=500) == [("face_entered", 1, 0), ("face_left", 1, 5)]


def test_an_event_carries_the_track_as_it_was() -> None:
    seen = track(3, 100, 120, age_ms=1234)
    first, last = run_operator(FaceEvents(FaceEventsConfig()), [frame(5, seen)])
    (entered,) = first.of(Event)
    assert entered == Event("face_entered", 3, seen.box, seen.score, 1234)
    assert first.caps == last.caps == EVENT_CAPS
    assert first.data.size == 0
    assert first.stamp == last.stamp == frame(5).stamp


def test_all_events_of_a_moment_are_in_one_frame() -> None:
    made = run_operator(FaceEvents(FaceEventsConfig()), [frame(0, track(1, 9, 9), track(2, 99, 9))])
    assert [event.track_id for event in made[0].of(Event)] == [1, 2]
    assert len(made) == 3  # and one frame for each that left


def test_nothing_to_tell_gives_no_frame() -> None:
    assert run_operator(FaceEvents(FaceEventsConfig()), [frame(0), frame(1)]) == []


@pytest.mark.parametrize("stream_id", ["a", "never seen"])
def test_streams_do_not_mix(stream_id: str) -> None:
    operator = FaceEvents(FaceEventsConfig())
    context = HarnessContext()
    with context.exits:
        operator.open(context)
        for name in ("a", "b"):
            (made,) = operator.process(frame(0, track(1, 9, 9), stream_id=name))
            assert made.of(Event)[0].kind == "face_entered"
        rest = operator.reset(stream_id)
        operator.close()
    told_of = [made.stamp.stream_id for made in rest or []]
    assert told_of == (["a"] if stream_id == "a" else [])


# ---- verdicts


def verdict(outcome: Outcome, track_id: int = 7, kind: str = "", age_ms: int = 80) -> Verdict:
    told = f"{outcome}, {age_ms} ms old"
    opens = outcome == "live"
    return Verdict(
        track_id, outcome, kind, told, 1.5, "balanced", 0.25, 9, age_ms, ("antispoof:aa",), opens
    )


def judged(seq: int, *verdicts: Verdict, **changes: bool) -> Frame:
    tracks = {one.track_id: track(one.track_id, 100, 100, **changes) for one in verdicts}
    return frame(seq, *tracks.values()).with_records(*verdicts)


def changes(frames: list[Frame]) -> list[tuple[int, str, str]]:
    made = run_operator(FaceEvents(FaceEventsConfig()), frames)
    return [(f.stamp.seq, e.outcome, e.attack) for f in made for e in f.of(VerdictChanged)]


def test_a_verdict_is_told_when_it_changes() -> None:
    outcomes: list[tuple[Outcome, str]] = [
        ("unsure", ""), ("unsure", ""), ("live", ""), ("live", ""), ("unsure", ""),
        ("spoof", "mask"), ("spoof", "mask"), ("spoof", "presentation"),
    ]  # fmt: skip
    frames = [
        judged(n, verdict(outcome, kind=kind, age_ms=40 * n))  # another reason every time
        for n, (outcome, kind) in enumerate(outcomes)
    ]
    assert changes(frames) == [
        (0, "unsure", ""),
        (2, "live", ""),
        (4, "unsure", ""),
        (5, "spoof", "mask"),
        (7, "spoof", "presentation"),
    ]


def test_the_event_says_what_was_decided_and_why() -> None:
    seen = judged(3, verdict("live"))
    (made, _) = run_operator(FaceEvents(FaceEventsConfig()), [seen])
    (event,) = made.of(VerdictChanged)
    (known,) = seen.of(Track)
    assert made.stamp == seen.stamp
    assert event == VerdictChanged(
        track_id=7, box=known.box, outcome="live", attack="", opens=True,
        reason="live, 80 ms old", score=1.5, age_ms=80, n_scored=9, profile="balanced",
        checkpoints=("antispoof:aa",), duration_ms=known.age_ms,
    )  # fmt: skip
    assert event.kind == "verdict"
    assert [record.kind for record in made.of(Event)] == ["face_entered"]


def test_live_is_taken_back_also_while_the_face_is_not_seen() -> None:
    hidden = judged(1, verdict("unsure"), predicted=True, lost=True)
    assert changes([judged(0, verdict("live")), hidden]) == [(0, "live", ""), (1, "unsure", "")]


def test_tracks_are_told_apart_and_one_that_comes_back_is_told_again() -> None:
    first = judged(0, verdict("live", 1), verdict("unsure", 2))
    again = judged(20, verdict("live", 1))
    assert changes([first, *[frame(n) for n in range(1, 20)], again]) == [
        (0, "live", ""),
        (0, "unsure", ""),
        (20, "live", ""),
    ]


def test_a_verdict_of_nobody_who_was_seen_is_not_told() -> None:
    assert changes([judged(0, verdict("live"), predicted=True)]) == []
