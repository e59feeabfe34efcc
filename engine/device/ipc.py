"""Frames on a GPU for another process: a slab of device memory, exported once, reused slot by slot.

Memory and events are opened by the reader one time (CUDA C++ Programming Guide, "Interprocess
Communication"; opening costs milliseconds), after that a frame is a slot's number. Two events per
slot, both the owner's: `written` behind the copy into the slot, which the reader's streams wait
for, and `read` behind the reader's last use, which the owner waits for before it writes there
again. Who holds a slot is decided by the lease in shared memory (`engine.transport.slab`); this
module decides *when on the device* its bytes may be touched.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable

from msgspec import Struct

from engine.device.array import DeviceArray
from engine.device.interface import Device, SharedEvent, Stream


class Exported(Struct, frozen=True, array_like=True):
    """What a reader needs to open one slot. Small enough for a slot of shared memory."""

    device: str
    memory: bytes  # handle of the slab
    offset: int  # bytes
    nbytes: int
    written: bytes  # handles of the events
    read: bytes


class SlabWriter:
    """The owner's side: copies device arrays into slots, on a stream of its own."""

    def __init__(self, device: Device, stream: Stream, slots: int, slot_bytes: int) -> None:
        self._device = device
        self._stream = stream
        self._slot_bytes = -(-slot_bytes // 512) * 512  # copies like their start aligned
        self._memory, self._handle = device.share_memory(slots * self._slot_bytes)
        self._written = [device.share_event() for _ in range(slots)]
        self._read = [device.share_event() for _ in range(slots)]

    def exported(self, slot: int) -> Exported:
        """What to tell the reader of a slot, once."""
        return Exported(
            self._device.name,
            self._handle,
            slot * self._slot_bytes,
            self._slot_bytes,
            self._written[slot].handle,
            self._read[slot].handle,
        )

    def write(self, slot: int, data: DeviceArray) -> None:
        """Copy into a slot that is leased: after `data` is there, and after its last reader."""
        self._stream.wait(data.ready)
        if data.lease is not None:
            data.lease.use(self._stream)
        else:
            self._device.keep(data.array, self._stream)
        self._stream.wait(self._read[slot])
        place = self._device.view(
            self._memory, slot * self._slot_bytes, data.shape, data.dtype_name, self._memory
        )
        self._device.copy(data.array, place, self._stream)
        self._written[slot].record_on(self._stream)

    def close(self) -> None:
        """Free the memory, once the last copy into it and the last use of it are done."""
        self._stream.record().wait_host()
        for read in self._read:
            read.wait_host()
        self._device.unshare_memory(self._memory)


class SlabReader:
    """The reader's side of one slot, opened once."""

    def __init__(self, device: Device, exported: Exported) -> None:
        self._device = device
        self._exported = exported
        self._memory = device.open_memory(exported.memory)
        self._written = device.open_event(exported.written)
        self._read = device.open_event(exported.read)

    def array(
        self, shape: tuple[int, ...], dtype: str, released: Callable[[], None]
    ) -> DeviceArray:
        """What lies in the slot. `released` is called when the last view of it is gone; before
        that, `read` is recorded behind all streams that used it.
        """
        token, lease = Token(), SlotLease(self._read)
        weakref.finalize(token, lease.end, released).atexit = False
        place = self._device.view(self._memory, self._exported.offset, shape, dtype, token)
        return DeviceArray(place, self._written, self._exported.device, lease)


class Token:
    """Lives as long as any view of a slot's memory does."""

    __slots__ = ("__weakref__",)


class SlotLease:
    """Which streams read a slot."""

    def __init__(self, read: SharedEvent) -> None:
        self._read = read
        self._users: list[Stream] = []
        self._lock = threading.Lock()

    def use(self, stream: Stream) -> None:
        with self._lock:
            if stream not in self._users:
                self._users.append(stream)

    def end(self, released: Callable[[], None]) -> None:
        """All views are gone: tell the owner's stream when the last use is over, then the owner."""
        with self._lock:
            if self._users:
                last, *others = self._users
                for other in others:
                    last.wait(other.record())
                self._read.record_on(last)
        released()
