"""Calls that operators have asked for at a moment of the clock, because nothing may come in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

PASSED_OVER = 8  # times that what came in goes before a call that is due


class Call(NamedTuple):
    """What is called for a stream; it gives what `process` gives."""

    moment_ns: int
    stream_id: str
    make: Callable[[], Any]


class Calls:
    """Of one lane, in whose thread all of it is used. One call per stream."""

    def __init__(self) -> None:
        self._waiting: dict[str, Call] = {}
        self._passed_over = 0

    def ask(self, call: Call) -> None:
        """Have it made; it takes the place of an earlier one of its stream."""
        self._waiting[call.stream_id] = call

    def forget(self, stream_id: str) -> None:
        """The stream is over, or not the one it was."""
        self._waiting.pop(stream_id, None)

    def clear(self) -> None:
        """Nobody is there to be called."""
        self._waiting.clear()

    def take(self, now_ns: int, *, busy: bool) -> Call | None:
        """The call that has been due longest.

        What comes in goes first, for it may be what the call would stand in for; but a lane that is
        always `busy` with other streams makes the calls of this one all the same.
        """
        due = min(self._waiting.values(), default=None, key=lambda call: call.moment_ns)
        if due is None or due.moment_ns > now_ns:
            self._passed_over = 0
            return None
        if busy and self._passed_over < PASSED_OVER:
            self._passed_over += 1
            return None
        self._passed_over = 0
        return self._waiting.pop(due.stream_id)

    def wait_ns(self, now_ns: int) -> int | None:
        """How long until one is due; None: until something else happens."""
        if not self._waiting:
            return None
        return max(min(call.moment_ns for call in self._waiting.values()) - now_ns, 0)
