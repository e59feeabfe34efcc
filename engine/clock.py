"""The only place that reads the time. Monotonic nanoseconds; a fake clock makes tests instant."""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """A source of monotonic time and of waiting."""

    def now_ns(self) -> int:
        """Monotonic nanoseconds. Only differences on one host mean anything."""

    def wait(self, event: threading.Event, timeout_ns: int) -> bool:
        """Wait until `event` is set or the time is over; True when it was set."""


class MonotonicClock:
    """The machine's monotonic clock."""

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def wait(self, event: threading.Event, timeout_ns: int) -> bool:
        return event.wait(max(timeout_ns, 0) / 1e9)


class FakeClock:
    """A clock that moves only when told to, or when somebody waits on it."""

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns

    def now_ns(self) -> int:
        return self._now_ns

    def advance(self, duration_ns: int) -> None:
        self._now_ns += duration_ns

    def wait(self, event: threading.Event, timeout_ns: int) -> bool:
        if not event.is_set():
            self.advance(max(timeout_ns, 0))
        return event.is_set()


def wall_clock_iso() -> str:
    """UTC wall-clock time for logs and file names, never for measuring."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
