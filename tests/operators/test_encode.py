"""Faces to features: which, when, and what is said of those that are not encoded."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import Batch, CapsError, Frame, OperatorError, Stamp
from engine.testing import HarnessContext, make_frame
from operators.face.encode import EncodedFace, FaceEncode, FaceEncodeConfig
from operators.face.records import Track
from tests.operators.models import DIM, random_compact

FACE = ((120.0, 90.0), (170.0, 90.0), (145.0, 115.0), (125.0, 140.0), (165.0, 140.0))


def track(track_id: int, **changes: Any) -> Track:
    fields: dict[str, Any] = {
        "track_id": track_id, "box": (95.0, 60.0, 195.0, 170.0), "score": 0.9, "points": FACE,
        "hits": 5, "age_ms": 200, "predicted": False,
    }  # fmt: skip
    return Track(**(fields | changes))


def frame(*tracks: Track, ms: int = 0, stream: str = "cam", synthetic: bool = False) -> Frame:
    noise = np.random.default_rng(ms).integers(0, 255, (240, 320, 3), np.uint8)
    stamp = Stamp(stream, ms, Fraction(1, 1000), 0, ms, synthetic=synthetic)
    made = make_frame(noise)
    return Frame(made.data, made.caps, stamp, tracks)


@pytest.fixture
def encode() -> FaceEncode:
    operator = FaceEncode(FaceEncodeConfig(checkpoint=str(random_compact()), max_faces=2))
    operator.open(HarnessContext())
    return operator


def told(made: Frame) -> list[tuple[int, int, str]]:
    return [(face.track_id, face.row, face.reason) for face in made.of(EncodedFace)]


def test_features_come_with_the_stamp_and_say_whose_they_are(encode: FaceEncode) -> None:
    seen = frame(track(7))
    (made,) = encode.process(Batch((seen,))).frames
    assert made.stamp == seen.stamp
    assert made.data.shape == (1, 1 + 4, DIM)
    assert made.data.dtype == np.float16
    assert np.isfinite(made.data).all()
    assert told(made) == [(7, 0, "")]
    (face,) = made.of(EncodedFace)
    assert 0 < face.quality <= 1
    assert len(face.backbone_sha) == 64


def test_new_tracks_go_first_and_the_others_wait_their_turn(encode: FaceEncode) -> None:
    rounds = []
    for ms in (0, 40, 80, 120, 160, 200):
        (made,) = encode.process(Batch((frame(*map(track, (1, 2, 3)), ms=ms),))).frames
        rounds.append([face.track_id for face in made.of(EncodedFace) if face.row >= 0])
    assert len(rounds[0]) == 2
    assert set(rounds[0] + rounds[1]) == {1, 2, 3}, "the third one at the next chance"
    counts = [sum(number in chosen for chosen in rounds) for number in (1, 2, 3)]
    assert min(counts) >= 2


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"box": (0.0, 0.0, 8.0, 8.0)}, "TOO_SMALL"),
        ({"predicted": True}, "NOT_SEEN"),
        ({"lost": True}, "NOT_SEEN"),
        ({"points": ()}, "NO_POINTS"),
        ({"points": ((5.0, 5.0),) * 5}, "NO_POINTS"),
        ({"points": tuple((x - 140, y) for x, y in FACE)}, "OUTSIDE"),
    ],
)
def test_faces_that_cannot_be_judged_are_told_never_encoded(
    encode: FaceEncode, changes: dict[str, Any], reason: str
) -> None:
    (made,) = encode.process(Batch((frame(track(1, **changes)),))).frames
    assert told(made) == [(1, -1, reason)]
    assert made.data.shape[0] == 0


def test_synthetic_frames_are_refused(encode: FaceEncode) -> None:
    (made,) = encode.process(Batch((frame(track(1), synthetic=True),))).frames
    assert told(made) == [(1, -1, "SYNTHETIC")]


@pytest.mark.parametrize("grey", ["gray", "rgb24", "dark"])
def test_pictures_without_colour_are_not_judged(encode: FaceEncode, grey: str) -> None:
    noise = np.random.default_rng(0).integers(0, 2 if grey == "dark" else 255, (240, 320), np.uint8)
    plain = make_frame(noise if grey == "gray" else np.dstack([noise] * 3))
    seen = Frame(plain.data, plain.caps, frame().stamp, (track(1),))
    (made,) = encode.process(Batch((seen,))).frames
    assert told(made) == [(1, -1, "NO_COLOUR")]
    assert made.data.shape[0] == 0


def test_frames_of_16_bits_are_refused(encode: FaceEncode) -> None:
    deep = make_frame(np.zeros((240, 320, 3), np.uint16))
    seen = Frame(deep.data, deep.caps, frame().stamp, (track(1),))
    with pytest.raises(CapsError, match="8-bit frames, these are uint16"):
        encode.process(Batch((seen,)))


@pytest.mark.parametrize(("mode", "rows"), [("file", [1, 1, 1]), ("live", [0, 0, 1])])
def test_live_the_frames_of_a_batch_share_a_turn_and_the_newest_is_taken(
    mode: Any, rows: list[int]
) -> None:
    operator = FaceEncode(FaceEncodeConfig(checkpoint=str(random_compact()), every_ms=40))
    operator.open(HarnessContext(mode=mode))
    frames = tuple(frame(track(1), ms=ms) for ms in (0, 40, 80))
    assert [len(made.data) for made in operator.process(Batch(frames)).frames] == rows


def test_a_batch_over_streams_is_the_same_as_one_by_one() -> None:
    frames = [frame(track(1), ms=1, stream="a"), frame(track(1), ms=2, stream="b"), frame(ms=3)]
    together = opened().process(Batch(tuple(frames))).frames
    alone = [opened().process(Batch((one,))).frames[0] for one in frames]
    for mine, other in zip(together, alone, strict=True):
        assert told(mine) == told(other)
        np.testing.assert_allclose(mine.data, other.data, rtol=2e-2, atol=2e-3)


def opened() -> FaceEncode:
    operator = FaceEncode(FaceEncodeConfig(checkpoint=str(random_compact())))
    operator.open(HarnessContext())
    return operator


@pytest.mark.parametrize(("content", "code"), [(None, "NO_CHECKPOINT"), (b"x", "BAD_CHECKPOINT")])
def test_a_checkpoint_that_does_not_do_is_named(
    content: bytes | None, code: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    if content is not None:
        path.write_bytes(content)
    operator = FaceEncode(FaceEncodeConfig(checkpoint=str(path)))
    with pytest.raises(OperatorError, match=str(path)) as caught:
        operator.open(HarnessContext())
    assert caught.value.code == code
