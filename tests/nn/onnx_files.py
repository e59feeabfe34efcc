"""Small ONNX files, written by hand: there is no package here that writes them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

KINDS = {"float32": 1, "int8": 3, "int64": 7, "float16": 10}


def varint(value: int) -> bytes:
    value &= 2**64 - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: Any) -> bytes:
    """A field of a message: int, float, text, bytes (a message too), or several of them."""
    if isinstance(value, list):
        return b"".join(field(number, part) for part in value)
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def message(fields: dict[int, Any]) -> bytes:
    return b"".join(field(number, value) for number, value in fields.items())


def tensor(name: str, values: np.ndarray, *, raw: bool = True) -> bytes:
    """A constant; `raw=False` puts single precision into the field made for it."""
    content = values.tobytes()
    place = {9: content} if raw else {4: content}
    kind = KINDS[values.dtype.name]
    return message({1: list(values.shape), 2: kind, 8: name, **place})


def attribute(name: str, value: float | str | Sequence[int]) -> bytes:
    if isinstance(value, str):
        return message({1: name, 4: value, 20: 3})
    if isinstance(value, int):
        return message({1: name, 3: value, 20: 2})
    if isinstance(value, float):
        return message({1: name, 2: value, 20: 1})
    return message({1: name, 8: list(value), 20: 7})


def node(
    operator: str, reads: Sequence[str], writes: Sequence[str], domain: str = "", **given: Any
) -> bytes:
    attributes = [attribute(name, value) for name, value in given.items()]
    fields = {1: list(reads), 2: list(writes), 4: operator, 5: attributes}
    return message({**fields, 7: domain} if domain else fields)


def value_info(name: str, sides: Sequence[int | str], kind: int = 1) -> bytes:
    dims = [message({1: side} if isinstance(side, int) else {2: side}) for side in sides]
    return message({1: name, 2: message({1: message({1: kind, 2: message({1: dims})})})})


def file(
    nodes: Sequence[bytes],
    constants: Sequence[bytes] = (),
    *,
    sides: Sequence[int | str] = (1, 2, "h", "w"),
    kind: int = 1,
    opset: int = 13,
) -> bytes:
    """A network from "x", of those sides, to "y"."""
    graph = message(
        {
            1: list(nodes),
            2: "test",
            5: list(constants),
            11: value_info("x", sides, kind),
            12: value_info("y", ["n", "c", "i", "j"]),
        }
    )
    return message({1: 8, 7: graph, 8: message({1: "", 2: opset})})
