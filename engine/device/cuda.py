"""The device interface on CUDA, by torch: its streams, its stream-ordered allocator, its graphs."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy.typing as npt
import torch

from engine.device import driver
from engine.device.interface import U8, Replay
from engine.errors import DeviceLostError, OperatorError

cuda: Any = torch.cuda  # its types are not declared everywhere


class CudaEvent:
    """A point in a stream. Not timed: timing makes recording slower."""

    def __init__(self, stream: Any) -> None:
        self.raw = cuda.Event(blocking=True)
        self.raw.record(stream)

    def done(self) -> bool:
        return bool(self.raw.query())

    def wait_host(self) -> None:
        self.raw.synchronize()


class CudaSharedEvent:
    """An event of two processes."""

    def __init__(self, raw: Any, handle: bytes) -> None:
        self.raw = raw
        self.handle = handle

    def record_on(self, stream: Any) -> None:
        self.raw.record(stream.raw)

    def done(self) -> bool:
        return bool(self.raw.query())

    def wait_host(self) -> None:
        self.raw.synchronize()


class Span:
    """A part of memory that torch did not allocate, as the CUDA array interface (version 3)."""

    def __init__(self, address: int, nbytes: int, owner: object) -> None:
        self.owner = owner
        self.__cuda_array_interface__ = {
            "shape": (nbytes,), "typestr": "|u1", "data": (address, False), "version": 3
        }  # fmt: skip


class CudaStream:
    """A stream of torch's, which is non-blocking: it does not wait for the default stream."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw
        self.handle = int(raw.cuda_stream)

    def record(self) -> CudaEvent:
        return CudaEvent(self.raw)

    def wait(self, event: Any) -> None:
        self.raw.wait_event(event.raw)

    @contextmanager
    def use(self) -> Iterator[None]:
        cupy: Any = sys.modules.get("cupy")  # only who has imported it launches kernels with it
        with cuda.stream(self.raw):
            if cupy is None:
                yield
                return
            with cupy.cuda.Device(self.raw.device.index), cupy.cuda.ExternalStream(self.handle):
                yield


class CudaDevice:
    """One GPU. Use `engine.device.opening.open_device`, which knows why it may not be had."""

    def __init__(self, index: int) -> None:
        self.name = f"cuda:{index}"
        self.raw = torch.device("cuda", index)
        self._opened: dict[bytes, int] = {}

    def stream(self, priority: int) -> CudaStream:
        return CudaStream(cuda.Stream(self.raw, priority=priority))

    def empty(self, shape: tuple[int, ...], dtype: str, stream: Any) -> torch.Tensor:
        try:
            with cuda.stream(stream.raw):
                return torch.empty(shape, dtype=getattr(torch, dtype), device=self.raw)
        except torch.OutOfMemoryError as error:
            raise self.explained(error) from error

    def keep(self, array: Any, stream: Any) -> None:
        array.record_stream(stream.raw)

    def pinned(self, nbytes: int) -> U8:
        memory: U8 = torch.empty(nbytes, dtype=torch.uint8, pin_memory=True).numpy()
        return memory

    def upload(self, source: npt.NDArray[Any], target: Any, stream: Any) -> None:
        with cuda.stream(stream.raw):
            target.copy_(torch.from_numpy(source).view(target.shape), non_blocking=True)

    def download(self, source: Any, target: npt.NDArray[Any], stream: Any) -> None:
        with cuda.stream(stream.raw):
            torch.from_numpy(target).view(source.shape).copy_(source, non_blocking=True)

    def copy(self, source: Any, target: Any, stream: Any) -> None:
        with cuda.stream(stream.raw):
            target.copy_(source, non_blocking=True)

    def clear(self, array: Any, stream: Any) -> None:
        with cuda.stream(stream.raw):
            array.zero_()

    def capture(self, stream: Any, work: Callable[[], Any]) -> tuple[Any, Replay]:
        graph = cuda.CUDAGraph()
        # Other lanes allocate and copy meanwhile: what they do is no error of this capture.
        with cuda.graph(graph, stream=stream.raw, capture_error_mode="thread_local"):
            made = work()

        def replay(on: Any) -> None:
            with cuda.stream(on.raw):
                graph.replay()

        return made, replay

    def host_reads(self, array: npt.NDArray[Any]) -> None:
        """Nothing to check: only the simulated device knows."""

    def host_writes(self, array: npt.NDArray[Any]) -> None:
        """Nothing to check: only the simulated device knows."""

    def synchronize(self) -> None:
        cuda.synchronize(self.raw)

    def view(
        self, memory: Any, offset: int, shape: tuple[int, ...], dtype: str, owner: object
    ) -> torch.Tensor:
        kind = getattr(torch, dtype)
        span = Span(memory + offset, math.prod(shape) * kind.itemsize, owner)
        flat = torch.as_tensor(span, device=self.raw)  # holds `span` as long as its memory is used
        return flat.view(kind).view(shape)

    def share_memory(self, nbytes: int) -> tuple[int, bytes]:
        with cuda.device(self.raw):
            return driver.share_memory(nbytes)

    def unshare_memory(self, memory: Any) -> None:
        with cuda.device(self.raw):
            driver.free_memory(memory)

    def open_memory(self, handle: bytes) -> int:
        if handle not in self._opened:
            with cuda.device(self.raw):
                self._opened[handle] = driver.open_memory(handle)
        return self._opened[handle]

    def share_event(self) -> CudaSharedEvent:
        with cuda.device(self.raw):
            raw = cuda.Event(interprocess=True)
            return CudaSharedEvent(raw, raw.ipc_handle())

    def open_event(self, handle: bytes) -> CudaSharedEvent:
        return CudaSharedEvent(cuda.Event.from_ipc_handle(self.raw, handle), handle)

    def _answers(self) -> bool:
        """Whether the context still works: an error of a kernel stays with it for good."""
        try:
            cuda.synchronize(self.raw)
        except RuntimeError:  # torch.AcceleratorError where torch is new enough
            return False
        return True

    def explained(self, error: Exception) -> Exception:
        if not isinstance(error, torch.OutOfMemoryError):
            return error if self._answers() else DeviceLostError(f"{self.name} is lost: {error}")
        free, total = cuda.mem_get_info(self.raw)
        return OperatorError(
            "GPU_OUT_OF_MEMORY",
            f"{self.name} has {free >> 20} of {total >> 20} MiB left, and that was not enough: run"
            " fewer streams or smaller batches there, or put nodes on another device",
            permanent=False,
        )
