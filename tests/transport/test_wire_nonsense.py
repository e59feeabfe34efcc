"""Well-formed messages that make no sense are refused, with TransportError and nothing else."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.errors import TransportError
from engine.frame import Frame
from engine.telemetry.stats import Histogram
from engine.transport import wire
from engine.transport.link import watermark_of
from tests.contract.ends import EDGE, START_NS, frame

SESSION = "0011223344556677"
SLOT = wire.Slot("frameloom-1-2-3", 1, 5, 4096)
GOOD = wire.frame_header(frame(1), EDGE.id, SESSION, SLOT, None)

JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text()
    | st.binary() | st.sampled_from(["frame", "signal", "hello", "ack", EDGE.id, SESSION, "uint8"]),
    lambda inner: st.lists(inner, max_size=12) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=30,
)  # fmt: skip


def frame_message() -> wire.FrameHeader:
    header = wire.decode_to_consumer(GOOD)
    assert isinstance(header, wire.FrameHeader)
    return header


FIELDS = list(msgspec.msgpack.decode(GOOD[1:]))


@pytest.mark.parametrize("name", wire.DTYPE_NAMES)
def test_every_dtype_that_may_travel_has_its_size(name: str) -> None:
    header = msgspec.structs.replace(frame_message(), dtype=name, shape=(3, 5))

    assert wire.checked_nbytes(header) == np.empty((3, 5), name).nbytes


@pytest.mark.parametrize("name", ["object", "O", "float128", "<u2", "complex64", ""])
def test_no_other_dtype_travels(name: str) -> None:
    with pytest.raises(TransportError, match="array of"):
        wire.checked_nbytes(msgspec.structs.replace(frame_message(), dtype=name))


@pytest.mark.parametrize("shape", [(-1,), (2**40,), (2**20, 2**20), (0, 2**60), (1,) * 9])
def test_no_impossible_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(TransportError):
        wire.checked_nbytes(msgspec.structs.replace(frame_message(), shape=shape))


def test_a_frame_too_large_for_the_wire_is_refused_where_it_is() -> None:
    row = np.broadcast_to(np.uint8(0), (wire.MAX_PAYLOAD_BYTES + 1,))  # takes no memory

    with pytest.raises(TransportError, match="are allowed"):
        wire.frame_header(Frame(row, frame(0).caps, frame(0).stamp), "e", "s", None, None)


@pytest.mark.parametrize("tick", [(0, 1), (1, 0), (-1, 30), (1, -30), (-1, -30)])
def test_time_runs_forward_in_ticks_of_some_length(tick: tuple[int, int]) -> None:
    header = frame_message()
    stamp = msgspec.structs.replace(header.stamp, tick=tick)

    with pytest.raises(TransportError, match="a tick of"):
        wire.read_frame(msgspec.structs.replace(header, stamp=stamp), np.zeros(64), START_NS)
    assert wire.mark_of(stamp) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"pts": 2**62, "tick": (2**40, 1)},
        {"pts": -(2**62), "tick": (2**40, 1)},
        {"capture_ns": 2**60},
        {"capture_ns": 2**64 - 1, "relative": True},
        {"deadline_ns": -(2**60)},
        {"deadline_ns": 2**64 - 1, "relative": True},
    ],
)
def test_times_too_large_to_be_sent_on_are_refused(changes: dict[str, Any]) -> None:
    header = frame_message()
    stamp = msgspec.structs.replace(header.stamp, **changes)

    with pytest.raises(TransportError, match="not a frame"):
        wire.read_frame(msgspec.structs.replace(header, stamp=stamp), np.zeros(64), START_NS)
    assert (wire.mark_of(stamp) is None) == ("pts" in changes)


@pytest.mark.parametrize("length", range(len(GOOD)))
def test_a_truncated_message_is_refused(length: int) -> None:
    with pytest.raises(TransportError):
        wire.decode_to_consumer(GOOD[:length])


@given(JUNK)
def test_random_structures_never_do_more_than_be_refused(junk: Any) -> None:
    _read(wire.VERSION + msgspec.msgpack.encode(junk))


@given(st.integers(1, len(FIELDS) - 1), JUNK)
def test_a_frame_with_one_field_wrong_never_does_more_than_be_refused(at: int, junk: Any) -> None:
    fields = [*FIELDS[:at], junk, *FIELDS[at + 1 :]]

    _read(wire.VERSION + msgspec.msgpack.encode(fields))


@given(st.integers(0, len(FIELDS[3]) - 1), JUNK)
@example(at=1, junk=2**64 - 1)
def test_a_stamp_with_one_field_wrong_never_does_more_than_be_refused(at: int, junk: Any) -> None:
    stamp = [*FIELDS[3][:at], junk, *FIELDS[3][at + 1 :]]
    fields = [*FIELDS[:3], stamp, *FIELDS[4:]]

    _read(wire.VERSION + msgspec.msgpack.encode(fields))


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_a_flipped_byte_never_does_more_than_be_refused(at: int, value: int) -> None:
    _read(GOOD[:at] + bytes([value]) + GOOD[at + 1 :])


@given(st.integers(-3, 5), st.integers(-3, 5), st.dictionaries(st.text(), st.integers(-3, 5)))
def test_an_ack_settles_only_what_is_out(credit: int, consumed: int, drops: dict[str, int]) -> None:
    ack = wire.Ack(EDGE.id, SESSION, credit, consumed, drops, [], Histogram())
    try:
        wire.check_ack(ack, outstanding=3)
    except TransportError:
        return
    assert 0 <= credit <= 3
    assert consumed + sum(drops.values()) == credit
    assert wire.KNOWN_CAUSES.issuperset(drops)


@pytest.mark.parametrize(
    "age",
    [
        Histogram({10**6: 1}, 1, 5),  # later, a percentile would overflow
        Histogram({-1: 1}, 1, 5),
        Histogram({wire.AGE_BINS: 1}, 1, 5),
        Histogram({5: -1, 6: 2}, 1, 5),
        Histogram({5: 1, 6: 0}, 1, 5),
        Histogram({5: 1}, 2, 5),
        Histogram({}, 1, 5),
        Histogram({5: 3}, 3, 5),  # of more frames than are settled
    ],
)
def test_ages_that_cannot_be_are_refused(age: Histogram) -> None:
    with pytest.raises(TransportError, match="ages"):
        wire.check_ack(wire.Ack(EDGE.id, SESSION, 2, 2, {}, [], age), outstanding=3)


def test_a_count_of_refused_messages_does_not_fall() -> None:
    ack = wire.Ack(EDGE.id, SESSION, 0, 0, {}, [], Histogram(), malformed=-1)

    with pytest.raises(TransportError, match="refused"):
        wire.check_ack(ack, outstanding=0)


@pytest.mark.parametrize("age_ns", [-5, 0, 1, 40_000_000, 2**63 - 1])
def test_every_age_that_a_clock_can_show_is_accepted(age_ns: int) -> None:
    age = Histogram()
    age.add(age_ns)

    wire.check_ack(wire.Ack(EDGE.id, SESSION, 1, 0, {"late": 1}, [], age), outstanding=1)


def _read(data: bytes) -> None:
    """What a consumer and a producer do with a message. Nothing but TransportError may come out."""
    try:
        wire.decode_to_producer(data)
    except TransportError:
        pass
    else:
        return
    try:
        header = wire.decode_to_consumer(data)
        if not isinstance(header, wire.FrameHeader):
            return
        if header.slot is not None:
            wire.check_slot(header.slot)
        wire.checked_nbytes(header)
        array = np.zeros(8, np.uint8)
        read = wire.read_frame(header, array, START_NS)
    except TransportError:
        return
    mark = wire.mark_of(header.stamp)
    assert mark == watermark_of(read)
    for message in (header, wire.SignalHeader(EDGE.id, SESSION, mark)):
        assert wire.decode_to_consumer(wire.encode(message))
    assert wire.frame_header(read, EDGE.id, SESSION, None, 2 * START_NS), "it may be sent on"
