"""The messages of an ONNX file that a network needs: operators, constants, inputs, outputs.

Source: onnx/onnx.proto3; the numbers are those of its fields.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch

from operators.nn.onnxnet.wire import Message
from operators.nn.static_graph import Entry, ModelFileError

OPSET = 13  # the operators used here mean the same since 7 to 13 and get other forms after
FLOAT, INT8, INT64, FLOAT16 = 1, 3, 7, 10
DTYPES = {FLOAT: np.float32, INT8: np.int8, INT64: np.int64, FLOAT16: np.float16}
_FLOAT_ATTRIBUTE, _INT, _TEXT, _INTS = 1, 2, 3, 7

Attribute = float | int | str | tuple[int, ...]


class Call(NamedTuple):
    """One use of an operator."""

    operator: str
    reads: tuple[str, ...]  # empty text: left out
    writes: tuple[str, ...]
    attributes: dict[str, Attribute]


class Model(NamedTuple):
    """The file's graph."""

    calls: list[Call]
    constants: dict[str, torch.Tensor]
    inputs: list[Entry]
    outputs: list[str]


def read_model(data: bytes) -> Model:
    """ModelFileError for a file that is no ONNX of opset 13, or is cut off."""
    root = Message(data)
    graphs = root.messages(7)
    if len(graphs) != 1:
        raise ModelFileError(f"{len(data)} bytes without a graph: no ONNX file, or cut off")
    versions = {part.text(1): part.integer(2) for part in root.messages(8)}
    if versions.get("", versions.get("ai.onnx")) != OPSET:
        raise ModelFileError(f"operator sets {versions}; version {OPSET} can be read")
    graph = graphs[0]
    constants = dict(_constant(part) for part in graph.messages(5))
    given = [part for part in graph.messages(11) if part.text(1) not in constants]
    outputs = [part.text(1) for part in graph.messages(12)]
    return Model(
        [_call(part) for part in graph.messages(1)], constants, [_entry(p) for p in given], outputs
    )


def _call(node: Message) -> Call:
    domain, name = node.text(7), node.text(4)
    operator = name if domain in ("", "ai.onnx") else f"{domain}.{name}"
    attributes = dict(_attribute(part) for part in node.messages(5))
    return Call(operator, tuple(node.texts(1)), tuple(node.texts(2)), attributes)


def _attribute(part: Message) -> tuple[str, Attribute]:
    name, kind = part.text(1), part.integer(20)
    if kind == _FLOAT_ATTRIBUTE:
        return name, part.float32(2, 0.0)
    if kind == _INT:
        return name, part.integer(3)
    if kind == _TEXT:
        return name, part.text(4)
    if kind == _INTS:
        return name, part.integers(8)
    raise ModelFileError(f"attribute {name!r} is of type {kind}, which is not known")


def _constant(part: Message) -> tuple[str, torch.Tensor]:
    name, shape, kind = part.text(8), part.integers(1), part.integer(2)
    if kind not in DTYPES or part.integer(14):
        raise ModelFileError(f"constant {name!r} is of type {kind} or lies in another file")
    # Single precision may also lie in a field of its own, as little-endian numbers.
    content = b"".join(part.blobs(9) or (part.blobs(4) if kind == FLOAT else []))
    dtype = np.dtype(DTYPES[kind])
    if min(shape, default=1) < 0 or len(content) != math.prod(shape) * dtype.itemsize:
        raise ModelFileError(f"constant {name!r} has {len(content)} bytes for shape {shape}")
    values = np.frombuffer(content, dtype.newbyteorder("<")).astype(dtype).reshape(shape)
    return name, torch.from_numpy(values)


def _entry(part: Message) -> Entry:
    """A side without a number, but with a name, is free."""
    name = part.text(1)
    tensor = [t for kind in part.messages(2) for t in kind.messages(1)]
    if not tensor or tensor[0].integer(1) != FLOAT:
        raise ModelFileError(f"input {name!r} is not float32")
    sides = [d.integer(1) or None for shape in tensor[0].messages(2) for d in shape.messages(1)]
    if len(sides) != 4 or sides[0] not in (1, None):
        raise ModelFileError(f"input {name!r} has shape {sides}, not [1, C, H, W]")
    return Entry(name, tuple(sides[1:]))
