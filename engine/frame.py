"""Frames and what else travels along an edge: pixels with stamp, caps and records; signals."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Struct

from engine.caps import Caps
from engine.timing import Stamp

T = TypeVar("T")
R = TypeVar("R", bound="Record")


class Record(Struct, frozen=True, gc=False):
    """Base of typed metadata on a frame. A subclass is known on the wire by its class name."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        known = RECORD_TYPES.setdefault(cls.__name__, cls)
        if known.__module__ != cls.__module__:
            message = f"record name {cls.__name__} is taken by {known.__module__}"
            raise TypeError(message)
        RECORD_TYPES[cls.__name__] = cls


RECORD_TYPES: dict[str, type[Record]] = {}


class UnknownRecord(Record, frozen=True):
    """A record whose class this worker has not imported: carried through as it came."""

    name: str
    payload: bytes  # msgpack


def record_to_wire(record: Record) -> tuple[str, bytes]:
    """(class name, msgpack)."""
    if isinstance(record, UnknownRecord):
        return record.name, record.payload
    return type(record).__name__, msgspec.msgpack.encode(record)


def record_from_wire(name: str, payload: bytes) -> Record:
    """The record, validated against its class; an unknown name is kept as it came."""
    kind = RECORD_TYPES.get(name)
    if kind is None or kind is UnknownRecord:
        return UnknownRecord(name, payload)
    return msgspec.msgpack.decode(payload, type=kind)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Frame:
    """One unit of media. Immutable: the array is read-only, changes make a new frame.

    `data` is a C-contiguous array whose layout follows from the caps: yuv420p [H*3/2, W] uint8,
    rgb24/bgr24 [H, W, 3] uint8, gray [H, W] uint8; a packet is [N] uint8; an event has size 0.
    """

    data: Any
    caps: Caps
    stamp: Stamp
    records: tuple[Record, ...] = ()

    def __post_init__(self) -> None:
        numpy = sys.modules.get("numpy")  # is there if there is an array; `--help` has none
        if numpy and isinstance(self.data, numpy.ndarray) and self.data.flags.writeable:
            view = self.data.view()
            view.flags.writeable = False
            object.__setattr__(self, "data", view)

    def __repr__(self) -> str:
        shape = getattr(self.data, "shape", None)
        return f"Frame({self.caps.describe()}, {shape=}, {self.stamp}, {len(self.records)} records)"

    @property
    def nbytes(self) -> int:
        return int(self.data.nbytes)

    def with_data(self, data: Any, caps: Caps | None = None) -> Frame:
        """The same moment with other pixels: stamp and records are kept."""
        return Frame(data, caps or self.caps, self.stamp, self.records)

    def with_records(self, *records: Record) -> Frame:
        """The same frame with these records added."""
        return Frame(self.data, self.caps, self.stamp, (*self.records, *records))

    def without_records(self, kind: type[Record]) -> Frame:
        """The same frame without the records of one class."""
        kept = tuple(record for record in self.records if not isinstance(record, kind))
        return Frame(self.data, self.caps, self.stamp, kept)

    def of(self, kind: type[R]) -> list[R]:
        """The records of one class, in order."""
        return [record for record in self.records if isinstance(record, kind)]


@dataclass(frozen=True, slots=True)
class Batch(Generic[T]):
    """An input port's way to say: up to N items at once, across streams, in arrival order."""

    frames: tuple[T, ...]

    def __len__(self) -> int:
        return len(self.frames)

    def map(self, function: Callable[[T], T]) -> Batch[T]:
        """One output per input, in order: stamps and routing survive."""
        return Batch(tuple(function(item) for item in self.frames))

    def of(self, frames: Iterable[T]) -> Batch[T]:
        """As many outputs as inputs, in order."""
        made = Batch(tuple(frames))
        if len(made) != len(self):
            message = f"a batch of {len(self)} frames must give {len(self)} frames, not {len(made)}"
            raise ValueError(message)
        return made


@dataclass(slots=True)
class Latest(Generic[T]):
    """An input port's way to say: the last value will do; `None` until the first came."""

    value: T | None = field(default=None)


class StreamEnd(Struct, frozen=True, tag="end", gc=False):
    """Nothing more comes of this stream. `error` is set when it ended badly."""

    stream_id: str
    error: str | None = None


class Discontinuity(Struct, frozen=True, tag="discontinuity", gc=False):
    """The stream broke off and goes on: reconnect, restart of a worker. Forget temporal state."""

    stream_id: str
    cause: str


class Watermark(Struct, frozen=True, tag="watermark", gc=False):
    """Nothing of this place in the stream or an older one will come any more on this edge.

    A place is a seq, and among the frames that share it (see `Stamp`) a pts.
    """

    stream_id: str
    seq: int
    pts_ns: int


Signal = StreamEnd | Discontinuity | Watermark
Item = Frame | StreamEnd | Discontinuity | Watermark
