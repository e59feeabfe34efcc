"""The producer's end of an edge to another worker: credits, the slab, what is under way."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from engine.clock import Clock
from engine.device.array import DeviceArray
from engine.device.opening import Devices
from engine.errors import TransportError
from engine.frame import Frame, Signal
from engine.transport import wire
from engine.transport.device_slab import DeviceSlab
from engine.transport.link import watermark_of
from engine.transport.outbox import Outbox
from engine.transport.slab import Slab

SHM_RETRY_NS = 10_000_000_000  # after a slab could not be had
SPARE_SLOTS = 8  # beyond the window: frames that the consumer still holds after it returned credit


class Sender:
    """Takes from an outbox while the consumer has credit. Any thread may `advance` it."""

    def __init__(
        self, outbox: Outbox, clock: Clock, devices: Devices, wake: Callable[[Sender], None]
    ) -> None:
        self.outbox = outbox
        self.edge = outbox.edge
        self.address: bytes | None = None  # of the consumer, once it said hello
        self._clock = clock
        self._devices = devices
        self._wake = wake
        self._lock = threading.Lock()
        self._session = ""
        self._window = 0
        self._credits = 0
        self._shm_retry_ns = 0
        self._ready: deque[list[Any]] = deque()
        self._slab: Slab | None = None
        self._retired: list[Slab] = []
        self._told_closed = False
        self._close_seen = False
        outbox.on_ready = self._on_ready

    def hello(self, address: bytes, hello: wire.Hello) -> None:
        """A new session: what the old one had under way is lost, the window starts afresh."""
        if hello.credits < 1:
            raise TransportError(f"a window of {hello.credits}")
        with self._lock:
            self._drop_session(reader_is_gone=False)
            self.address = address
            self._session = hello.session
            self._window = self._credits = min(hello.credits, self.edge.window)
        self._on_ready()

    def ack(self, ack: wire.Ack) -> None:
        """Outcomes and credits from the consumer. Those of an older session mean nothing."""
        with self._lock:
            if ack.session != self._session:
                return
            wire.check_ack(ack, self._window - self._credits)
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
            self._drop_session(reader_is_gone=True)

    def detach(self, address: bytes) -> None:
        """That address cannot be reached: frames wait here again until somebody says hello."""
        with self._lock:
            if self.address == address:
                self.address = None

    def advance(self) -> None:
        """Make messages of what may be sent. The thread that finds the lock taken need not wait."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            while self.address is not None:
                item = self.outbox.take(frames=self._credits > 0, more=True)
                if item is None:
                    break
                if isinstance(item, Frame):
                    self._credits -= 1
                    self._prepare(item)
                else:
                    self._tell(item)
            if self.address is not None and self.outbox.closed and not self._told_closed:
                self._told_closed = True
                self._tell(None)
        finally:
            self._lock.release()

    def pop(self) -> tuple[bytes, list[Any]] | None:
        """The consumer's address and the next message for it."""
        address = self.address
        try:  # not under the lock: a lane may hold it while it copies pixels
            return None if address is None else (address, self._ready.popleft())
        except IndexError:
            return None

    def push_back(self, address: bytes, parts: list[Any]) -> None:
        """The message could not be sent now: it is the next one again."""
        with self._lock:
            if self.address == address:
                self._ready.appendleft(parts)

    @property
    def waiting(self) -> bool:
        """Messages are ready to be sent."""
        return bool(self._ready)

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
        try:
            self._ready.append(self._message(frame))
        except TransportError:  # it cannot be put on the wire: refused and counted
            self._credits += 1
            self.outbox.malformed += 1
            self.outbox.settle(0, {"quarantined": 1})
            self._tell(watermark_of(frame))

    def _message(self, frame: Frame) -> list[Any]:
        edge, session = self.edge.id, self._session
        if isinstance(frame.data, DeviceArray):
            return self._device_message(frame, frame.data)
        if self.edge.link == "tcp":
            header = wire.frame_header(frame, edge, session, None, self._clock.now_ns())
            return [header, np.ascontiguousarray(frame.data)]
        slab = self._slab_for(frame) if frame.nbytes else None
        slot = _lease(slab) if slab is not None else None
        if slab is None or slot is None:
            self.outbox.slab_misses += frame.nbytes > 0
            header = wire.frame_header(frame, edge, session, None, None)
            return [header, np.ascontiguousarray(frame.data)]
        try:
            header = wire.frame_header(frame, edge, session, slot, None)
        except TransportError:
            slab.release(slot.index, slot.generation)
            raise
        slab.write(slot.index, frame.data)
        return [header]

    def _device_message(self, frame: Frame, data: DeviceArray) -> list[Any]:
        """The pixels stay on the device: another slot, or another slab, rather than a copy."""
        if self.edge.link == "tcp":
            raise TransportError(f"{self.edge.id}: memory of {data.device} ends with this host")
        slab = self._device_slab(data)
        lease = slab.lease()
        if lease is None:  # the reader holds them all
            self._retire()
            slab = self._device_slab(data)
            lease = slab.lease()
        assert lease is not None
        slot = wire.Slot(slab.name, *lease, slab.offset(lease[0]), on_device=True)
        try:
            header = wire.frame_header(frame, self.edge.id, self._session, slot, None)
            slab.write(slot.index, data)
        except TransportError:
            slab.release(slot.index, slot.generation)
            raise
        return [header]

    def _device_slab(self, data: DeviceArray) -> Slab:
        if self._slab is None or not self._slab.fits(data):
            slots = self.edge.window + SPARE_SLOTS
            slab = DeviceSlab(self._devices, data.device, slots, data.nbytes)
            self._retire()
            self._slab = slab
            self._unlink_idle()
        return self._slab

    def _retire(self) -> None:
        if self._slab is not None:
            self._retired.append(self._slab)
            self._slab = None

    def _tell(self, signal: Signal | None) -> None:
        try:
            self._ready.append([wire.signal_header(signal, self.edge.id, self._session)])
        except TransportError:  # a time that no message can hold: the next one will do
            self.outbox.malformed += 1

    def _slab_for(self, frame: Frame) -> Slab | None:
        """A slab whose slots are large enough; None while there is no room for one."""
        if self._slab is not None and self._slab.fits(frame.data):
            return self._slab
        now_ns = self._clock.now_ns()
        if now_ns < self._shm_retry_ns:
            return None
        try:
            slab = Slab(self.edge.window + SPARE_SLOTS, frame.nbytes)
        except TransportError as error:  # told to the person; frames are copied meanwhile
            self.outbox.slab_error = str(error)
            self._shm_retry_ns = now_ns + SHM_RETRY_NS
            return None
        self._retire()
        self._slab = slab
        self._unlink_idle()
        return slab

    def _drop_session(self, *, reader_is_gone: bool) -> None:
        """Slots that somebody may still read are never written again: their slab is given up."""
        self.address = None
        self._credits = 0
        self._session = ""
        self._ready.clear()
        self._told_closed = False
        self.outbox.lost()
        slabs = [slab for slab in (self._slab, *self._retired) if slab is not None]
        if reader_is_gone:
            for slab in slabs:
                slab.reclaim()
        else:
            for slab in slabs:
                if not slab.idle:
                    slab.unlink()
            self._retired = [slab for slab in self._retired if slab.idle]
            if self._slab is not None and not self._slab.idle:
                self._slab = None
        self._unlink_idle()

    def _unlink_idle(self) -> None:
        for slab in [slab for slab in self._retired if slab.idle]:
            slab.unlink()
            self._retired.remove(slab)


def _lease(slab: Slab) -> wire.Slot | None:
    lease = slab.lease()
    return None if lease is None else wire.Slot(slab.name, *lease, slab.offset(lease[0]))
