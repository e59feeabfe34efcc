"""A consumer in a process of its own, made to be killed: takes frames and holds on to them.

python -m tests.contract.peer ENDPOINT LINK WINDOW COUNT [KEYS FOLDER]
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import msgspec

from engine.clock import MonotonicClock
from engine.frame import Frame
from engine.transport.epochs import EpochTable
from engine.transport.hub import Hub
from engine.transport.keys import KeyRing
from tests.contract.ends import EDGE


def main(endpoint: str, link: str, window: str, count: str, folder: str = "") -> None:
    keys = KeyRing.load(Path(folder)) if folder else None
    edge = msgspec.structs.replace(EDGE, link=link, window=int(window))
    hub = Hub("peer", MonotonicClock(), EpochTable(), keys=keys)
    hub.start()
    bell = threading.Event()
    inbox = hub.connect(edge, endpoint)
    inbox.on_ready = bell.set
    held: list[Frame] = []
    while len(held) < int(count):
        bell.clear()
        item = inbox.take()
        if isinstance(item, Frame):
            held.append(item)
        elif item is None:
            bell.wait()
    sys.stdout.write("held\n")
    sys.stdout.flush()
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
