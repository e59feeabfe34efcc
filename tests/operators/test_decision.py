"""What a door is told: live only where everything speaks for it, and never because of the past."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import Batch, Frame, Record, Stamp
from engine.caps import Caps
from engine.testing import HarnessContext, make_frame
from operators.events import EVENT_CAPS
from operators.face.antispoof import AntiSpoof
from operators.face.decision import FaceDecision, FaceDecisionConfig
from operators.face.encode import FaceEncode, FaceEncodeConfig
from operators.face.pad_node import PadConfig
from operators.face.records import Track
from operators.face.verdicts import HeadVerdict, Verdict
from tests.operators.faces import track
from tests.operators.models import certain_head, random_compact
from tests.operators.test_encode import FACE
from tests.operators.test_encode import track as encoded_track

MS = 1_000_000
NOW_MS = 5000
VIDEO = Caps(media="video", pix_fmt="gray", dtype="uint8", width=2, height=2, device="cpu")
PICTURE = np.zeros((2, 2), np.uint8)


def stamp(ms: int, *, captured_ms: int | None = None, **fields: Any) -> Stamp:
    captured = ms if captured_ms is None else captured_ms
    return Stamp("door", ms, Fraction(1, 1000), captured * MS, ms, **fields)


def seen(*records: Record, ms: int = NOW_MS, **fields: Any) -> Frame:
    return Frame(PICTURE, VIDEO, stamp(ms, **fields), records or (face(),))


def face(track_id: int = 1, **changes: Any) -> Track:
    return track(track_id, 100, 100, **({"age_ms": 3000} | changes))


def said(head: str, ms: int = NOW_MS, /, **changes: Any) -> HeadVerdict:
    """A head that is sure of a live person since two seconds."""
    fields: dict[str, Any] = {
        "track_id": 1, "head": head, "attack": "mask" if head == "mask3d" else "presentation",
        "status": "scored", "reason": "", "checkpoint": head[0] * 64, "backbone_sha": "b" * 64,
        "profile": "balanced", "state": "live", "score": 3.0, "llr": 3.5, "n_scored": 20,
        "span_ns": 2000 * MS, "scored_pts_ns": ms * MS, "since_pts_ns": (ms - 1000) * MS,
    }  # fmt: skip
    return HeadVerdict(**(fields | changes))


def verdicts(*told: HeadVerdict, ms: int = NOW_MS, **fields: Any) -> Frame:
    return Frame(np.empty(0, np.uint8), EVENT_CAPS, stamp(ms, **fields), told)


def opened(mode: Any = "file", **config: Any) -> FaceDecision:
    operator = FaceDecision(FaceDecisionConfig(**config))
    operator.open(HarnessContext(mode=mode))
    return operator


def both(ms: int = NOW_MS, **changes: Any) -> dict[str, Frame]:
    """What comes at both ports; `changes` are of the anti-spoofing head."""
    return {
        "antispoof": verdicts(said("antispoof", ms, **changes), ms=ms),
        "mask3d": verdicts(said("mask3d", ms), ms=ms),
    }


def told(operator: FaceDecision, frame: Frame, **ports: Frame | None) -> Verdict:
    made = operator.process(frame, **({"antispoof": None, "mask3d": None} | ports))
    (verdict,) = made.of(Verdict)
    return verdict


# ---- the three outcomes


def test_live_where_both_heads_are_sure_and_fresh() -> None:
    verdict = told(opened(), seen(), **both(NOW_MS - 120, score=1.5))
    assert (verdict.outcome, verdict.opens, verdict.kind) == ("live", True, "")
    assert verdict.label == "live"
    assert (verdict.score, verdict.age_ms, verdict.n_scored) == (1.5, 120, 20)
    assert (verdict.profile, verdict.threshold) == ("balanced", 0.25)
    assert verdict.checkpoints == (f"antispoof:{'a' * 64}", f"mask3d:{'m' * 64}")


@pytest.mark.parametrize(("head", "kind"), [("antispoof", "presentation"), ("mask3d", "mask")])
def test_one_head_that_sees_an_attack_is_enough(head: str, kind: str) -> None:
    ports = both() | {head: verdicts(said(head, state="attack", score=-2.0, llr=-3.9))}
    verdict = told(opened(), seen(), **ports)
    assert (verdict.outcome, verdict.kind, verdict.opens) == ("spoof", kind, False)
    assert verdict.label == f"spoof({kind})"
    assert verdict.reason == f"{head} decided attack"


@pytest.mark.parametrize("missing", ["antispoof", "mask3d"])
def test_a_required_head_that_says_nothing_is_unsure(missing: str) -> None:
    verdict = told(opened(), seen(), **(both() | {missing: None}))
    assert (verdict.outcome, verdict.reason) == ("unsure", f"{missing}: no report")
    assert not verdict.opens


def test_a_head_that_is_not_required_need_not_be_there_but_counts() -> None:
    operator = opened(required=("antispoof",))
    assert told(operator, seen(), antispoof=both()["antispoof"]).outcome == "live"
    doubt = verdicts(said("mask3d", state="undecided"))
    assert told(operator, seen(), **(both() | {"mask3d": doubt})).outcome == "unsure"


CLOSED: list[tuple[dict[str, Any], str]] = [
    ({"status": "error", "reason": "out of memory"}, "error: out of memory"),
    ({"status": "no_checkpoint", "reason": "x.safetensors"}, "no checkpoint: x.safetensors"),
    ({"status": "refused_synthetic"}, "refused"),
    ({"state": "undecided"}, "undecided"),
    ({"state": "undecided", "since_pts_ns": 0}, "older than the track"),
    ({"n_scored": 3}, "too little evidence"),
    ({"span_ns": 100 * MS}, "too little evidence"),
    ({"llr": -0.1}, "does not speak for live"),
    ({"score": 0.1}, "below 0.25"),
    ({"score": float("nan")}, "malformed"),
    ({"llr": float("inf")}, "malformed"),
    ({"scored_pts_ns": None}, "not scored yet"),
    ({"scored_pts_ns": (NOW_MS + 1) * MS}, "later frame"),
    ({"profile": "convenience"}, "profile convenience, not balanced"),
    ({"track_id": 2}, "no report"),
    ({"head": "mask3d"}, "no report"),
]


@pytest.mark.parametrize(("changes", "reason"), CLOSED)
def test_whatever_is_wrong_with_a_verdict_is_unsure_and_says_why(
    changes: dict[str, Any], reason: str
) -> None:
    verdict = told(opened(), seen(), **both(**changes))
    assert (verdict.outcome, verdict.opens) == ("unsure", False)
    assert reason in verdict.reason


def test_a_face_that_waits_too_long_times_out() -> None:
    old = face(age_ms=60_000)
    frame = seen(old, ms=60_000)
    waits = both(60_000, state="undecided", since_pts_ns=10_000 * MS)
    assert told(opened(), frame, **waits).reason == "antispoof: timeout"


# ---- age


@pytest.mark.parametrize(
    ("profile", "limit_ms"), [("convenience", 1000), ("balanced", 600), ("secure", 400)]
)
def test_a_stale_verdict_does_not_open(profile: Any, limit_ms: int) -> None:
    operator = opened(profile=profile)
    for age_ms, outcome in ((limit_ms, "live"), (limit_ms + 1, "unsure")):
        ms = NOW_MS - age_ms
        ports = {
            head: verdicts(said(head, ms, profile=profile), ms=ms)
            for head in ("antispoof", "mask3d")
        }
        verdict = told(operator, seen(), **ports)
        assert (verdict.outcome, verdict.age_ms) == (outcome, age_ms)
    assert "stale" in verdict.reason


def test_the_oldest_head_makes_the_age() -> None:
    ports = both(NOW_MS - 40) | {"mask3d": verdicts(said("mask3d", NOW_MS - 200), ms=NOW_MS - 200)}
    assert told(opened(), seen(), **ports).age_ms == 200


def test_live_an_old_verdict_is_not_made_fresh_by_pts_that_began_again() -> None:
    """Scored at pts 4.9 s in the source's former life, ten seconds ago by the clock."""
    frame = seen(captured_ms=90_000)
    past = {
        head: verdicts(said(head, NOW_MS - 100), ms=NOW_MS - 100, captured_ms=80_000)
        for head in ("antispoof", "mask3d")
    }
    assert told(opened("file"), frame, **past).outcome == "live", "a file has no clock"
    verdict = told(opened("live"), frame, **past)
    assert (verdict.outcome, verdict.age_ms) == ("unsure", 10_000)


