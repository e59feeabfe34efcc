"""One edge over each kind of link, both ends in this process, on a clock that stands still."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import zmq

from engine.caps import Caps
from engine.clock import FakeClock
from engine.frame import Frame, Item
from engine.plan import PlannedEdge
from engine.telemetry.stats import EdgeStats
from engine.timing import Stamp
from engine.transport.epochs import EpochTable
from engine.transport.hub import Hub
from engine.transport.inproc import InprocInbox
from engine.transport.keys import KeyRing
from engine.transport.link import Inbox
from engine.transport.outbox import Outbox

KINDS = ("inproc", "ipc", "tcp", "curve")
REMOTE = KINDS[1:]
PATIENCE_S = 10.0
START_NS = 10**12
EDGE = PlannedEdge(
    id="camera.out->screen.frames",
    producer="camera",
    producer_port="out",
    consumer="screen",
    consumer_port="frames",
    arrival="each",
    queue=4,
    policy="block",
    window=2,
    link="inproc",
)


def frame(
    seq: int, *, stream_id: str = "cam", epoch: int = 0, age_ms: int = 0, size_px: int = 8
) -> Frame:
    """A picture whose every byte is its seq."""
    caps = Caps(
        media="video", pix_fmt="gray", dtype="uint8", width=size_px, height=size_px, device="cpu"
    )
    captured_ns = START_NS - age_ms * 1_000_000
    stamp = Stamp(stream_id, seq, Fraction(1, 30), captured_ns, seq, epoch)
    return Frame(np.full((size_px, size_px), seq % 256, np.uint8), caps, stamp)


def eventually(claim: Callable[[], bool]) -> None:
    """Wait until something holds that another thread or process makes true."""
    deadline = time.monotonic() + PATIENCE_S
    pause = threading.Event()
    while not claim():
        assert time.monotonic() < deadline, "it never came to hold"
        pause.wait(0.001)


def never() -> bool:
    """Nobody cancels."""
    return False


class Link:
    """The producer's end at once; the consumer's end from `join` on."""

    def __init__(self, kind: str, folder: Path, **settings: Any) -> None:
        link = "tcp" if kind == "curve" else kind
        self.kind = kind
        self.edge = msgspec.structs.replace(EDGE, link=link, **settings)
        self.clock = FakeClock(START_NS)
        self.epochs = EpochTable()
        self.outbox = Outbox(self.edge, self.clock)
        self.keys = KeyRing(*_pair()) if kind == "curve" else None
        self.producer: Hub | None = None
        self.endpoint = ""
        self._consumers: list[Hub] = []
        self.bell = threading.Event()
        if kind != "inproc":
            self.producer = self._hub("producer")
            self.producer.serve(self.outbox)
            self.endpoint = self.producer.listen(_address(link, folder))

    def join(self) -> Link:
        """A consumer comes: the first one, or the next in its place."""
        self.inbox: Inbox
        if self.producer is None:
            self.inbox = InprocInbox(self.outbox, self.epochs, self.clock)
        else:
            self._consumers.append(self._hub(f"consumer{len(self._consumers)}"))
            self.inbox = self._consumers[-1].connect(self.edge, self.endpoint)
        self.inbox.on_ready = self.bell.set
        return self

    def put(self, *items: Item) -> None:
        for item in items:
            assert self.outbox.put(item, never, PATIENCE_S)

    def take(self) -> Item:
        """The next item, waited for."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            self.bell.clear()
            item = self.inbox.take()
            if item is not None:
                return item
            assert self.bell.wait(deadline - time.monotonic()), "nothing came"

    def take_frame(self) -> Frame:
        item = self.take()
        assert isinstance(item, Frame), item
        return item

    def take_all(self) -> list[Item]:
        """Everything up to the end of the edge."""
        items: list[Item] = []
        deadline = time.monotonic() + PATIENCE_S
        while not self.inbox.closed:
            self.bell.clear()
            item = self.inbox.take()
            if item is not None:
                items.append(item)
            elif not self.inbox.closed:
                assert self.bell.wait(deadline - time.monotonic()), "the end never came"
        return items

    def stats(self) -> EdgeStats:
        stats = self.outbox.stats()
        assert stats.balanced, stats
        return stats

    def settled(self) -> EdgeStats:
        """The books once nothing is under way."""
        eventually(lambda: self.stats().in_flight == 0)
        return self.stats()

    def close(self) -> None:
        for hub in (*self._consumers, self.producer):
            if hub is not None:
                hub.stop()

    def _hub(self, name: str) -> Hub:
        hub = Hub(name, self.clock, self.epochs, keys=self.keys)
        hub.start()
        return hub


def _address(link: str, folder: Path) -> str:
    return "tcp://127.0.0.1:0" if link == "tcp" else f"ipc://{folder / 'data.sock'}"


def _pair() -> tuple[bytes, bytes, frozenset[bytes]]:
    public, secret = zmq.curve_keypair()
    return public, secret, frozenset([public])
