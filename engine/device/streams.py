"""Streams, one per node: given out at `open`, taken back at `close`, never shared meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from engine.device.interface import Device, Stream


class StreamPool:
    """Streams of one device by priority. A stream that comes back is given out again.

    Making a stream costs some hundred microseconds, and drivers map more than a few dozen onto the
    same hardware queues; nodes that come and go (streams added live) must not add up.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._idle: dict[int, list[Stream]] = {}
        self._lock = threading.Lock()
        self.made = 0

    @contextmanager
    def lend(self, priority: int) -> Iterator[Stream]:
        """A stream that is nobody else's until the block ends; what it holds by then is done."""
        with self._lock:
            idle = self._idle.setdefault(priority, [])
            stream = idle.pop() if idle else None
            self.made += stream is None
        if stream is None:
            stream = self._device.stream(priority)
        try:
            yield stream
        finally:
            stream.record().wait_host()
            with self._lock:
                idle.append(stream)
