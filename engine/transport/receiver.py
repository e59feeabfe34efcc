"""The consumer's end of an edge from another worker."""

from __future__ import annotations

import secrets
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from engine.clock import Clock
from engine.device.opening import Devices
from engine.errors import TransportError
from engine.frame import Discontinuity, Frame, Item, Signal, StreamEnd
from engine.plan import PlannedEdge
from engine.spec import Cause
from engine.telemetry.stats import Histogram
from engine.transport import wire
from engine.transport.device_slab import DeviceSlabView
from engine.transport.epochs import EpochTable
from engine.transport.link import reject_cause, tidied, watermark_of
from engine.transport.slab import SlabView
from engine.transport.watch import Connection

SLABS_KEPT = 4  # mapped; arrays on others keep those mapped
RELEASES_AT_ONCE = 4  # fewer than the sender has spare slots


class RemoteInbox:
    """Filled by the I/O thread, emptied by the lane. Acks collect until the former sends them."""

    def __init__(
        self,
        edge: PlannedEdge,
        epochs: EpochTable,
        clock: Clock,
        devices: Devices,
        wake: Callable[[RemoteInbox], None],
        reconnect: Callable[[RemoteInbox, str], None],
    ) -> None:
        self.edge = edge
        self.on_ready: Callable[[], None] = _nothing
        self.session = ""
        self.connection: Connection = "CONNECTING"  # kept up to date where it is lasting
        self._epochs = epochs
        self._clock = clock
        self._devices = devices
        self._wake = wake
        self._reconnect = reconnect
        self._items: deque[tuple[Item, tuple[SlabView, wire.Slot] | None]] = deque()
        self._lock = threading.Lock()
        self._released: deque[tuple[str, int, int]] = deque()
        self._waiting = 0  # frames that the lane has not taken yet
        self._taken = 0  # frames of this session given to the lane
        self._streams: set[str] = set()
        self._slabs: dict[str, SlabView] = {}
        self._places: dict[str, DeviceSlabView] = {}  # of those whose pixels lie on a device
        self._closed = False
        self._close_told = False
        self._clear_outcomes()

    # ---- the lane's side

    def take(self) -> Item | None:
        with self._lock:
            if not self._items:
                return None
            item, lease = self._items.popleft()
            if not isinstance(item, Frame):
                return item
            self._waiting -= 1
            now_ns = self._clock.now_ns()
            cause = reject_cause(item, self.edge, self._epochs, now_ns)
            if cause is None and lease is not None and not _intact(lease):
                cause = "peer_lost"
            self._credits += 1
            if cause is None:
                self._taken += 1
                self._consumed += 1
                self._age.add(now_ns - item.stamp.capture_ns)
            else:
                self._count(cause)
            sender_waits = self._credits * 2 >= self.edge.window
        if sender_waits:  # below that it is not waiting, and the next ack will do
            self._wake(self)
        return item if cause is None else watermark_of(item)

    def dropped(self, cause: Cause) -> None:
        with self._lock:
            if not self._taken:  # in an earlier session, whose books are closed
                return
            self._taken -= 1
            self._consumed -= 1
            self._count(cause)
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
        """The hello of a new session. Streams that were under way are told of the break.

        Frames of the old session that nobody has taken go with it: its books call them lost.
        """
        with self._lock:
            self._clear_outcomes()
            self._released.clear()
            self._taken = self._waiting = 0
            self._close_told = False
            self._items = deque(entry for entry in self._items if not isinstance(entry[0], Frame))
            if again:
                breaks = (Discontinuity(name, "PEER_RESTARTED") for name in sorted(self._streams))
                self._items.extend((item, None) for item in breaks)
            self.session = secrets.token_hex(8)
        self._slabs.clear()
        self._places.clear()
        if again:
            self.on_ready()
        return wire.encode(wire.Hello(self.edge.id, self.session, self.edge.window))

    def receive(self, parts: list[Any]) -> None:
        """One message from the producer; what cannot be read is refused and counted."""
        try:
            message = wire.decode_to_consumer(parts[0])
            if message.edge != self.edge.id:
                raise TransportError(f"for edge {message.edge!r}")
        except TransportError:
            self._refuse(None)
            return
        if message.session != self.session:
            return
        if isinstance(message, wire.SignalHeader):
            self._receive_signal(message)
        elif self._waiting >= self.edge.window:  # it has no credit: a peer that does not keep to it
            self._refuse(None)
        else:
            try:
                self._receive_frame(message, parts)
            except TransportError:
                self._refuse(message)

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
        try:
            if header.slot is not None:
                view = self._slab(header.slot)
                lease = (view, header.slot)
                array = self._array(view, header.slot, header)
            elif len(parts) == 2 and len(parts[1]) == nbytes:
                array = np.frombuffer(parts[1], header.dtype).reshape(header.shape)
            else:
                raise TransportError(f"{nbytes} bytes of pixels were announced and did not come")
        except ValueError as error:
            raise TransportError(f"no array of shape {header.shape}: {error}") from error
        frame = wire.read_frame(header, array, self._clock.now_ns())
        with self._lock:
            self._streams.add(frame.stamp.stream_id)
            self._waiting += 1
            self._items.append((frame, lease))

    def _array(self, view: SlabView, slot: wire.Slot, header: wire.FrameHeader) -> Any:
        released = self._releaser(slot)
        if not slot.on_device:
            return view.array(slot.offset, header.dtype, header.shape, released)
        place = self._places.get(slot.slab)
        if place is None:
            place = self._places[slot.slab] = DeviceSlabView(view, self._devices)
        return place.array((slot.index, slot.offset), header.dtype, header.shape, released)

    def _refuse(self, header: wire.FrameHeader | None) -> None:
        """Count a message that cannot be read; if it was a frame of ours, also in the books."""
        mark = None
        with self._lock:
            self._malformed += 1
            if header is not None:
                self._credits += 1
                self._count("quarantined")
                mark = wire.mark_of(header.stamp)
        if header is not None and header.slot is not None:
            self._releaser(header.slot)()
        if mark is not None:
            self._append(mark)
        self._wake(self)

    def _receive_signal(self, message: wire.SignalHeader) -> None:
        signal = message.signal
        if signal is None:
            self._closed = True
            self._wake(self)
            return
        if isinstance(signal, StreamEnd):
            self._streams.discard(signal.stream_id)
        self._append(signal)

    def _append(self, signal: Signal) -> None:
        """Behind the last frame only the newest mark and break of a stream are kept."""
        with self._lock:
            run: list[Item] = [signal]
            while self._items and not isinstance(self._items[-1][0], Frame):
                run.append(self._items.pop()[0])
            self._items.extend((item, None) for item in tidied(run[::-1]))

    def _count(self, cause: str) -> None:
        self._drops[cause] = self._drops.get(cause, 0) + 1

    def _slab(self, slot: wire.Slot) -> SlabView:
        wire.check_slot(slot)
        view = self._slabs.get(slot.slab)
        if view is None:
            if len(self._slabs) >= SLABS_KEPT:  # sizes changed again and again
                oldest = next(iter(self._slabs))
                self._slabs.pop(oldest)
                self._places.pop(oldest, None)
            view = self._slabs[slot.slab] = SlabView(slot.slab)
        view.generation(slot.index)  # there is such a slot
        return view

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
