"""The consumer's end of an edge from another worker."""

from __future__ import annotations

import secrets
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from engine.clock import Clock
from engine.errors import TransportError
from engine.frame import Discontinuity, Frame, Item, StreamEnd, Watermark
from engine.plan import PlannedEdge
from engine.spec import Cause
from engine.telemetry.stats import Histogram
from engine.transport import wire
from engine.transport.epochs import EpochTable
from engine.transport.link import reject_cause, watermark_of
from engine.transport.slab import SlabView

RELEASES_AT_ONCE = 4  # fewer than the sender has spare slots


class RemoteInbox:
    """Filled by the I/O thread, emptied by the lane. Acks collect until the former sends them."""

    def __init__(
        self,
        edge: PlannedEdge,
        epochs: EpochTable,
        clock: Clock,
        wake: Callable[[RemoteInbox], None],
        reconnect: Callable[[RemoteInbox, str], None],
    ) -> None:
        self.edge = edge
        self.on_ready: Callable[[], None] = _nothing
        self.session = ""
        self._epochs = epochs
        self._clock = clock
        self._wake = wake
        self._reconnect = reconnect
        self._items: deque[tuple[Item, tuple[SlabView, wire.Slot] | None]] = deque()
        self._lock = threading.Lock()
        self._released: deque[tuple[str, int, int]] = deque()
        self._streams: set[str] = set()
        self._slabs: dict[str, SlabView] = {}
        self._closed = False
        self._close_told = False
        self._clear_outcomes()

    # ---- the lane's side

    def take(self) -> Item | None:
        if not self._items:
            return None
        item, lease = self._items.popleft()
        if not isinstance(item, Frame):
            return item
        now_ns = self._clock.now_ns()
        cause = reject_cause(item, self.edge, self._epochs, now_ns)
        if cause is None and lease is not None and not _intact(lease):
            cause = "peer_lost"
        with self._lock:
            self._credits += 1
            if cause is not None:
                self._drops[cause] = self._drops.get(cause, 0) + 1
            else:
                self._consumed += 1
                self._age.add(now_ns - item.stamp.capture_ns)
        if self._credits * 2 >= self.edge.window:
            self._wake(self)  # below that the sender is not waiting, and the next ack will do
        return item if cause is None else watermark_of(item)

    def dropped(self, cause: Cause) -> None:
        with self._lock:
            self._consumed -= 1
            self._drops[cause] = self._drops.get(cause, 0) + 1
        self._wake(self)

    @property
    def closed(self) -> bool:
        return self._closed and not self._items

    def close(self) -> None:
        self._closed = True
        self.on_ready()

    def reconnect(self, endpoint: str) -> None:
        """The producer was started again and listens there."""
        self._reconnect(self, endpoint)

    # ---- the I/O thread's side

    def begin(self, *, again: bool) -> bytes:
        """The hello of a new session. Streams that were under way are told of the break."""
        with self._lock:
            self._clear_outcomes()
            self._released.clear()
        self._slabs.clear()
        self.session = secrets.token_hex(8)
        if again:
            for stream_id in sorted(self._streams):
                self._items.append((Discontinuity(stream_id, "PEER_RESTARTED"), None))
            self.on_ready()
        return wire.encode(wire.Hello(self.edge.id, self.session, self.edge.window))

    def receive(self, parts: list[Any]) -> None:
        """One message from the producer; what cannot be read is refused and counted."""
        try:
            message = wire.decode_to_consumer(parts[0])
            if message.edge != self.edge.id:
                raise TransportError(f"for edge {message.edge!r}")
            if message.session != self.session:
                return
            if isinstance(message, wire.FrameHeader):
                self._receive_frame(message, parts)
            else:
                self._receive_signal(message)
        except TransportError:
            with self._lock:
                self._malformed += 1
            self._wake(self)
            return
        self.on_ready()

    def outcomes(self) -> bytes | None:
        """The ack that is due, or None."""
        with self._lock:
            released = []
            while self._released:
                released.append(self._released.popleft())
            closing = self._closed and not self._close_told
            counted = self._credits or self._consumed or self._drops or self._malformed
            if not (released or counted or closing):
                return None
            ack = wire.Ack(
                self.edge.id, self.session, self._credits, self._consumed, self._drops,
                released, self._age, self._malformed, closing,
            )  # fmt: skip
            self._close_told = self._close_told or closing
            self._clear_outcomes()
        return wire.encode(ack)

    def _receive_frame(self, header: wire.FrameHeader, parts: list[Any]) -> None:
        nbytes = wire.checked_nbytes(header)
        lease = None
        if header.slot is not None:
            view = self._slab(header.slot.slab)
            lease = (view, header.slot)
            array = view.array(
                header.slot.offset, header.dtype, header.shape, self._releaser(header.slot)
            )
        elif len(parts) == 2 and len(parts[1]) == nbytes:
            array = np.frombuffer(parts[1], header.dtype).reshape(header.shape)
        else:
            raise TransportError(f"{nbytes} bytes of pixels were announced and did not come")
        frame = wire.read_frame(header, array, self._clock.now_ns())
        self._streams.add(frame.stamp.stream_id)
        self._items.append((frame, lease))

    def _receive_signal(self, message: wire.SignalHeader) -> None:
        signal = message.signal
        if signal is None:
            self._closed = True
            self._wake(self)
            return
        if isinstance(signal, StreamEnd):
            self._streams.discard(signal.stream_id)
        if isinstance(signal, Watermark) and self._items:
            last = self._items[-1][0]
            if isinstance(last, Watermark) and last.stream_id == signal.stream_id:
                self._items.pop()
        self._items.append((signal, None))

    def _slab(self, name: str) -> SlabView:
        if name not in self._slabs:
            if len(self._slabs) >= 4:  # sizes changed again and again: the old ones are unlinked
                self._slabs.pop(next(iter(self._slabs)))
            self._slabs[name] = SlabView(name)
        return self._slabs[name]

    def _releaser(self, slot: wire.Slot) -> Callable[[], None]:
        lease = (slot.slab, slot.index, slot.generation)
        session = self.session

        def release() -> None:
            if session == self.session:
                self._released.append(lease)
                if len(self._released) >= RELEASES_AT_ONCE:
                    self._wake(self)

        return release

    def _clear_outcomes(self) -> None:
        self._credits = 0
        self._consumed = 0
        self._malformed = 0
        self._drops: dict[str, int] = {}
        self._age = Histogram()


def _intact(lease: tuple[SlabView, wire.Slot]) -> bool:
    view, slot = lease
    return view.generation(slot.index) == slot.generation


def _nothing() -> None:
    """Nobody is listening yet."""
