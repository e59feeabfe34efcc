"""Messages between workers: a version byte, a msgpack header, the pixels as a part of their own."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct, field

from engine.caps import Caps
from engine.errors import TransportError
from engine.frame import (
    Discontinuity,
    Frame,
    Signal,
    StreamEnd,
    Watermark,
    record_from_wire,
    record_to_wire,
)
from engine.spec import CAUSES
from engine.telemetry.stats import Histogram
from engine.timing import NANOSECONDS, Stamp, rescale_pts

VERSION = b"\x01"
MAX_HEADER_BYTES = 64 << 10
MAX_PAYLOAD_BYTES = 256 << 20
MAX_DIMENSIONS = 8
DTYPE_NAMES = (
    "uint8", "int8", "uint16", "int16", "int32", "int64", "float16", "float32", "float64", "bool",
)  # fmt: skip
DEVICE_DTYPE = "bfloat16"  # NumPy lacks it: it travels between devices alone
ITEM_BYTES = {name: np.dtype(name).itemsize for name in DTYPE_NAMES} | {DEVICE_DTYPE: 2}
_NAME_OF_DTYPE = {np.dtype(name): name for name in DTYPE_NAMES}
KNOWN_CAUSES = frozenset(CAUSES)
SLAB_NAME = re.compile(r"frameloom-[0-9]+-[0-9]+-[0-9]+")
CAPS_CACHED = 64
UNWRITABLE = (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError)
AGE_BINS = 1000  # a longer age than any clock can show
MAX_PTS_NS = 1 << 62  # 146 years: what leaves here must fit into 64 bits again
MAX_CLOCK_NS = 1 << 58  # 9 years since boot; the ages of a whole window still have a sum


class Hello(Struct, frozen=True, tag="hello", array_like=True):
    """A consumer introduces itself: this session begins, with that many credits."""

    edge: str
    session: str
    credits: int


class Ack(Struct, frozen=True, tag="ack", array_like=True):
    """What a consumer has done since its last ack."""

    edge: str
    session: str
    credits: int  # frames taken: as many more may be sent
    consumed: int  # net: frames re-booked to a drop cause count -1
    drops: dict[str, int]
    released: list[tuple[str, int, int]]  # slab, slot, generation
    age: Histogram
    malformed: int = 0
    closed: bool = False  # the end of the edge has been seen


class Slot(Struct, frozen=True, array_like=True):
    """Where the pixels lie."""

    slab: str
    index: int
    generation: int
    offset: int
    on_device: bool = False  # the slot tells where on a GPU the pixels lie


class WireStamp(Struct, frozen=True, array_like=True):
    """A stamp. On another host monotonic times mean nothing: `relative` ones count from now."""

    stream_id: str
    pts: int
    tick: tuple[int, int]
    capture_ns: int  # relative: the age
    seq: int
    epoch: int
    deadline_ns: int | None  # relative: the time left
    synthetic: bool
    trace: str | None
    relative: bool


class FrameHeader(Struct, frozen=True, tag="frame", array_like=True):
    """A frame without its pixels. `slot` is None where they follow as the next part."""

    edge: str
    session: str
    stamp: WireStamp
    caps: msgspec.Raw
    dtype: str
    shape: tuple[int, ...]
    slot: Slot | None
    records: list[tuple[str, bytes]] = field(default_factory=list)


class SignalHeader(Struct, frozen=True, tag="signal", array_like=True):
    """A signal, or with `signal` None: the edge is closed."""

    edge: str
    session: str
    signal: StreamEnd | Discontinuity | Watermark | None


ToConsumer = FrameHeader | SignalHeader
ToProducer = Hello | Ack

_encoder = msgspec.msgpack.Encoder()
_to_consumer = msgspec.msgpack.Decoder(ToConsumer)
_to_producer = msgspec.msgpack.Decoder(ToProducer)
_caps_decoder = msgspec.msgpack.Decoder(Caps)
_caps_to_wire: dict[Caps, msgspec.Raw] = {}
_caps_from_wire: dict[bytes, Caps] = {}


def encode(message: Struct) -> bytes:
    return VERSION + _encoder.encode(message)


def decode_to_consumer(data: bytes) -> FrameHeader | SignalHeader:
    """Raises TransportError for anything that is not such a message."""
    message: FrameHeader | SignalHeader = _decode(_to_consumer, data)
    return message


def decode_to_producer(data: bytes) -> Hello | Ack:
    """Raises TransportError for anything that is not such a message."""
    message: Hello | Ack = _decode(_to_producer, data)
    return message


def check_slot(slot: Slot) -> None:
    """TransportError unless it names a slab, and nothing else that can be opened."""
    if not SLAB_NAME.fullmatch(slot.slab):
        raise TransportError(f"not the name of a slab: {slot.slab!r}")


def _decode(decoder: msgspec.msgpack.Decoder[Any], data: bytes) -> Any:
    if len(data) > MAX_HEADER_BYTES:
        raise TransportError(f"a header of {len(data)} bytes; {MAX_HEADER_BYTES} are allowed")
    if data[:1] != VERSION:
        raise TransportError(f"wire version {data[:1]!r}; this is {VERSION!r}")
    try:
        return decoder.decode(memoryview(data)[1:])
    except (msgspec.DecodeError, ValueError, RecursionError) as error:  # text may be no UTF-8
        raise TransportError(f"not a message: {error}") from error


def frame_header(
    frame: Frame, edge: str, session: str, slot: Slot | None, relative_to_ns: int | None
) -> bytes:
    """The header of a frame. `relative_to_ns` is the time now for a link to another host."""
    if frame.nbytes > MAX_PAYLOAD_BYTES:
        raise TransportError(f"{frame.nbytes} bytes of pixels; {MAX_PAYLOAD_BYTES} are allowed")
    try:
        header = FrameHeader(
            edge=edge,
            session=session,
            stamp=_stamp_to_wire(frame.stamp, relative_to_ns),
            caps=_caps_raw(frame.caps),
            dtype=_dtype_name(frame.data, slot),
            shape=frame.data.shape,
            slot=slot,
            records=[record_to_wire(record) for record in frame.records],
        )
        data = encode(header)
    except UNWRITABLE as error:
        raise TransportError(f"frame of {frame.stamp.stream_id} cannot be sent: {error}") from error
    if len(data) > MAX_HEADER_BYTES:
        raise TransportError(
            f"frame {frame.stamp.seq} of {frame.stamp.stream_id}: {len(frame.records)} records"
            f" take {len(data)} bytes; a header may have {MAX_HEADER_BYTES}"
        )
    return data


def signal_header(signal: Signal | None, edge: str, session: str) -> bytes:
    """The header of a signal. What is no text in an error message is replaced."""
    if isinstance(signal, StreamEnd) and signal.error is not None:
        signal = StreamEnd(signal.stream_id, signal.error.encode(errors="replace").decode())
    try:
        return encode(SignalHeader(edge, session, signal))
    except UNWRITABLE as error:
        raise TransportError(f"{signal} cannot be sent: {error}") from error


def checked_nbytes(header: FrameHeader) -> int:
    """How many bytes of pixels the header promises; TransportError if it makes no sense."""
    if header.dtype not in ITEM_BYTES or len(header.shape) > MAX_DIMENSIONS:
        raise TransportError(f"array of {header.dtype} with {len(header.shape)} dimensions")
    if header.dtype == DEVICE_DTYPE and not (header.slot is not None and header.slot.on_device):
        raise TransportError(f"array of {header.dtype} outside of a device")
    if not all(0 <= size <= MAX_PAYLOAD_BYTES for size in header.shape):
        raise TransportError(f"array of shape {header.shape}")
    nbytes = math.prod(header.shape) * ITEM_BYTES[header.dtype]
    if nbytes > MAX_PAYLOAD_BYTES:
        raise TransportError(f"{nbytes} bytes of pixels; {MAX_PAYLOAD_BYTES} are allowed")
    return nbytes


def check_ack(ack: Ack, outstanding: int) -> None:
    """TransportError unless an ack settles frames that are out, each of them once."""
    settled = ack.consumed + sum(ack.drops.values())
    known = KNOWN_CAUSES.issuperset(ack.drops) and all(count >= 0 for count in ack.drops.values())
    if not (known and 0 <= ack.credits <= outstanding and settled == ack.credits):
        raise TransportError(
            f"an ack for {ack.credits} frames, {settled} accounted for; {outstanding} are out"
        )
    bins = ack.age.bins
    measured = sum(bins.values())
    sound = all(0 <= index < AGE_BINS and count > 0 for index, count in bins.items())
    if not (sound and measured == ack.age.count <= ack.credits):
        raise TransportError(f"an ack with {measured} ages for {ack.credits} frames")
    if ack.malformed < 0:
        raise TransportError(f"an ack with {ack.malformed} refused messages")


def read_frame(header: FrameHeader, array: Any, now_ns: int) -> Frame:
    """The frame that a header and its pixels make."""
    try:
        records = tuple(record_from_wire(name, payload) for name, payload in header.records)
        return Frame(array, _caps(bytes(header.caps)), _stamp(header.stamp, now_ns), records)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise TransportError(f"not a frame: {error}") from error


def mark_of(stamp: WireStamp) -> Watermark | None:
    """The watermark of a frame that cannot be used; None when its time makes no sense either."""
    try:
        pts_ns = _pts_ns(stamp)
    except ValueError:
        return None
    return Watermark(stamp.stream_id, stamp.seq, pts_ns)


def _dtype_name(data: Any, slot: Slot | None) -> str:
    on_device = slot is not None and slot.on_device
    name = data.dtype_name if on_device else _NAME_OF_DTYPE.get(data.dtype)
    if name not in ITEM_BYTES:
        raise TransportError(f"arrays of {data.dtype} do not travel; {', '.join(DTYPE_NAMES)} do")
    return str(name)


def _stamp_to_wire(stamp: Stamp, now_ns: int | None) -> WireStamp:
    capture_ns, deadline_ns = stamp.capture_ns, stamp.deadline_ns
    if now_ns is not None:
        capture_ns = now_ns - capture_ns
        deadline_ns = None if deadline_ns is None else deadline_ns - now_ns
    return WireStamp(
        stamp.stream_id, stamp.pts, (stamp.time_base.numerator, stamp.time_base.denominator),
        capture_ns, stamp.seq, stamp.epoch, deadline_ns, stamp.synthetic, stamp.trace,
        now_ns is not None,
    )  # fmt: skip


def _stamp(wire: WireStamp, now_ns: int) -> Stamp:
    _pts_ns(wire)
    capture_ns, deadline_ns = wire.capture_ns, wire.deadline_ns
    if wire.relative:
        capture_ns = now_ns - capture_ns
        deadline_ns = None if deadline_ns is None else now_ns + deadline_ns
    if max(abs(capture_ns), abs(deadline_ns or 0)) > MAX_CLOCK_NS:
        raise ValueError(f"captured at {capture_ns} ns, due at {deadline_ns} ns")
    return Stamp(
        wire.stream_id, wire.pts, Fraction(*wire.tick), capture_ns, wire.seq, wire.epoch,
        deadline_ns, wire.synthetic, wire.trace,
    )  # fmt: skip


def _pts_ns(wire: WireStamp) -> int:
    if min(wire.tick) <= 0:
        raise ValueError(f"a tick of {wire.tick[0]}/{wire.tick[1]} s")
    pts_ns = rescale_pts(wire.pts, Fraction(*wire.tick), NANOSECONDS)
    if abs(pts_ns) > MAX_PTS_NS:
        raise ValueError(f"a pts of {pts_ns} ns")
    return pts_ns


def _caps_raw(caps: Caps) -> msgspec.Raw:
    raw = _caps_to_wire.get(caps)
    if raw is None:
        if len(_caps_to_wire) >= CAPS_CACHED:
            _caps_to_wire.clear()
        raw = _caps_to_wire[caps] = msgspec.Raw(_encoder.encode(caps))
    return raw


def _caps(raw: bytes) -> Caps:
    caps = _caps_from_wire.get(raw)
    if caps is None:
        if len(_caps_from_wire) >= CAPS_CACHED:
            _caps_from_wire.clear()
        caps = _caps_from_wire[raw] = _caps_decoder.decode(raw)
    return caps
