"""A TFLite file as a torch module: constants unpacked once, operators as layers, any batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from operators.nn.static_graph import Entry, ModelFileError, StaticGraph, Step, prove
from operators.nn.tflite.layers import ToFile
from operators.nn.tflite.operators import Constants, layer_of
from operators.nn.tflite.schema import Call, Model, Value, read_model


def load_tflite(data: bytes) -> StaticGraph:
    """The network of a TFLite file, in float32, in evaluation mode.

    Takes maps as [B, C, H, W] for any B, float32 and of the file's size, whatever the file's batch
    of 1 says, and gives a tuple of the file's outputs in its order and its layout: [B, N, ...], or
    [B, H, W, C] for a map. Half-precision constants become single precision, exactly. Internally
    channels may lie last in memory (`torch.channels_last`).

    ModelFileError, a ValueError, for another format or version, a damaged file, a network that
    does not start with one picture, and operators or options that are not known, by their name.
    """
    model = read_model(data)
    unpacked = {i: _plain(v) for i, v in enumerate(model.values) if v.constant is not None}
    steps: list[Step] = []
    for number, call in enumerate(model.calls):
        try:
            steps += _steps(call, model, unpacked)
        except (RuntimeError, ValueError) as error:
            raise ModelFileError(f"operator {number} of {len(model.calls)}: {error}") from error
    outputs = [_in_file_layout(steps, model.values[i], i) for i in model.outputs]
    graph = StaticGraph([_entry(model.values[i], i) for i in model.inputs], steps, outputs)
    graph.eval()
    wanted = tuple(model.values[i].shape for i in model.outputs)
    if (given := prove(graph)) != wanted:
        raise ModelFileError(f"the operators give outputs {given}, the file says {wanted}")
    return graph


def _plain(value: Value) -> npt.NDArray[Any]:
    """A copy: floating point as float32, integers as int64."""
    assert value.constant is not None
    wanted = np.float32 if value.constant.dtype.kind == "f" else np.int64
    return value.constant.astype(wanted)


def _steps(call: Call, model: Model, unpacked: dict[int, npt.NDArray[Any]]) -> list[Step]:
    """No step where the work is done here and now: for half-precision constants."""
    if len(call.writes) != 1:
        raise ModelFileError(f"{call.operator} gives {len(call.writes)} values, not one")
    written = call.writes[0]
    if call.operator == "DEQUANTIZE":
        if len(call.reads) != 1 or not _is_half(model.values[call.reads[0]]):
            raise ModelFileError("DEQUANTIZE of anything but half-precision constants is not known")
        unpacked[written] = unpacked[call.reads[0]]
        return []
    constants: Constants = [unpacked.get(index) for index in call.reads]
    computed = tuple(i for i in call.reads if i >= 0 and i not in unpacked)
    return [Step(layer_of(call, model.values, constants), computed, written)]


def _is_half(value: Value) -> bool:
    return value.constant is not None and value.constant.dtype == np.float16


def _entry(value: Value, index: int) -> Entry:
    if len(value.shape) != 4 or value.shape[0] != 1:
        raise ModelFileError(f"input {value.name!r} has shape {value.shape}, not [1, H, W, C]")
    height, width, channels = value.shape[1:]
    return Entry(index, (channels, height, width))


def _in_file_layout(steps: list[Step], value: Value, index: int) -> Any:
    """The name under which the output is found in the file's layout."""
    if len(value.shape) != 4:
        return index
    layer: nn.Module = ToFile()
    steps.append(Step(layer, (index,), ("file", index)))
    return "file", index
