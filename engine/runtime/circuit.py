"""A node that fails too often is opened like a circuit: frames pass it by while it rests."""

from __future__ import annotations

from collections import deque

FAILURES = 5  # this many ...
WINDOW_NS = 10_000_000_000  # ... within this time open the circuit
REST_NS = 2_000_000_000  # the first rest; each further one is twice as long
LONGEST_REST_NS = 60_000_000_000


class Circuit:
    """Counts failures on a time axis that the caller chooses (clock when live, pts in a file)."""

    def __init__(self) -> None:
        self._failures: deque[int] = deque(maxlen=FAILURES)
        self._until_ns: int | None = None
        self._rest_ns = REST_NS

    def failed(self, now_ns: int) -> bool:
        """Book a failure. True when it opened the circuit."""
        self._failures.append(now_ns)
        full = len(self._failures) == FAILURES
        if not full or now_ns - self._failures[0] > WINDOW_NS:
            return False
        self._failures.clear()
        self._until_ns = now_ns + self._rest_ns
        self._rest_ns = min(self._rest_ns * 2, LONGEST_REST_NS)
        return True

    def is_open(self, now_ns: int) -> bool:
        """Whether frames still pass the node by. After the rest one failure more opens it again."""
        if self._until_ns is None:
            return False
        if now_ns < self._until_ns and self._until_ns - now_ns <= LONGEST_REST_NS:
            return True
        self._until_ns = None
        self._failures.extend([now_ns] * (FAILURES - 1))
        return False
