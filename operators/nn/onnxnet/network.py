"""An ONNX file as a torch module: constants unpacked once, operators as layers, any batch."""

from __future__ import annotations

import torch

from operators.nn.onnxnet.operators import fold, layer_of
from operators.nn.onnxnet.schema import Call, read_model
from operators.nn.static_graph import ModelFileError, StaticGraph, Step, prove


def load_onnx(data: bytes) -> StaticGraph:
    """The network of an ONNX file of opset 13, in float32, in evaluation mode.

    Takes [B, C, H, W] float32 for any B, whatever the file's batch of 1 says; sides to which the
    file gives a name are free as far as the network allows (`centerface.onnx`: multiples of 32).
    Gives a tuple of the file's outputs in its order. What the file computes from constants alone
    (weights of 8 bits times their scale, half precision) is computed once, as the file says.

    ModelFileError, a ValueError, for another format or opset, a damaged file, and operators or
    attributes that are not known, by their name.
    """
    model = read_model(data)
    constants = dict(model.constants)
    steps: list[Step] = []
    for number, call in enumerate(model.calls):
        try:
            steps += _steps(call, constants)
        except (RuntimeError, ValueError) as error:
            raise ModelFileError(f"operator {number} of {len(model.calls)}: {error}") from error
    graph = StaticGraph(model.inputs, steps, model.outputs)
    graph.eval()
    prove(graph)
    return graph


def _steps(call: Call, constants: dict[str, torch.Tensor]) -> list[Step]:
    """No step where everything is constant: that is worked out here and now."""
    if len(call.writes) != 1:
        raise ModelFileError(f"{call.operator} gives {len(call.writes)} values, not one")
    known = [constants[name] for name in call.reads if name in constants]
    if known and len(known) == len(call.reads):
        constants[call.writes[0]] = fold(call, known)
        return []
    layer = layer_of(call, [constants.get(name) for name in call.reads])
    computed = tuple(name for name in call.reads if name and name not in constants)
    return [Step(layer, computed, call.writes[0])]
