"""Protocol buffers, read only: a message as a list of values per field number.

Source: the wire format of protobuf (protobuf.dev, "Encoding"). A field is a key (number and kind)
and a value: a varint, 4 or 8 bytes, or a length with as many bytes: text, numbers packed together,
or a message again. Whoever reads what ends too early gets a ModelFileError.
"""

from __future__ import annotations

import struct

from operators.nn.static_graph import ModelFileError

_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5
_VARINT_BITS = 64


class Message:
    """One message; fields by the number of its definition."""

    def __init__(self, data: bytes) -> None:
        self._fields: dict[int, list[int | bytes]] = {}
        at = 0
        while at < len(data):
            key, at = _varint(data, at)
            value, at = _value(data, at, key & 7)
            self._fields.setdefault(key >> 3, []).append(value)

    def messages(self, field: int) -> list[Message]:
        """A repeated message, or one that there may be."""
        return [Message(part) for part in self.blobs(field)]

    def blobs(self, field: int) -> list[bytes]:
        """Strings of bytes, packed numbers, floats as their 4 bytes."""
        return [part for part in self._fields.get(field, []) if isinstance(part, bytes)]

    def texts(self, field: int) -> list[str]:
        """Strings; what is no UTF-8 is replaced."""
        return [part.decode("utf-8", "replace") for part in self.blobs(field)]

    def text(self, field: int) -> str:
        """The last of them, as the format wants it; empty where it is left out."""
        return (self.texts(field) or [""])[-1]

    def integer(self, field: int, default: int = 0) -> int:
        """A varint, or the default where it is left out."""
        return (self.integers(field) or (default,))[-1]

    def integers(self, field: int) -> tuple[int, ...]:
        """Signed numbers, packed or one by one."""
        found: list[int] = []
        for part in self._fields.get(field, []):
            if isinstance(part, int):
                found.append(part)
                continue
            at = 0
            while at < len(part):
                value, at = _varint(part, at)
                found.append(value)
        return tuple(value - 2**64 if value >= 2**63 else value for value in found)

    def float32(self, field: int, default: float) -> float:
        """A number in single precision."""
        parts = self.blobs(field)
        if parts and len(parts[-1]) != 4:
            raise ModelFileError(f"field {field} is no number in single precision")
        return float(struct.unpack("<f", parts[-1])[0]) if parts else default


def _value(data: bytes, at: int, kind: int) -> tuple[int | bytes, int]:
    if kind == _VARINT:
        return _varint(data, at)
    if kind == _BYTES:
        length, at = _varint(data, at)
    elif kind in (_FOUR, _EIGHT):
        length = 4 if kind == _FOUR else 8
    else:
        raise ModelFileError(f"a field of wire type {kind}: another format, or damaged")
    if at + length > len(data):
        raise ModelFileError(f"{length} bytes are told, {len(data) - at} are there: cut off")
    return data[at : at + length], at + length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Seven bits a byte, the lowest first; the eighth says that more come."""
    value = 0
    for shift in range(0, _VARINT_BITS, 7):
        if at >= len(data):
            raise ModelFileError("the file ends inside a number: cut off")
        byte, at = data[at], at + 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ModelFileError("a number of more than 64 bits: another format, or damaged")
