"""Frames are immutable; records survive the wire; batches keep their length."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import msgspec
import numpy as np
import pytest

from engine.caps import Caps
from engine.frame import (
    RECORD_TYPES,
    Batch,
    Discontinuity,
    Latest,
    Record,
    StreamEnd,
    UnknownRecord,
    Watermark,
    record_from_wire,
    record_to_wire,
)
from engine.testing import make_frame


class Spot(Record, frozen=True):
    x: float
    label: str = ""


class Mark(Record, frozen=True):
    score: float


def test_pixels_cannot_be_written_through_a_frame() -> None:
    pixels = np.zeros((2, 3, 3), np.uint8)
    frame = make_frame(pixels)
    with pytest.raises(ValueError, match="read-only"):
        frame.data[0, 0, 0] = 1
    assert pixels.flags.writeable  # the owner's own array is left as it was
    assert np.shares_memory(frame.data, pixels)
    assert frame.nbytes == 18


def test_fields_cannot_be_assigned() -> None:
    frame = make_frame(np.zeros((2, 2), np.uint8))
    with pytest.raises(dataclasses.FrozenInstanceError):
        frame.data = None  # type: ignore[misc]


def test_with_data_keeps_the_moment_and_the_records() -> None:
    frame = make_frame(np.zeros((2, 2), np.uint8), seq=4).with_records(Spot(1.0))
    caps = Caps(media="video", pix_fmt="gray", width=1, height=1)
    changed = frame.with_data(np.ones((1, 1), np.uint8), caps)
    assert (changed.stamp, changed.records, changed.caps) == (frame.stamp, frame.records, caps)
    assert frame.with_data(frame.data).caps == frame.caps
    assert int(frame.data[0, 0]) == 0


def test_records_are_added_picked_and_taken_away_in_order() -> None:
    frame = make_frame(np.zeros((2, 2), np.uint8))
    marked = frame.with_records(Spot(1.0)).with_records(Mark(0.5), Spot(2.0))
    assert marked.of(Spot) == [Spot(1.0), Spot(2.0)]
    assert marked.without_records(Spot).records == (Mark(0.5),)
    assert frame.records == ()


def test_a_record_survives_the_wire() -> None:
    name, payload = record_to_wire(Spot(1.5, "nose"))
    assert name == "Spot"
    assert record_from_wire(name, payload) == Spot(1.5, "nose")


def test_an_unknown_record_is_carried_through_as_it_came() -> None:
    came = record_from_wire("Elsewhere", b"\x80")
    assert came == UnknownRecord("Elsewhere", b"\x80")
    assert record_to_wire(came) == ("Elsewhere", b"\x80")


def test_a_wrong_payload_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        record_from_wire("Spot", msgspec.msgpack.encode({"x": "left"}))
    with pytest.raises(msgspec.DecodeError):
        record_from_wire("Spot", b"\xc1")


def test_a_record_name_belongs_to_one_module() -> None:
    with pytest.raises(TypeError, match="record name Spot is taken by"):
        type(Record)("Spot", (Record,), {"__module__": "elsewhere"}, frozen=True)
    assert RECORD_TYPES["Spot"] is Spot


def test_a_batch_gives_as_many_as_it_got() -> None:
    frames = tuple(make_frame(np.full((1, 1), n, np.uint8), seq=n) for n in range(3))
    batch = Batch(frames)
    assert len(batch) == 3
    doubled = batch.map(lambda frame: frame.with_data(frame.data * 2))
    assert [int(frame.data[0, 0]) for frame in doubled.frames] == [0, 2, 4]
    assert batch.of(frames) == batch
    with pytest.raises(ValueError, match="a batch of 3 frames must give 3 frames, not 2"):
        batch.of(frames[:2])


def test_latest_is_empty_until_something_came() -> None:
    assert Latest[int]().value is None
    assert Latest(3).value == 3


def test_signals_are_told_apart_on_the_wire() -> None:
    signals = [
        StreamEnd("cam", "lost"),
        Discontinuity("cam", "reconnect"),
        Watermark("cam", 3, 100_000_000),
    ]
    decoder = msgspec.msgpack.Decoder(StreamEnd | Discontinuity | Watermark)
    assert [decoder.decode(msgspec.msgpack.encode(signal)) for signal in signals] == signals


def test_a_representation_shows_shape_and_stamp_not_pixels() -> None:
    text = repr(make_frame(np.zeros((2, 3, 3), np.uint8)))
    assert "rgb24" in text
    assert "shape=(2, 3, 3)" in text
    assert str(Fraction(1, 30)) in text.replace("Fraction(1, 30)", "1/30")
