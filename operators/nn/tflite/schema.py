"""The tables of a TFLite file that a network needs: values, constants, operators.

Source: tensorflow/lite/schema/schema.fbs, version 3; the numbers are those of its fields.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from operators.nn.static_graph import ModelFileError
from operators.nn.tflite.flat import Table, root_table

VERSION = 3
DTYPES = {0: np.float32, 1: np.float16, 2: np.int32, 4: np.int64}  # nothing quantised
# BuiltinOperator from 0 on: so that an unknown one is called by its name.
_NAMES = (
    "ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE "
    "EMBEDDING_LOOKUP FLOOR FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D "
    "LOCAL_RESPONSE_NORMALIZATION LOGISTIC LSH_PROJECTION LSTM MAX_POOL_2D MUL RELU RELU_N1_TO_1 "
    "RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH SVDF TANH CONCAT_EMBEDDINGS "
    "SKIP_GRAM CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD UNIDIRECTIONAL_SEQUENCE_RNN GATHER "
    "BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB DIV SQUEEZE "
    "UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE BIDIRECTIONAL_SEQUENCE_RNN EXP TOPK_V2 SPLIT "
    "LOG_SOFTMAX DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM CAST PRELU"
)
OPERATORS = _NAMES.split()


class Value(NamedTuple):
    """A tensor of the file, in the file's layout: [N, H, W, C] where it is a map."""

    name: str
    shape: tuple[int, ...]
    constant: npt.NDArray[np.generic] | None  # None: computed when the network runs


class Call(NamedTuple):
    """One use of an operator. Numbers count the file's values; -1 is an input left out."""

    operator: str
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    options: Table | None


class Model(NamedTuple):
    """The file's only subgraph."""

    values: list[Value]
    calls: list[Call]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read_model(data: bytes) -> Model:
    """ModelFileError for a file that is no TFLite of version 3, is cut off or has subgraphs."""
    root = root_table(data, b"TFL3")
    version = root.number(0, "I")
    if version != VERSION:
        raise ModelFileError(f"schema version {version}; version {VERSION} can be read")
    graphs = root.tables(2)
    if len(graphs) != 1:
        raise ModelFileError(f"{len(graphs)} subgraphs; a file with one can be read")
    operators = [_operator(code) for code in root.tables(1)]
    buffers = [buffer.array(0, np.uint8) for buffer in root.tables(4)]
    values = [_value(table, buffers) for table in graphs[0].tables(0)]
    calls = [_call(table, operators, len(values)) for table in graphs[0].tables(3)]
    ends = [_indices(graphs[0].integers(field), len(values), 0) for field in (1, 2)]
    return Model(values, calls, *ends)


def _operator(code: Table) -> str:
    """Old files have the number in the first field, new ones in the fourth; the larger holds."""
    number = max(code.number(0, "b"), code.number(3, "i"))
    name = OPERATORS[number] if 0 <= number < len(OPERATORS) else f"number {number}"
    return f"CUSTOM {code.text(1)!r}" if name == "CUSTOM" else name


def _value(table: Table, buffers: list[npt.NDArray[np.generic]]) -> Value:
    name, shape, kind = table.text(3), table.integers(0), table.number(1, "b")
    if kind not in DTYPES:
        raise ModelFileError(f"value {name!r} is of type {kind}, which is not known")
    if table.table(6) is not None:
        raise ModelFileError(f"value {name!r} is stored sparsely, which cannot be read")
    number = table.number(2, "I")
    if number >= len(buffers):
        raise ModelFileError(f"value {name!r} lies in buffer {number} of {len(buffers)}")
    content = buffers[number]
    if not content.size:
        if DTYPES[kind] is not np.float32:
            raise ModelFileError(f"value {name!r} is computed, but not float32")
        return Value(name, shape, None)
    wanted = int(np.prod(shape, dtype=np.int64)) * np.dtype(DTYPES[kind]).itemsize
    if content.size != wanted:
        raise ModelFileError(f"value {name!r} has {content.size} bytes, its shape needs {wanted}")
    return Value(name, shape, content.view(DTYPES[kind]).reshape(shape))


def _call(table: Table, operators: list[str], values: int) -> Call:
    number = table.number(0, "I")
    if number >= len(operators):
        raise ModelFileError(f"an operator is number {number} of {len(operators)}")
    reads = _indices(table.integers(1), values, -1)
    return Call(operators[number], reads, _indices(table.integers(2), values, 0), table.table(4))


def _indices(found: tuple[int, ...], values: int, least: int) -> tuple[int, ...]:
    if any(not least <= index < values for index in found):
        raise ModelFileError(f"values {list(found)} are named, there are {values}")
    return found
