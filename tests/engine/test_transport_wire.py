"""What goes over a socket: nothing that comes in is believed, nothing that is right is refused."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.caps import Caps
from engine.errors import TransportError
from engine.frame import Discontinuity, Frame, Record, StreamEnd, UnknownRecord, Watermark
from engine.timing import Stamp
from engine.transport import wire

NOW_NS = 10**15


class Tally(Record, frozen=True):
    """A record of this test."""

    count: int


def sample(*records: Record, **stamp: Any) -> Frame:
    made = Stamp("cam", 1, Fraction(1001, 30000), NOW_NS - 40, 1, 0, NOW_NS + 60)
    caps = Caps(media="video", pix_fmt="gray", dtype="uint8", width=4, height=2)
    return Frame(np.zeros((2, 4), np.uint8), caps, msgspec.structs.replace(made, **stamp), records)


def header_of(frame: Frame, relative_to_ns: int | None = None) -> wire.FrameHeader:
    header = wire.decode_to_consumer(wire.frame_header(frame, "e", "s", None, relative_to_ns))
    assert isinstance(header, wire.FrameHeader)
    return header


def through(frame: Frame, now_ns: int = NOW_NS, relative_to_ns: int | None = None) -> Frame:
    return wire.read_frame(header_of(frame, relative_to_ns), frame.data, now_ns)


SLOT = wire.Slot("frameloom-1-2-3", 0, 1, 4096)
MESSAGES = [
    wire.encode(wire.Hello("e", "s", 4)),
    wire.encode(
        wire.Ack("e", "s", 1, 1, {"late": 2}, [("frameloom-1-2-3", 0, 1)], wire.Histogram())
    ),
    wire.frame_header(sample(Tally(3)), "e", "s", None, NOW_NS),
    wire.frame_header(sample(), "e", "s", SLOT, None),
    wire.encode(wire.SignalHeader("e", "s", StreamEnd("cam", "why"))),
    wire.encode(wire.SignalHeader("e", "s", None)),
]


@given(st.sampled_from(MESSAGES), st.data())
def test_no_damage_raises_anything_else(message: bytes, data: st.DataObject) -> None:
    damaged = bytearray(message)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    for candidate in (bytes(damaged), bytes(damaged[:cut]), bytes(damaged) + bytes(damaged[cut:])):
        for decode in (wire.decode_to_consumer, wire.decode_to_producer):
            try:
                settle(decode, candidate)
            except TransportError:
                continue


def settle(decode: Callable[[bytes], Any], data: bytes) -> None:
    message = decode(data)
    if isinstance(message, wire.FrameHeader):
        wire.mark_of(message.stamp)
        assert wire.checked_nbytes(message) <= wire.MAX_PAYLOAD_BYTES
        if message.slot is not None:
            wire.check_slot(message.slot)
        wire.read_frame(message, np.zeros(1, np.uint8), NOW_NS)
    elif isinstance(message, wire.Ack):
        wire.check_ack(message, 8)


@given(st.binary(max_size=300))
def test_noise_is_refused(noise: bytes) -> None:
    for decode in (wire.decode_to_consumer, wire.decode_to_producer):
        with pytest.raises(TransportError):
            decode(wire.VERSION + noise)


def test_deep_nesting_is_refused() -> None:
    header = header_of(sample())
    deep = msgspec.structs.replace(header, caps=msgspec.Raw(b"\x91" * 20_000 + b"\x90"))
    with pytest.raises(TransportError):
        wire.read_frame(wire.decode_to_consumer(wire.encode(deep)), sample().data, NOW_NS)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "message",
    [
        wire.Hello("e", "s", 4),
        wire.SignalHeader("e", "s", Watermark("cam", 7, 9)),
        wire.SignalHeader("e", "s", Discontinuity("cam", "why")),
        wire.SignalHeader("e", "s", None),
    ],
)
def test_messages_survive_the_wire(message: Any) -> None:
    hello = isinstance(message, wire.Hello)
    decode: Callable[[bytes], Any] = wire.decode_to_producer if hello else wire.decode_to_consumer
    assert decode(wire.encode(message)) == message


def test_on_one_host_times_stay_as_they_are() -> None:
    assert through(sample(), now_ns=5).stamp == sample().stamp


def test_between_hosts_age_and_time_left_count() -> None:
    there_ns = 77_000
    came = through(sample(), now_ns=there_ns, relative_to_ns=NOW_NS).stamp
    assert (came.capture_ns, came.deadline_ns) == (there_ns - 40, there_ns + 60)
    assert came.time_base == Fraction(1001, 30000)
    endless = through(sample(deadline_ns=None), now_ns=there_ns, relative_to_ns=NOW_NS)
    assert endless.stamp.deadline_ns is None


def test_records_of_classes_unknown_here_pass_through() -> None:
    header = header_of(sample(Tally(3)))
    payload = msgspec.msgpack.encode({"x": 1})
    strange = msgspec.structs.replace(header, records=[*header.records, ("OfAnotherTeam", payload)])
    frame = wire.read_frame(strange, sample().data, NOW_NS)
    assert frame.records == (Tally(3), UnknownRecord("OfAnotherTeam", payload))
    assert through(frame).records == frame.records


def test_headers_are_bounded_on_both_sides() -> None:
    with pytest.raises(TransportError, match="9000 records"):
        wire.frame_header(sample(*[Tally(1)] * 9000), "e", "s", None, None)
    with pytest.raises(TransportError, match="65536 are allowed"):
        wire.decode_to_consumer(wire.VERSION + bytes(wire.MAX_HEADER_BYTES))


def test_what_cannot_travel_is_refused_at_the_sender(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = sample()
    with pytest.raises(TransportError, match="complex64"):
        wire.frame_header(frame.with_data(np.zeros(3, np.complex64)), "e", "s", None, None)
    monkeypatch.setattr(wire, "MAX_PAYLOAD_BYTES", 7)
    with pytest.raises(TransportError, match="8 bytes of pixels; 7 are allowed"):
        wire.frame_header(frame, "e", "s", None, None)


def test_another_version_is_named() -> None:
    with pytest.raises(TransportError, match=r"version b'\\x02'"):
        wire.decode_to_consumer(b"\x02" + MESSAGES[2][1:])


@pytest.mark.parametrize(
    "name", ["x", "frameloom-1-2", "frameloom-1-2-3/../x", "../frameloom-1-2-3", ""]
)
def test_only_slabs_can_be_named(name: str) -> None:
    wire.check_slot(SLOT)
    with pytest.raises(TransportError, match="not the name of a slab"):
        wire.check_slot(msgspec.structs.replace(SLOT, slab=name))


def test_caps_are_cached_but_not_without_bound() -> None:
    for width in range(3 * wire.CAPS_CACHED):
        caps = Caps(media="video", width=width)
        assert through(Frame(sample().data, caps, sample().stamp)).caps == caps
    assert len(wire._caps_to_wire) <= wire.CAPS_CACHED
    assert len(wire._caps_from_wire) <= wire.CAPS_CACHED
