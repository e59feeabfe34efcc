"""Frames on a (simulated) GPU from worker to worker: pixels stay where they are, leases hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from engine.caps import Caps
from engine.clock import FakeClock
from engine.device.array import DeviceArray
from engine.device.opening import Devices
from engine.device.scope import DeviceScope
from engine.device.simulated import SimulatedDevice
from engine.frame import Frame, Watermark
from engine.transport import wire
from engine.transport.epochs import EpochTable
from engine.transport.outbox import Outbox
from engine.transport.receiver import RemoteInbox
from engine.transport.sender import SPARE_SLOTS, Sender
from tests.runtime.fakes import frame, planned_edge

SHAPE = (4, 4)
ON_GPU = Caps(media="video", pix_fmt="gray", dtype="uint8", width=4, height=4, device="cuda:0")


class Link:
    """Both ends of an edge and what goes between them, in the test's own hands."""

    def __init__(self, memory_bytes: int = 1 << 20, link: str = "ipc") -> None:
        self.device = SimulatedDevice(memory_bytes=memory_bytes)
        self.devices = Devices(lambda name: self.device)
        self.maker = DeviceScope(self.device, self.device.stream(0))
        self.user = DeviceScope(self.device, self.device.stream(0))
        edge = planned_edge(link=link, window=2)
        clock = FakeClock(10**12)
        self.outbox = Outbox(edge, clock)
        self.sender = Sender(self.outbox, clock, self.devices, lambda sender: None)
        self.inbox = RemoteInbox(
            edge, EpochTable(), clock, self.devices, lambda inbox: None, lambda inbox, to: None
        )
        self.greet()

    def greet(self, *, again: bool = False) -> None:
        hello = wire.decode_to_producer(self.inbox.begin(again=again))
        assert isinstance(hello, wire.Hello)
        self.sender.hello(b"reader", hello)

    def made(self, seq: int, rows: int = 4) -> Frame:
        array = self.device.empty((rows, 4), "uint8", self.maker.stream)
        given = frame(seq).with_data(array, ON_GPU)

        def fill() -> Frame:
            self.device.launch(lambda: array.values.fill(seq), writes=[array])
            return given

        return self.maker.call(fill, [])

    def carry(self) -> None:
        """Everything that waits at either end, to the other."""
        while (message := self.sender.pop()) is not None:
            self.inbox.receive(message[1])
        if (ack := self.inbox.outcomes()) is not None:
            told = wire.decode_to_producer(ack)
            assert isinstance(told, wire.Ack)
            self.sender.ack(told)
        self.sender.advance()

    def send(self, given: Frame) -> None:
        self.outbox.put(given, lambda: False)
        self.carry()

    def take(self) -> Any:
        got = self.inbox.take()
        self.carry()
        return got

    def seen(self, got: Frame) -> int:
        """What a kernel of the reader finds in a frame."""
        found: list[int] = []

        def look() -> None:
            array = got.data.array
            self.device.launch(lambda: found.extend(np.unique(array.values)), reads=[array])

        self.user.call(look, [got])
        (value,) = found
        return int(value)


@pytest.fixture
def link() -> Iterator[Link]:
    link = Link()
    yield link
    link.sender.peer_gone()
    link.sender.close()


def test_pixels_arrive_without_passing_through_the_host(link: Link) -> None:
    for seq in range(30):
        link.send(link.made(seq))
        got = link.take()
        assert isinstance(got.data, DeviceArray)
        assert (got.data.shape, got.caps) == (SHAPE, ON_GPU)
        assert link.seen(got) == seq
        del got
        link.carry()
    done = [entry.what for entry in link.device.trace]
    assert "download" not in done
    assert "upload" not in done
    assert done.count("copy") == 30
    assert link.outbox.slab_misses == 0


def test_slots_come_back_when_the_reader_is_done_and_not_before(link: Link) -> None:
    held = []
    for seq in range(2 + SPARE_SLOTS):
        link.send(link.made(seq))
        held.append(link.take())
    first = link.sender._slab
    del held[0]
    link.carry()
    link.send(link.made(100))
    held.append(link.take())
    assert link.sender._slab is first, "the slot that came back was used"
    assert [link.seen(got) for got in held[:3]] == [1, 2, 3]
    assert link.seen(held[-1]) == 100


def test_a_reader_that_holds_every_slot_gets_another_slab(link: Link) -> None:
    held = []
    for seq in range(3 + SPARE_SLOTS):
        link.send(link.made(seq))
        held.append(link.take())
    assert [link.seen(got) for got in held] == list(range(3 + SPARE_SLOTS))
    held.clear()
    link.carry()
    assert link.sender._retired == [], "the full slab went when its last frame did"


def test_larger_frames_get_a_larger_slab(link: Link) -> None:
    for seq, rows in enumerate((4, 9, 4)):
        link.send(link.made(seq, rows))
        got = link.take()
        assert got.data.shape == (rows, 4)
        assert link.seen(got) == seq


def test_a_full_device_loses_the_frame_in_the_books_not_the_run(link: Link) -> None:
    given = link.made(0)
    link.device.memory_bytes = link.device.used_bytes
    link.send(given)
    assert isinstance(link.take(), Watermark)
    stats = link.outbox.stats()
    assert (stats.sent, stats.drops) == (1, {"quarantined": 1})
    link.device.memory_bytes = 1 << 20
    link.send(link.made(1))
    assert link.seen(link.take()) == 1


def test_a_reader_that_is_gone_gives_its_slots_back(link: Link) -> None:
    link.send(link.made(0))
    held = link.take()
    used = link.device.used_bytes
    link.sender.peer_gone()
    link.greet(again=True)
    link.device.synchronize()  # a process that is gone has no work under way
    for seq in range(1, 30):
        link.send(link.made(seq))
        while not isinstance(got := link.take(), Frame):
            pass
        assert link.seen(got) == seq
        del got
        link.carry()
    assert link.device.used_bytes <= used + 16 * 30
    del held


def test_a_slot_that_tells_nothing_is_refused_and_counted(link: Link) -> None:
    link.send(link.made(0))
    link.take()
    slab = link.sender._slab
    assert slab is not None
    for slot in range(slab.slots):
        slab._bytes[slot][:] = 0xC1  # never valid in msgpack
    link.inbox._places.clear()
    link.send(link.made(1))
    assert isinstance(link.take(), Watermark)
    assert link.outbox.malformed == 1


def test_over_tcp_a_gpu_frame_is_refused() -> None:
    link = Link(link="tcp")
    link.send(link.made(0))
    assert isinstance(link.take(), Watermark)
    assert link.outbox.stats().drops == {"quarantined": 1}


def test_types_that_only_devices_have_need_a_device() -> None:
    header = wire.FrameHeader(
        "e", "s", wire.WireStamp("a", 0, (1, 25), 0, 0, 0, None, False, None, False),
        wire.msgspec.Raw(b"\x80"), "bfloat16", (2, 2), None,
    )  # fmt: skip
    with pytest.raises(wire.TransportError, match="bfloat16 outside of a device"):
        wire.checked_nbytes(header)
