"""The producer's end of an edge to another worker: credits, the slab, what is under way."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from engine.clock import Clock
from engine.errors import TransportError
from engine.frame import Frame
from engine.transport import wire
from engine.transport.outbox import Outbox
from engine.transport.slab import Slab

SPARE_SLOTS = 8  # beyond the window: frames that the consumer still holds after it returned credit


class Sender:
    """Takes from an outbox while the consumer has credit. Any thread may `advance` it."""

    def __init__(self, outbox: Outbox, clock: Clock, wake: Callable[[Sender], None]) -> None:
        self.outbox = outbox
        self.edge = outbox.edge
        self.address: bytes | None = None  # of the consumer, once it said hello
        self._clock = clock
        self._wake = wake
        self._lock = threading.Lock()
        self._session = ""
        self._credits = 0
        self._ready: deque[list[Any]] = deque()
        self._slab: Slab | None = None
        self._retired: list[Slab] = []
        self._told_closed = False
        self._close_seen = False
        outbox.on_ready = self._on_ready

    def hello(self, address: bytes, hello: wire.Hello) -> None:
        """A new session: what the old one had under way is lost, the window starts afresh."""
        with self._lock:
            self._drop_session()
            self.address = address
            self._session = hello.session
            self._credits = hello.credits
        self._on_ready()

    def ack(self, ack: wire.Ack) -> None:
        """Outcomes and credits from the consumer. Those of an older session mean nothing."""
        with self._lock:
            if ack.session != self._session:
                return
            self._credits += ack.credits
            self.outbox.settle(ack.consumed, ack.drops, ack.age)
            self.outbox.malformed += ack.malformed
            self._close_seen = self._close_seen or ack.closed
            for name, slot, generation in ack.released:
                for slab in (self._slab, *self._retired):
                    if slab is not None and slab.name == name:
                        slab.release(slot, generation)
            self._unlink_idle()

    def peer_gone(self) -> None:
        """The consumer's process has ended, for certain."""
        with self._lock:
            self._drop_session()

    def advance(self) -> None:
        """Make messages of what may be sent. The thread that finds the lock taken need not wait."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            while self.address is not None:
                item = self.outbox.take(frames=self._credits > 0)
                if item is None:
                    break
                if isinstance(item, Frame):
                    self._credits -= 1
                    self._prepare(item)
                else:
                    header = wire.SignalHeader(self.edge.id, self._session, item)
                    self._ready.append([wire.encode(header)])
            if self.address is not None and self.outbox.closed and not self._told_closed:
                self._told_closed = True
                self._ready.append(
                    [wire.encode(wire.SignalHeader(self.edge.id, self._session, None))]
                )
        finally:
            self._lock.release()

    def pop(self) -> list[Any] | None:
        """The next message to send, without the address."""
        return self._ready.popleft() if self._ready else None

    @property
    def over(self) -> bool:
        """The consumer has seen the end of the edge, or there never will be one to see it."""
        return self._close_seen or self.outbox.abandoned

    def close(self) -> None:
        for slab in (self._slab, *self._retired):
            if slab is not None:
                slab.unlink()

    def _on_ready(self) -> None:
        self.advance()
        self._wake(self)

    def _prepare(self, frame: Frame) -> None:
        session, edge = self._session, self.edge.id
        try:
            if self.edge.link == "tcp":
                header = wire.frame_header(frame, edge, session, None, self._clock.now_ns())
                self._ready.append([header, frame.data])
                return
            slot = self._write(frame) if frame.nbytes else None
            if slot is not None:
                self._ready.append([wire.frame_header(frame, edge, session, slot, None)])
                return
            if frame.nbytes:
                self.outbox.slab_misses += 1
            header = wire.frame_header(frame, edge, session, None, None)
            self._ready.append([header, frame.data])
        except TransportError:  # too many records for a header: refused and counted
            self._credits += 1
            self.outbox.malformed += 1
            self.outbox.settle(0, {"quarantined": 1})

    def _write(self, frame: Frame) -> wire.Slot | None:
        if self._slab is None or self._slab.slot_bytes < frame.nbytes:
            try:
                slab = Slab(self.edge.window + SPARE_SLOTS, frame.nbytes)
            except TransportError as error:  # no room: told to the person, and copied meanwhile
                self.outbox.slab_error = str(error)
                return None
            if self._slab is not None:
                self._retired.append(self._slab)
            self._slab = slab
            self._unlink_idle()
        lease = self._slab.lease()
        if lease is None:
            return None
        index, generation = lease
        self._slab.write(index, frame.data)
        return wire.Slot(self._slab.name, index, generation, self._slab.offset(index))

    def _drop_session(self) -> None:
        self.address = None
        self._credits = 0
        self._session = ""
        self._ready.clear()
        self._told_closed = False
        self.outbox.lost()
        for slab in (self._slab, *self._retired):
            if slab is not None:
                slab.reclaim()
        self._unlink_idle()

    def _unlink_idle(self) -> None:
        for slab in [slab for slab in self._retired if slab.idle]:
            slab.unlink()
            self._retired.remove(slab)