def test_live_the_clock_makes_no_verdict_younger() -> None:
    frame = seen(captured_ms=1000)
    past = {
        head: verdicts(said(head, NOW_MS - 700), ms=NOW_MS - 700, captured_ms=999)
        for head in ("antispoof", "mask3d")
    }
    assert told(opened("live"), frame, **past).age_ms == 700


# ---- whose verdict it is


def test_evidence_from_before_the_track_is_somebody_elses() -> None:
    young = face(age_ms=1500)  # the evidence spans two seconds
    verdict = told(opened(), seen(young), **both())
    assert (verdict.outcome, verdict.opens) == ("unsure", False)
    assert "older than the track" in verdict.reason
    attack = both(state="attack", score=-3.0, llr=-3.9, since_pts_ns=(NOW_MS - 1600) * MS)
    assert told(opened(), seen(young), **attack).outcome == "unsure", "nor is it accused"


def test_a_verdict_of_another_epoch_is_not_listened_to() -> None:
    frame = seen(epoch=1)
    assert told(opened(), frame, **both()).reason == "antispoof: no report"
    fresh = {head: verdicts(said(head), epoch=1) for head in ("antispoof", "mask3d")}
    assert told(opened(), frame, **fresh).outcome == "live"


def test_after_a_break_only_what_was_captured_since_counts() -> None:
    operator = opened()
    before = both()
    assert told(operator, seen(), **before).outcome == "live"
    operator.reset("door")
    after = seen(ms=NOW_MS + 40)
    assert told(operator, after, **before).reason == "antispoof: no report"
    assert told(operator, after, **both(NOW_MS + 40)).outcome == "live"


