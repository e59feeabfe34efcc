"""The link within one worker: a reference to the frame crosses, nothing is copied."""

from __future__ import annotations

from collections.abc import Callable

from engine.clock import Clock
from engine.frame import Frame, Item
from engine.spec import Cause
from engine.transport.epochs import EpochTable
from engine.transport.link import reject_cause, watermark_of
from engine.transport.outbox import Outbox


class InprocInbox:
    """Takes straight from the producer's outbox."""

    def __init__(self, outbox: Outbox, epochs: EpochTable, clock: Clock) -> None:
        self.edge = outbox.edge
        self._outbox = outbox
        self._epochs = epochs
        self._clock = clock

    @property
    def on_ready(self) -> Callable[[], None]:
        return self._outbox.on_ready

    @on_ready.setter
    def on_ready(self, ring: Callable[[], None]) -> None:
        self._outbox.on_ready = ring

    def take(self) -> Item | None:
        item = self._outbox.take()
        if not isinstance(item, Frame):
            return item
        cause = reject_cause(item, self.edge, self._epochs, self._clock.now_ns())
        if cause is not None:
            self._outbox.settle(0, {cause: 1})
            return watermark_of(item)
        self._outbox.consumed(item)
        return item

    def dropped(self, cause: Cause) -> None:
        self._outbox.settle(-1, {cause: 1})

    @property
    def closed(self) -> bool:
        return self._outbox.closed

    def close(self) -> None:
        """Producer and consumer live and die together."""
        self._outbox.close()
