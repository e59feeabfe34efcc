"""CUDA sources and how they are launched: compiled once per device and variant, on any stream."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Out = Literal["float32", "float16", "bfloat16"]
VARIANTS: dict[str, int] = {"float32": 0, "float16": 1, "bfloat16": 2}
OUT_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
BLOCK = (32, 8)
_lock = threading.Lock()


def source(name: str) -> str:
    """The CUDA source of a kernel with what all share in front of it."""
    folder = files("operators.kernels")
    return folder.joinpath("common.cu").read_text() + folder.joinpath(f"{name}.cu").read_text()


@functools.cache
def _function(name: str, out: Out, device: int) -> Any:
    import cupy

    options = (f"-DOUT={VARIANTS[out]}", "--std=c++17")
    with cupy.cuda.Device(device):
        return cupy.RawModule(code=source(name), options=options).get_function(name)


class On(NamedTuple):
    """Where a kernel is launched."""

    stream: int  # cudaStream_t
    device: int = 0


def launch(
    name: str, size: tuple[int, int, int], arguments: Sequence[Any], on: On, out: Out = "float32"
) -> None:
    """Give a kernel to a stream, a thread for each of [width, height, depth].

    Arguments: torch tensors (their memory), int and float numbers. The caller keeps the tensors
    alive and ordered, as for any work on a stream (`engine.device`).
    """
    import cupy

    with _lock:
        function = _function(name, out, on.device)
    grid = (-(-size[0] // BLOCK[0]), -(-size[1] // BLOCK[1]), size[2])
    with cupy.cuda.Device(on.device), cupy.cuda.ExternalStream(on.stream):
        function(grid, (*BLOCK, 1), tuple(map(_argument, arguments)))


def sent(array: npt.NDArray[Any], beside: Any, on: On) -> Any:
    """A small table as a tensor where `beside` is, copied as work of the stream."""
    import torch

    cuda: Any = torch.cuda
    with cuda.stream(cuda.ExternalStream(on.stream)):
        return torch.from_numpy(array).pin_memory().to(beside.device, non_blocking=True)


def _argument(value: Any) -> Any:
    if isinstance(value, bool | int):
        return np.int32(value)
    if isinstance(value, float):
        return np.float32(value)
    return np.uintp(value.data_ptr())


def rounded(values: npt.NDArray[np.float32], out: Out) -> npt.NDArray[np.float32]:
    """As they are once they have been stored as `out`, in float32 again: what twins give."""
    if out == "float16":
        with np.errstate(over="ignore"):
            return values.astype(np.float16).astype(np.float32)
    if out == "bfloat16":
        bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
        kept = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
        return kept.astype(np.uint32).view(np.float32)
    return values
