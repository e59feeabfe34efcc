"""Changes of an operator's tunables that wait for the frame from which they hold."""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec

from engine.contract import Operator


class Tunes:
    """Added by the worker's thread, applied by the lane's, between two calls of `process`."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[str, Any, int]] = deque()

    def add(self, name: str, value: Any, from_seq: int) -> None:
        """A value, already validated, for frames with `seq >= from_seq`."""
        self._waiting.append((name, value, from_seq))

    def apply(self, operator: Operator[Any], seq: int) -> None:
        """Change the config of the operator as far as it is time for the frame `seq`."""
        for _ in range(len(self._waiting)):
            name, value, from_seq = self._waiting.popleft()
            if seq < from_seq:
                self._waiting.append((name, value, from_seq))
                continue
            operator.config = msgspec.structs.replace(operator.config, **{name: value})
