"""The epoch of every stream, as far as this worker has been told. Raised by one authority only."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from engine.timing import Stamp

LOOK_S = 0.1  # how late a waiting lane may notice that the run is aborted


class EpochTable:
    """Thread-safe. A stream nobody has raised is in epoch 0."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._epochs: dict[str, int] = {}

    def raise_to(self, stream_id: str, epoch: int) -> None:
        """Epochs only rise: an older value is ignored."""
        with self._changed:
            self._epochs[stream_id] = max(epoch, self._epochs.get(stream_id, 0))
            self._changed.notify_all()

    def wait_beyond(
        self, stream_id: str, epoch: int, timeout_s: float, cancel: Callable[[], bool]
    ) -> bool:
        """Wait until the stream is in a later epoch than that; False when it did not come to be."""
        end_s = time.monotonic() + timeout_s
        with self._changed:
            while self.current(stream_id) <= epoch:
                left_s = end_s - time.monotonic()
                if left_s <= 0 or cancel():
                    return False
                self._changed.wait(min(left_s, LOOK_S))
            return True

    def current(self, stream_id: str) -> int:
        return self._epochs.get(stream_id, 0)

    def is_stale(self, stamp: Stamp) -> bool:
        return stamp.epoch < self._epochs.get(stamp.stream_id, 0)
