"""Small TFLite files of one operator each, written with the schema that ships with LiteRT."""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

KINDS = {"float32": 0, "float16": 1, "int32": 2, "uint8": 3}


class File:
    """Values, then calls; `content` is the file."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        """`shape` of the input, [1, H, W, C]."""
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.operatorCodes, self.model.buffers = [], [_buffer(None)]
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.model.subgraphs = [self.graph]
        self.graph.inputs = [self.value(shape)]
        self.graph.outputs = [0]

    def value(self, shape: tuple[int, ...], kind: str = "float32", buffer: int = 0) -> int:
        tensor = schema.TensorT()
        tensor.shape, tensor.type, tensor.buffer = list(shape), KINDS[kind], buffer
        tensor.name = f"value{len(self.graph.tensors)}".encode()
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def constant(self, values: np.ndarray) -> int:
        self.model.buffers.append(_buffer(np.ascontiguousarray(values)))
        return self.value(values.shape, values.dtype.name, len(self.model.buffers) - 1)

    def call(
        self, operator: str, reads: list[int], shape: tuple[int, ...], options: Any = None
    ) -> int:
        """Adds the operator; its result, of that shape, is the file's output. None is no option."""
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, operator)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        code.version = 2 if operator == "DEQUANTIZE" else 1
        self.model.operatorCodes.append(code)
        made = schema.OperatorT()
        made.opcodeIndex = len(self.model.operatorCodes) - 1
        made.inputs, made.outputs = list(reads), [self.value(shape)]
        if options is not None:
            kind = type(options).__name__.removesuffix("T")
            made.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
            made.builtinOptions = options
        self.graph.operators.append(made)
        self.graph.outputs = made.outputs
        return made.outputs[0]

    def content(self) -> bytes:
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def _buffer(values: np.ndarray | None) -> Any:
    made = schema.BufferT()
    made.data = None if values is None else np.frombuffer(values.tobytes(), np.uint8)
    return made


def options(kind: str, **fields: Any) -> Any:
    """`options("Conv2D", strideH=2, ...)`; sizes that are not given are 1."""
    made = getattr(schema, f"{kind}OptionsT")()
    for name in ("strideW", "strideH", "dilationWFactor", "dilationHFactor"):
        if hasattr(made, name):
            setattr(made, name, 1)
    for name, value in fields.items():
        assert hasattr(made, name), name
        setattr(made, name, value)
    return made


def sizes(size: int, kernel: int, stride: int, *, same: bool) -> int:
    """How many values come out along an axis."""
    return -(-size // stride) if same else (size - kernel) // stride + 1