def test_breaks_of_many_streams_are_not_kept_for_ever() -> None:
    operator = opened()
    operator.reset("never seen")
    for n in range(300):
        name = f"cam{n}"
        given_at = Stamp(name, n, Fraction(1, 1), n * 1_000_000_000, n)
        operator.process(Frame(PICTURE, VIDEO, given_at, ()), None, None)
        operator.reset(name)
    assert len(operator._breaks_ns) <= 61
    assert not operator._newest_ns


def test_synthetic_frames_open_nothing() -> None:
    verdict = told(opened(), seen(synthetic=True), **both())
    assert (verdict.outcome, verdict.opens) == ("unsure", False)
    assert "made or changed by a model" in verdict.reason


# ---- the frame


def test_the_picture_goes_on_as_it_is_with_a_verdict_per_track() -> None:
    frame = seen(face(1), face(2))
    made = opened().process(frame, **both())
    assert made.data is frame.data
    assert (made.caps, made.stamp) == (frame.caps, frame.stamp)
    assert made.of(Track) == frame.of(Track)
    assert [(v.track_id, v.outcome) for v in made.of(Verdict)] == [(1, "live"), (2, "unsure")]


def test_a_frame_without_faces_has_no_verdict() -> None:
    frame = Frame(PICTURE, VIDEO, stamp(NOW_MS), ())
    assert opened().process(frame, **both()).records == ()


def test_verdicts_that_come_with_the_frame_are_not_passed_on() -> None:
    forged = Verdict(1, "live", "", "trust me", 9.0, "balanced", 0.0, 99, 0, (), True)
    made = opened().process(seen(face(), forged), antispoof=None, mask3d=None)
    assert [verdict.outcome for verdict in made.of(Verdict)] == ["unsure"]


@pytest.mark.parametrize("outcome", ["spoof", "unsure"])
def test_a_record_that_opens_without_being_live_cannot_be_made(outcome: Any) -> None:
    with pytest.raises(ValueError, match="opens is True"):
        Verdict(1, outcome, "", "", None, "balanced", 0.0, 0, None, (), True)


