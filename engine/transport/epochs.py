"""The epoch of every stream, as far as this worker has been told. Raised by one authority only."""

from __future__ import annotations

import threading

from engine.timing import Stamp


class EpochTable:
    """Thread-safe. A stream nobody has raised is in epoch 0."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._epochs: dict[str, int] = {}

    def raise_to(self, stream_id: str, epoch: int) -> None:
        """Epochs only rise: an older value is ignored."""
        with self._lock:
            self._epochs[stream_id] = max(epoch, self._epochs.get(stream_id, 0))

    def current(self, stream_id: str) -> int:
        return self._epochs.get(stream_id, 0)

    def is_stale(self, stamp: Stamp) -> bool:
        return stamp.epoch < self._epochs.get(stamp.stream_id, 0)
