"""Reused array memory: a buffer returns when the last view of its array is gone.

The first touch of fresh memory costs ten times the copy itself, so whoever makes a frame per tick
takes its arrays here.
"""

from __future__ import annotations

import math
import weakref
from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt


class BufferPool:
    """Keeps up to `limit` idle buffers of one size. Never waits: an empty pool allocates."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        # Appends and pops of a deque are atomic; a lock could be taken twice by one thread, because
        # arrays die (and call `_give_back`) anywhere, also in the garbage collector.
        self._idle: deque[bytearray] = deque()
        self._nbytes = 0
        self.allocated = 0  # buffers made so far; stands still once the pool is warm

    @property
    def idle(self) -> int:
        """Buffers waiting to be taken."""
        return len(self._idle)

    def take(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """A writable C-contiguous array with undefined content. Another size empties the pool."""
        kind = np.dtype(dtype)
        nbytes = math.prod(shape) * kind.itemsize
        if nbytes != self._nbytes:
            self._nbytes = nbytes
            self._idle.clear()
        try:
            store = self._idle.pop()
        except IndexError:
            store = bytearray(nbytes)
            self.allocated += 1
        # Views collapse onto an array that owns memory or onto its base if that is an array. This
        # one's base is a bytearray, so every view keeps exactly this array alive.
        array = np.ndarray(shape, kind, buffer=store)
        weakref.finalize(array, self._give_back, store).atexit = False
        return array

    def _give_back(self, store: bytearray) -> None:
        if len(store) == self._nbytes and len(self._idle) < self._limit:
            self._idle.append(store)
