"""Our own links between two processes, driven through the public transport API as a lane would."""

from __future__ import annotations

import threading
from fractions import Fraction
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from bench.carriers import TIMEOUT_MS, Factory, look
from engine.caps import Caps
from engine.clock import MonotonicClock
from engine.frame import Frame
from engine.plan import PlannedEdge
from engine.timing import Stamp
from engine.transport.epochs import EpochTable
from engine.transport.hub import Hub
from engine.transport.keys import KeyRing
from engine.transport.outbox import Outbox

EDGE = PlannedEdge(
    id="camera.out->screen.frames",
    producer="camera",
    producer_port="out",
    consumer="screen",
    consumer_port="frames",
    arrival="each",
    queue=8,
    policy="block",
    window=8,
    link="inproc",
)
CAPS = Caps(media="video", pix_fmt="rgb24", dtype="uint8", width=1280, height=720, device="cpu")
THIRTIETH = Fraction(1, 30)


def picture_frame(picture: np.ndarray, seq: int) -> Frame:
    """The picture as a source would send it, captured now."""
    return Frame(picture, CAPS, Stamp("camera", seq, THIRTIETH, MonotonicClock().now_ns(), seq))


class OwnLink:
    """One edge between two hubs."""

    def __init__(self, link: Literal["ipc", "tcp"], folder: Path, keys: Path | None = None) -> None:
        self._edge = msgspec.structs.replace(EDGE, link=link)
        self._folder = folder
        self._keys = keys
        self._clock = MonotonicClock()
        self._bell = threading.Event()
        self._seq = 0

    def open_sender(self) -> str:
        self._hub = self._make_hub("sender")
        self._outbox = Outbox(self._edge, self._clock)
        self._hub.serve(self._outbox)
        self._hub.start()
        if self._edge.link == "tcp":
            return self._hub.listen("tcp://127.0.0.1:0")
        return self._hub.listen(f"ipc://{self._folder / 'own.sock'}")

    def open_receiver(self, address: str) -> None:
        self._hub = self._make_hub("receiver")
        self._hub.start()
        self._inbox = self._hub.connect(self._edge, address)
        self._inbox.on_ready = self._bell.set

    def _make_hub(self, name: str) -> Hub:
        keys = KeyRing.load(self._keys) if self._keys else None
        return Hub(name, self._clock, EpochTable(), keys=keys)

    def send(self, picture: np.ndarray) -> None:
        self._outbox.put(picture_frame(picture, self._seq), lambda: False)
        self._seq += 1

    def receive(self) -> None:
        while True:
            self._bell.clear()
            item = self._inbox.take()
            if isinstance(item, Frame):
                look(item.data)
                return
            if item is None and not self._bell.wait(TIMEOUT_MS / 1e3):
                message = f"{self._edge.link}: no frame came"
                raise TimeoutError(message)

    def close(self) -> None:
        self._hub.stop()

    def unsettled(self) -> int:
        """Frames that were sent and not consumed, for whatever reason."""
        stats = self._outbox.stats()
        return stats.sent - stats.consumed


def own(folder: Path, keys: Path) -> dict[str, Factory]:
    """By figure name."""
    return {
        "ipc": lambda: OwnLink("ipc", folder),
        "tcp": lambda: OwnLink("tcp", folder),
        "curve": lambda: OwnLink("tcp", folder, keys),
    }
