"""Shared memory for pixels: a file in /dev/shm cut into slots, written by its owner only.

Not `multiprocessing.shared_memory`: up to Python 3.12 its resource tracker unlinks a segment when
any reader exits. A slab's name carries the owner's pid and start time, so that what a killed
process left behind is recognised and swept at the next start.
"""

from __future__ import annotations

import itertools
import math
import mmap
import os
import struct
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import TransportError
from engine.transport.owner import is_orphan, owned_name

FOLDER = Path("/dev/shm")
PAGE = mmap.PAGESIZE
GENERATION_BYTES = 8
_GENERATION = struct.Struct("=Q")
_numbers = itertools.count()


class Slab:
    """A slab at its owner. A slot is free, or leased under the generation it was given out with."""

    def __init__(self, slots: int, slot_bytes: int) -> None:
        self.slots = slots
        self.slot_bytes = -(-slot_bytes // PAGE) * PAGE
        self.name = owned_name(next(_numbers))
        self._lock = threading.Lock()
        self._first = PAGE * _header_pages(slots)
        self._map = _create(FOLDER / self.name, self._first + slots * self.slot_bytes)
        self._bytes = [
            np.frombuffer(self._map, np.uint8, self.slot_bytes, self.offset(slot))
            for slot in range(slots)
        ]
        self._generations = [0] * slots  # as written to the header, where readers look
        self._free = list(range(slots))
        self._leased: dict[int, int] = {}

    def fits(self, data: Any) -> bool:
        """Whether a slot can hold it."""
        return isinstance(data, np.ndarray) and data.nbytes <= self.slot_bytes

    def lease(self) -> tuple[int, int] | None:
        """(slot, generation) of a free slot, or None."""
        with self._lock:
            if not self._free:
                return None
            slot = self._free.pop()
            self._leased[slot] = self._renew(slot)
            return slot, self._leased[slot]

    def offset(self, slot: int) -> int:
        """Where a slot begins in the file."""
        return self._first + slot * self.slot_bytes

    def write(self, slot: int, array: Any) -> None:
        """Copy a C-contiguous array into a leased slot (the GIL is released while copying)."""
        np.copyto(self._bytes[slot][: array.nbytes], array.reshape(-1).view(np.uint8))

    def release(self, slot: int, generation: int) -> bool:
        """Free a slot; False when that lease is not the one that holds it now."""
        with self._lock:
            if self._leased.get(slot) != generation:
                return False
            del self._leased[slot]
            self._free.append(slot)
            return True

    def reclaim(self) -> int:
        """The reader's process is gone: free all its leases under new generations."""
        with self._lock:
            count = len(self._leased)
            for slot in self._leased:
                self._renew(slot)
                self._free.append(slot)
            self._leased.clear()
            return count

    def _renew(self, slot: int) -> int:
        generation = self._generations[slot] = self._generations[slot] + 1
        _GENERATION.pack_into(self._map, slot * GENERATION_BYTES, generation)
        return generation

    @property
    def idle(self) -> bool:
        return not self._leased

    def unlink(self) -> None:
        """Take its name away; whoever has it mapped keeps it until the last array is gone."""
        with suppress(FileNotFoundError):
            (FOLDER / self.name).unlink()


class SlabView:
    """A slab at a reader: read-only arrays on its slots."""

    def __init__(self, name: str) -> None:
        try:
            descriptor = os.open(FOLDER / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise TransportError(f"slab {name} cannot be opened: {error.strerror}") from error
        try:
            self._map = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
        except (OSError, ValueError) as error:
            raise TransportError(f"slab {name} cannot be mapped: {error}") from error
        finally:
            os.close(descriptor)

    def array(
        self, offset: int, dtype: str, shape: tuple[int, ...], released: Callable[[], None]
    ) -> np.ndarray[Any, Any]:
        """An array on the slot; `released` is called when the last view of it is gone."""
        count = math.prod(shape)
        if offset < 0 or offset + count * np.dtype(dtype).itemsize > len(self._map):
            raise TransportError(f"slot at {offset} lies outside its slab")
        # NumPy hangs every further view on this very array, so its end is the end of all of them.
        base = np.frombuffer(self._map, dtype, count, offset)
        array = base.reshape(shape)
        weakref.finalize(base, released).atexit = False
        return array

    def generation(self, slot: int) -> int:
        """The slot's generation now: another than the lease's means that the owner took it back."""
        if not 0 <= slot * GENERATION_BYTES <= len(self._map) - GENERATION_BYTES:
            raise TransportError(f"slot {slot} lies outside its slab")
        return int(_GENERATION.unpack_from(self._map, slot * GENERATION_BYTES)[0])


def sweep_stale_slabs() -> list[str]:
    """Remove slabs whose owner is gone; their names."""
    swept = []
    for path in FOLDER.glob("frameloom-*"):
        if is_orphan(path.name):
            with suppress(FileNotFoundError):
                path.unlink()
                swept.append(path.name)
    return swept


def _header_pages(slots: int) -> int:
    return -(-slots * GENERATION_BYTES // PAGE)


def _create(path: Path, size_bytes: int) -> mmap.mmap:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size_bytes)  # a full /dev/shm is an error, not SIGBUS
        return mmap.mmap(descriptor, size_bytes)
    except OSError as error:
        path.unlink()
        raise TransportError(
            f"no room for a slab of {size_bytes >> 20} MiB in {FOLDER}: {error.strerror}."
            " Enlarge it (`mount -o remount,size=2G /dev/shm`, `docker run --shm-size`)"
            " or use smaller queues"
        ) from error
    finally:
        os.close(descriptor)
