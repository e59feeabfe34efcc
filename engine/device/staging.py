"""The way onto a device and off it: a ring of page-locked host memory, reused slot by slot.

Only copies from and to page-locked memory run beside the host (CUDA C++ Programming Guide, "Page-
Locked Host Memory"), and locking pages costs milliseconds, so the slots are made once. A slot is
written again only when the copy that last touched it is done: with two or more slots the host fills
one while the other travels.
"""

from __future__ import annotations

import threading
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.device.array import DeviceArray
from engine.device.interface import U8, Device, Event, Stream


class _Slot:
    """Page-locked memory and the event of the copy that last used it."""

    def __init__(self, memory: U8) -> None:
        self.memory = memory
        self.used: Event | None = None


class StagingRing:
    """Slots for uploads or for downloads. Slots grow with the largest array asked for.

    An upload that finds `limit` slots under way waits for the oldest copy. Downloads may be held by
    their readers for long: beyond `limit` they get slots that are not kept.
    """

    def __init__(self, device: Device, limit: int = 3) -> None:
        if limit < 1:
            raise ValueError(f"a ring has 1 slot or more, not {limit}")
        self._device = device
        self._limit = limit
        # Taken twice by one thread when the garbage collector, run by an allocation under it, finds
        # an array of ours that is gone.
        self._lock = threading.RLock()
        self._idle: list[_Slot] = []  # oldest use first
        self._made = 0

    def upload(self, source: npt.NDArray[Any], stream: Stream) -> DeviceArray:
        """Copy to the device as work of `stream`. The host goes on; `source` may change at once."""
        slot = self._take(source.nbytes)
        staged = slot.memory[: source.nbytes]
        self._device.host_writes(staged)
        np.copyto(staged, np.ascontiguousarray(source).reshape(-1).view(np.uint8))
        target = self._device.empty(source.shape, str(source.dtype), stream)
        self._device.upload(staged.view(source.dtype), target, stream)
        slot.used = stream.record()
        self._give_back(slot)
        return DeviceArray(target, slot.used, self._device.name)

    def download(self, data: DeviceArray, stream: Stream, dtype: str) -> npt.NDArray[Any]:
        """The array on the host, read-only. Waits for it: the one place where the host does.

        `stream` must have been given the wait for `data` (a lane has done that). The memory is used
        again when the last view of the array is gone.
        """
        slot = self._take(data.nbytes)
        staged = slot.memory[: data.nbytes].view(dtype)
        self._device.download(data.array, staged, stream)
        stream.record().wait_host()
        self._device.host_reads(staged)
        array = np.frombuffer(staged.data, dtype).reshape(data.shape)
        array.flags.writeable = False
        weakref.finalize(array.base, self._give_back, slot).atexit = False
        return array

    def _take(self, nbytes: int) -> _Slot:
        """A slot of that size that no copy touches any more."""
        with self._lock:
            if self._idle and (self._made >= self._limit or _is_over(self._idle[0])):
                slot = self._idle.pop(0)
            else:
                self._made += 1
                slot = _Slot(self._device.pinned(nbytes))
        if slot.used is not None:
            slot.used.wait_host()
            slot.used = None
        if slot.memory.nbytes < nbytes:
            slot.memory = self._device.pinned(nbytes)
        return slot

    def _give_back(self, slot: _Slot) -> None:
        with self._lock:
            if len(self._idle) < self._limit:
                self._idle.append(slot)
            else:
                self._made -= 1


def _is_over(slot: _Slot) -> bool:
    return slot.used is None or slot.used.done()
