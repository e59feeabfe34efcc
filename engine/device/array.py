"""What a frame carries on a GPU: an array, the event behind which it is there, its lease."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from engine.device.interface import Event, Stream


class Lease(Protocol):
    """Memory that is lent: its owner has to know which streams read it before it is reused."""

    def use(self, stream: Stream) -> None:
        """`stream` reads it from here on, until the array is gone."""


@dataclass(frozen=True, slots=True, weakref_slot=True)
class DeviceArray:
    """`frame.data` on a device. Whoever is not on the producer's stream waits for `ready` first.

    A lane has done that before `process`: operators use `array` (a torch tensor on CUDA) on the
    current stream and need not know of events.
    """

    array: Any
    ready: Event
    device: str  # cuda:N
    lease: Lease | None = None  # None: memory of the device's own allocator

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.array.shape)

    @property
    def dtype(self) -> Any:
        return self.array.dtype

    @property
    def dtype_name(self) -> str:
        """`float32`, also for torch's `torch.float32`."""
        return dtype_name(self.array)

    @property
    def nbytes(self) -> int:
        return int(self.array.nbytes)

    def __dlpack__(self, *, stream: Any = None) -> Any:
        return self.array.__dlpack__(stream=stream)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


def dtype_name(array: Any) -> str:
    """The type of an array's elements by its short name."""
    return str(array.dtype).rpartition(".")[2]
