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
KERNELS = {"kernels": "operators.kernels.launching:try_out"}  # what launches them needs on a GPU
VARIANTS: dict[str, int] = {"float32": 0, "float16": 1, "bfloat16": 2}
OUT_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
BLOCK = (32, 8)
_lock = threading.Lock()


class On(NamedTuple):
    """Where a kernel is launched."""

    stream: int  # cudaStream_t
    device: int = 0


class Memory(NamedTuple):
    """An array on a device, as far as a kernel cares."""

    address: int
    shape: tuple[int, ...]
    dtype: str


def source(name: str) -> str:
    """The CUDA source of a kernel with what all share in front of it."""
    folder = files("operators.kernels")
    return folder.joinpath("common.cu").read_text() + folder.joinpath(f"{name}.cu").read_text()


def try_out(device: str) -> None:
    """Compile a kernel and load it on `cuda:N`; what CuPy raises comes through."""
    import cupy

    index = int(device.partition(":")[2] or 0)
    with cupy.cuda.Device(index):
        cupy.zeros(8).sum().item()
    _function("planes", "float32", index)


def launch(
    name: str, size: tuple[int, int, int], arguments: Sequence[Any], on: On, out: Out = "float32"
) -> None:
    """Give a kernel to a stream, a thread for each of [width, height, depth]; none: no launch.

    Arguments: arrays as `memory_of` takes them, int and float numbers. The caller keeps the arrays
    alive and ordered, as for any work on a stream (`engine.device`).
    """
    if min(size) > 0:
        grid = (-(-size[0] // BLOCK[0]), -(-size[1] // BLOCK[1]), size[2])
        _start(name, out, on, grid, tuple(map(_argument, arguments)))


def memory_of(array: Any) -> Memory:
    """A torch tensor's memory, or that of whatever speaks `__cuda_array_interface__` or DLPack.

    ValueError where it is not on a device, or not contiguous.
    """
    if hasattr(array, "data_ptr"):
        if not array.is_cuda:
            raise ValueError(f"an array on {array.device}; kernels read a GPU's memory")
        if not array.is_contiguous():
            raise ValueError(f"an array of shape {tuple(array.shape)} that is not contiguous")
        return Memory(array.data_ptr(), tuple(array.shape), str(array.dtype).split(".")[-1])
    if not hasattr(array, "__cuda_array_interface__"):
        import cupy

        array = cupy.from_dlpack(array)
    seen = array.__cuda_array_interface__
    dtype, shape, strides = np.dtype(seen["typestr"]), seen["shape"], seen.get("strides")
    if strides is not None and strides != _packed(shape, dtype.itemsize):
        raise ValueError(f"an array of shape {shape} that is not contiguous")
    return Memory(seen["data"][0], shape, dtype.name)


def check(what: str, array: Any, shape: tuple[int, ...], dtype: str) -> None:
    """ValueError unless it is that: a kernel writes wherever it is told."""
    memory = memory_of(array)
    if memory.shape != shape or memory.dtype != dtype:
        raise ValueError(
            f"{what}: {list(memory.shape)} {memory.dtype} came, {list(shape)} {dtype} is wanted"
        )


def sent(array: npt.NDArray[Any], on: On) -> Any:
    """A small table as a tensor on the device, copied as work of the stream. Its page-locked memory
    is torch's, which gives a block again when the copy from it is done: locked once, not per call.
    """
    return _upload(np.ascontiguousarray(array), on.device, on.stream)


def constant(array: npt.NDArray[Any], device: int) -> Any:
    """A table that lasts, on the device for every stream once this returns."""
    return _upload(np.ascontiguousarray(array), device, None)


def room(shape: tuple[int, ...], dtype: str, on: On) -> Any:
    """A tensor to write to, of the stream's memory; what it holds is not defined."""
    return _empty(shape, dtype, on)


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


@functools.cache
def _function(name: str, out: Out, device: int) -> Any:
    import cupy

    options = (f"-DOUT={VARIANTS[out]}", "--std=c++17")
    with cupy.cuda.Device(device):
        return cupy.RawModule(code=source(name), options=options).get_function(name)


def _start(name: str, out: Out, on: On, grid: tuple[int, ...], values: tuple[Any, ...]) -> None:
    import cupy

    with _lock:
        function = _function(name, out, on.device)
    with cupy.cuda.Device(on.device), cupy.cuda.ExternalStream(on.stream, on.device):
        function(grid, (*BLOCK, 1), values)


def _upload(array: npt.NDArray[Any], device: int, stream: int | None) -> Any:
    import torch

    if stream is None:
        return torch.from_numpy(array).to(f"cuda:{device}")
    cuda: Any = torch.cuda
    with cuda.stream(cuda.ExternalStream(stream, device=device)):
        return torch.from_numpy(array).pin_memory().to(f"cuda:{device}", non_blocking=True)


def _empty(shape: tuple[int, ...], dtype: str, on: On) -> Any:
    import torch

    cuda: Any = torch.cuda
    with cuda.stream(cuda.ExternalStream(on.stream, device=on.device)):
        return torch.empty(shape, dtype=getattr(torch, dtype), device=f"cuda:{on.device}")


def _packed(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    strides = [itemsize]
    for length in shape[:0:-1]:
        strides.insert(0, strides[0] * length)
    return tuple(strides)[: len(shape)]


def _argument(value: Any) -> Any:
    if isinstance(value, bool | int):
        return np.int32(value)
    if isinstance(value, float):
        return np.float32(value)
    return np.uintp(memory_of(value).address)
