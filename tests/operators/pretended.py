"""A GPU pretended by torch on the processor: the same interface, tensors that can be looked at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from engine import Frame
from engine.device.array import DeviceArray
from engine.device.scope import DeviceScope


class Done:
    """An event of a device that does everything at once."""

    def done(self) -> bool:
        return True

    def wait_host(self) -> None:
        """It is there."""


class PretendedStream:
    handle = 7

    def record(self) -> Done:
        return Done()

    def wait(self, event: Any) -> None:
        """It is there."""

    @contextmanager
    def use(self) -> Iterator[None]:
        yield


class PretendedDevice:
    """What operators use of `engine.device.interface.Device`."""

    name = "cuda:0"

    def empty(self, shape: tuple[int, ...], dtype: str, stream: Any) -> torch.Tensor:
        return torch.empty(shape, dtype=getattr(torch, dtype))

    def keep(self, array: Any, stream: Any) -> None:
        """Nobody else takes it."""

    def pinned(self, nbytes: int) -> Any:
        return np.zeros(nbytes, np.uint8)

    def download(self, source: Any, target: Any, stream: Any) -> None:
        target.reshape(source.shape)[...] = source.numpy()

    def upload(self, source: Any, target: Any, stream: Any) -> None:
        target.copy_(torch.from_numpy(source).view(target.shape))

    def clear(self, array: Any, stream: Any) -> None:
        array.zero_()

    def host_reads(self, array: Any) -> None:
        """In order."""

    def host_writes(self, array: Any) -> None:
        """In order."""

    def explained(self, error: Exception) -> Exception:
        return error


def pretended_gpu() -> Any:
    return DeviceScope(PretendedDevice(), PretendedStream())  # type: ignore[arg-type]


def on_device(frame: Frame) -> Frame:
    """The frame with its pixels on the pretended GPU."""
    from msgspec.structs import replace

    array = DeviceArray(torch.from_numpy(frame.data.copy()), Done(), "cuda:0")
    return frame.with_data(array, replace(frame.caps, device="cuda:0"))


def eager(network: Any, *_: Any) -> Any:
    """Instead of `operators.engines.open_engine`: the module."""

    def run(*inputs: torch.Tensor) -> Any:
        with torch.inference_mode():
            return network.module(*inputs)

    return run
