"""What the engine asks of a device. Two answer: CUDA (`cuda`) and a simulated one (`simulated`).

Work is given to a *stream* and done later, in order within the stream and in no order between
streams, unless one waits for an *event* that another recorded (CUDA C++ Programming Guide, section
"Asynchronous Concurrent Execution"). Memory is *stream-ordered*: an array that is given up may be
handed out again at once to its own stream, because what that stream does next comes later; every
other stream that reads it has to be named with `keep`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]


class Event(Protocol):
    """A point in the work of a stream."""

    def done(self) -> bool:
        """Whether it has been reached. Never waits."""

    def wait_host(self) -> None:
        """Block this thread until it is reached: at the rim of the device only."""


class SharedEvent(Event, Protocol):
    """An event that another process can open. Waiting for it means its last `record_on`."""

    @property
    def handle(self) -> bytes:
        """What to tell the other process."""

    def record_on(self, stream: Stream) -> None:
        """From here on it stands for all that was given to `stream` so far."""


class Stream(Protocol):
    """A queue of work. Given out by a `StreamPool`, one per node."""

    @property
    def handle(self) -> int:
        """The `cudaStream_t`, for libraries that take one."""

    def record(self) -> Event:
        """The point behind all that was given to this stream so far."""

    def wait(self, event: Event) -> None:
        """What is given to this stream from now on begins after `event`. The host goes on."""

    def use(self) -> AbstractContextManager[None]:
        """Make it this thread's current stream, for torch and for CuPy."""


Replay = Callable[[Any], None]  # gives captured work to a stream again, as a whole


class Device(Protocol):
    """One GPU. Arrays are torch tensors on CUDA and `SimulatedArray`s on the simulated device."""

    @property
    def name(self) -> str:
        """cuda:N"""

    def stream(self, priority: int) -> Stream:
        """A new stream; a lower number is more urgent: -1 before 0."""

    def empty(self, shape: tuple[int, ...], dtype: str, stream: Stream) -> Any:
        """An array with undefined content, stream-ordered on `stream`.

        OperatorError `GPU_OUT_OF_MEMORY` where there is no room.
        """

    def keep(self, array: Any, stream: Stream) -> None:
        """`stream` uses the array too: its memory is not reused before that work is done."""

    def pinned(self, nbytes: int) -> U8:
        """Page-locked host memory [nbytes]."""

    def upload(self, source: npt.NDArray[Any], target: Any, stream: Stream) -> None:
        """Host (page-locked) to device, as work of `stream`."""

    def download(self, source: Any, target: npt.NDArray[Any], stream: Stream) -> None:
        """Device to host (page-locked), as work of `stream`."""

    def copy(self, source: Any, target: Any, stream: Stream) -> None:
        """Device to device, as work of `stream`."""

    def clear(self, array: Any, stream: Stream) -> None:
        """Fill with zeros, as work of `stream`."""

    def capture(self, stream: Stream, work: Callable[[], Any]) -> tuple[Any, Replay]:
        """Run `work` on `stream` without executing it: what it returned, and the work as one.

        What it returned keeps its place in memory and is overwritten by every replay.
        """

    def host_reads(self, array: npt.NDArray[Any]) -> None:
        """The host is about to read page-locked memory (the simulated device checks the order)."""

    def host_writes(self, array: npt.NDArray[Any]) -> None:
        """The host is about to write page-locked memory (likewise)."""

    def view(
        self, memory: Any, offset: int, shape: tuple[int, ...], dtype: str, owner: object
    ) -> Any:
        """An array on a part of shared memory. `owner` lives until its last view is gone."""

    def share_memory(self, nbytes: int) -> tuple[Any, bytes]:
        """Memory that other processes can open, and its handle. DeviceError where it cannot be."""

    def unshare_memory(self, memory: Any) -> None:
        """Free it. Who has it open must not use it any more."""

    def open_memory(self, handle: bytes) -> Any:
        """The memory that another process shares; opened once, however often it is asked for."""

    def share_event(self) -> SharedEvent:
        """An event for two processes. Until it is recorded it counts as reached."""

    def open_event(self, handle: bytes) -> SharedEvent:
        """The other process's event."""

    def explained(self, error: Exception) -> Exception:
        """What a library's error means for whoever runs the graph; itself where it says enough."""

    def synchronize(self) -> None:
        """Block until all is done: when a node closes, never while it runs."""