def test_at_least_one_head_is_required() -> None:
    with pytest.raises(msgspec.ValidationError, match="length"):
        msgspec.convert({"required": []}, FaceDecisionConfig)


# ---- from the picture on

NOISE = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
GREY = np.ascontiguousarray(NOISE[..., 0])


def outcomes(picture: np.ndarray[Any, Any], **changes: Any) -> set[str]:
    """What is told within 1.6 s of a face on these pixels, by a head that calls all faces live."""
    encode = FaceEncode(FaceEncodeConfig(checkpoint=str(random_compact())))
    antispoof = AntiSpoof(PadConfig(checkpoint=str(certain_head(4.0))))
    decision = opened(required=("antispoof",))
    for operator in (encode, antispoof):
        operator.open(HarnessContext())
    plain = make_frame(picture)
    found: set[str] = set()
    for ms in range(0, 1600, 80):
        person = encoded_track(1, **({"age_ms": ms} | changes))
        frame = Frame(plain.data, plain.caps, stamp(ms), (person,))
        (judged,) = antispoof.process(encode.process(Batch((frame,)))).frames
        found.add(told(decision, frame, antispoof=judged).outcome)
    return found


def test_a_good_picture_of_a_face_becomes_live() -> None:
    assert outcomes(NOISE) == {"unsure", "live"}


@pytest.mark.parametrize(
    ("picture", "changes"),
    [
        (NOISE, {"box": (140.0, 100.0, 148.0, 108.0)}),
        (NOISE, {"points": tuple((x - 140, y) for x, y in FACE)}),
        (NOISE, {"points": tuple((x + 5000, y) for x, y in FACE)}),
        (NOISE, {"points": ((50.0, 50.0),) * 5}),
        (NOISE, {"points": ((float("nan"), 1.0),) * 5}),
        (NOISE, {"score": 0.0}),
        (NOISE, {"predicted": True}),
        (GREY, {}),
        (np.dstack([GREY] * 3), {}),
        (np.zeros((240, 320, 3), np.uint8), {}),
    ],
    ids=["8 px", "half outside", "empty crop", "no size", "nan", "no score", "guessed", "grey",
         "grey as rgb", "black"],
)  # fmt: skip
def test_a_picture_that_cannot_be_judged_never_opens(
    picture: np.ndarray[Any, Any], changes: dict[str, Any]
) -> None:
    assert outcomes(picture, **changes) == {"unsure"}


# ---- everything at once

STATUS = ("scored", "skipped", "refused_synthetic", "error", "no_checkpoint")
HEADS = st.fixed_dictionaries(
    {
        "status": st.sampled_from(STATUS),
        "state": st.sampled_from(("live", "attack", "undecided")),
        "score": st.floats(-5, 5) | st.just(float("nan")),
        "llr": st.floats(-5, 5) | st.just(float("nan")),
        "n_scored": st.integers(0, 30),
        "span_ns": st.integers(0, 4000).map(lambda ms: ms * MS),
        "scored_pts_ns": st.none() | st.integers(4000, 5200).map(lambda ms: ms * MS),
        "since_pts_ns": st.integers(0, 5000).map(lambda ms: ms * MS),
    }
)


@given(st.none() | HEADS, st.none() | HEADS)
def test_it_opens_only_for_two_heads_that_are_live_fresh_and_of_this_track(
    first: dict[str, Any] | None, second: dict[str, Any] | None
) -> None:
    ports = {
        head: None if fields is None else verdicts(said(head, **fields))
        for head, fields in (("antispoof", first), ("mask3d", second))
    }
    verdict = told(opened(), seen(), **ports)
    assert verdict.opens == (verdict.outcome == "live")
    if verdict.opens:
        for fields in (first, second):
            assert fields is not None
            assert fields["status"] in ("scored", "skipped")
            assert fields["state"] == "live"
            assert fields["score"] >= 0.25
            assert 0 <= NOW_MS * MS - fields["scored_pts_ns"] <= 600 * MS
            assert fields["scored_pts_ns"] - fields["span_ns"] >= (NOW_MS - 3001) * MS
