"""FlatBuffers, read only: tables whose fields are found by their number in the schema.

Source: the FlatBuffers wire format (flatbuffers.dev, "Internals"). A table begins with the signed
distance back to its vtable, which lists where each field lies in the table; 0 means left out.
Everything that holds more than a number lies elsewhere, by a distance forward. Whoever reads a
file that ends too early or leads out of itself gets a ModelFileError.
"""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

from operators.nn.static_graph import ModelFileError

_FORWARD = "<I"


def root_table(data: bytes, identifier: bytes) -> Table:
    """The outermost table of a file with that identifier (4 bytes behind the first distance)."""
    if data[4:8] != identifier:
        told = f"identifier {data[4:8]!r}, not {identifier!r}"
        raise ModelFileError(f"{len(data)} bytes with {told}: another format, or damaged")
    return Table(data, _unpack(data, _FORWARD, 0))


class Table:
    """One table of the file. Fields are counted from 0, in the order of the schema."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at
        self._vtable = at - _unpack(data, "<i", at)
        self._vtable_bytes = _unpack(data, "<H", self._vtable)

    def number(self, field: int, kind: str, default: int = 0) -> int:
        """`kind` is a format of `struct`; `default` is the schema's."""
        at = self._place(field)
        return _unpack(self._data, f"<{kind}", at) if at else default

    def table(self, field: int) -> Table | None:
        """None where the file leaves it out."""
        at = self._place(field)
        return Table(self._data, at + _unpack(self._data, _FORWARD, at)) if at else None

    def tables(self, field: int) -> list[Table]:
        """A vector of tables; empty where it is left out."""
        start, count = self._vector(field, 4)
        places = range(start, start + 4 * count, 4)
        return [Table(self._data, at + _unpack(self._data, _FORWARD, at)) for at in places]

    def array(self, field: int, dtype: npt.DTypeLike) -> npt.NDArray[np.generic]:
        """A vector of numbers, not copied; empty where it is left out."""
        kind = np.dtype(dtype).newbyteorder("<")
        start, count = self._vector(field, kind.itemsize)
        return np.frombuffer(self._data, kind, count, start)

    def integers(self, field: int) -> tuple[int, ...]:
        """A vector of 32-bit integers."""
        return tuple(self.array(field, np.int32).tolist())

    def text(self, field: int) -> str:
        """A string; what is no UTF-8 is replaced, for names are only told."""
        return self.array(field, np.uint8).tobytes().decode("utf-8", "replace")

    def _place(self, field: int) -> int:
        entry = 4 + 2 * field
        if entry + 2 > self._vtable_bytes:
            return 0
        inside = _unpack(self._data, "<H", self._vtable + entry)
        return self._at + inside if inside else 0

    def _vector(self, field: int, item_bytes: int) -> tuple[int, int]:
        at = self._place(field)
        if not at:
            return 0, 0
        at += _unpack(self._data, _FORWARD, at)
        count = _unpack(self._data, _FORWARD, at)
        if at + 4 + count * item_bytes > len(self._data):
            raise ModelFileError(_ENDS.format(len(self._data), at + 4 + count * item_bytes))
        return at + 4, count


_ENDS = "the file has {} bytes and leads to byte {}: it was cut off, or damaged"


def _unpack(data: bytes, kind: str, at: int) -> int:
    if at < 0 or at + struct.calcsize(kind) > len(data):
        raise ModelFileError(_ENDS.format(len(data), at))
    return int(struct.unpack_from(kind, data, at)[0])
