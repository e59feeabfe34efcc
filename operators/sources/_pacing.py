"""Paces a source by pts."""

from __future__ import annotations

import threading

from engine import OpContext

STOP_CHECK_NS = 100_000_000  # how late a waiting source may notice that the run ends


class Pacer:
    """Waits until frames are due, counted from the first one, so that errors do not add up."""

    def __init__(self, ctx: OpContext) -> None:
        self._ctx = ctx
        self._never = threading.Event()
        self._start_ns: int | None = None  # clock at pts 0

    def wait_until(self, pts_ns: int) -> None:
        """Return when the frame at `pts_ns` is due, or when the run is to end."""
        clock = self._ctx.clock
        if self._start_ns is None:
            self._start_ns = clock.now_ns() - pts_ns
        due_ns = self._start_ns + pts_ns
        while (left_ns := due_ns - clock.now_ns()) > 0 and not self._ctx.stopping():
            clock.wait(self._never, min(left_ns, STOP_CHECK_NS))
