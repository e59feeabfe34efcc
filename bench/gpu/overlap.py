"""Do nodes on streams of their own run beside each other?

Four nodes in a row, as lanes run them (`DeviceScope`): upload, two that compute, download. Each
takes about the same time alone. Frame after frame through all of them must take little more than
the slowest node alone (bar: 1.15 times), and the host must never wait but in the last node.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from fractions import Fraction
from queue import SimpleQueue
from typing import Any

import numpy as np
import torch

from bench.common import median
from bench.gpu.timing import host_waits
from bench.result import Bar, at_most, exactly
from engine.caps import Caps
from engine.device.opening import Devices
from engine.device.scope import DeviceScope
from engine.device.staging import StagingRing
from engine.frame import Frame
from engine.timing import Stamp

FRAMES, ROUNDS, WINDOW = 60, 5, 3
SHAPE = (8, 1080, 1920, 3)
CAPS = Caps(media="video", dtype="uint8", device="cuda:0")
Step = Callable[[Frame], Frame]


def run() -> tuple[dict[str, float], tuple[Bar, ...]]:
    devices = Devices()
    with (
        devices.scope("cuda:0", 0) as entry,
        devices.scope("cuda:0", 0) as first,
        devices.scope("cuda:0", 0) as second,
        devices.scope("cuda:0", 0) as rim,
    ):
        source = np.zeros(SHAPE, np.uint8)
        steps = _steps((entry, first, second, rim), source)
        alone = {name: median([_timed(steps, (name,)) for _ in range(ROUNDS)]) for name in steps}
        whole = median([_timed(steps, tuple(steps)) for _ in range(ROUNDS)])
        waits = _host_waits(steps)
    figures = {f"{name}_ms": round(1e3 * took / FRAMES, 3) for name, took in alone.items()}
    figures |= {"graph_ms": round(1e3 * whole / FRAMES, 3), "host_waits": float(waits)}
    ratio = whole / max(alone.values())
    return figures | {"overlap_ratio": round(ratio, 3)}, (
        at_most("overlap_ratio", 1.15, round(ratio, 3)),
        exactly("host_waits", 0, waits),
    )


def _steps(scopes: tuple[DeviceScope, ...], source: Any) -> dict[str, Step]:
    entry, first, second, rim = scopes
    up, down = StagingRing(entry.device, WINDOW), StagingRing(rim.device, WINDOW)

    def work(data: Any) -> torch.Tensor:
        """Some passes over the pixels: about as long as their way over the bus."""
        values: torch.Tensor = data.array.to(torch.float16)
        for _ in range(24):
            values = values * 1.01 + 0.5
        return values.to(torch.uint8)

    return {
        "upload": lambda f: entry.call(
            lambda: f.with_data(up.upload(source, entry.stream), CAPS), [f]
        ),
        "first": lambda f: first.call(lambda: f.with_data(work(f.data)), [f]),
        "second": lambda f: second.call(lambda: f.with_data(work(f.data)), [f]),
        "download": lambda f: rim.call(
            lambda: f.with_data(down.download(f.data, rim.stream, "uint8")), [f]
        ),
    }


def _timed(steps: dict[str, Step], names: tuple[str, ...]) -> float:
    """Seconds for all frames through these steps, each in a thread of its own."""
    given = steps["upload"](Frame(np.zeros(1, np.uint8), CAPS, Stamp("a", 0, Fraction(1), 0, 0)))
    queues: list[SimpleQueue[Frame | None]] = [SimpleQueue() for _ in range(len(names) + 1)]
    room = threading.Semaphore(WINDOW)

    def lane(step: Step, inward: SimpleQueue[Frame | None], out: SimpleQueue[Frame | None]) -> None:
        while (frame := inward.get()) is not None:
            out.put(step(frame))
        out.put(None)

    threads = [
        threading.Thread(target=lane, args=(steps[name], queues[at], queues[at + 1]))
        for at, name in enumerate(names)
    ]
    torch.cuda.synchronize()
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    feeder = threading.Thread(target=_feed, args=(queues[0], room, given))
    feeder.start()
    while queues[-1].get() is not None:
        room.release()
    torch.cuda.synchronize()
    took = time.perf_counter() - begin
    for thread in (*threads, feeder):
        thread.join()
    return took


def _feed(queue: SimpleQueue[Frame | None], room: threading.Semaphore, frame: Frame) -> None:
    for _ in range(FRAMES):
        room.acquire()
        queue.put(frame)
    queue.put(None)


def _host_waits(steps: dict[str, Step]) -> int:
    """How often the host waited for the device while a node computed."""
    given = steps["upload"](Frame(np.zeros(1, np.uint8), CAPS, Stamp("a", 0, Fraction(1), 0, 0)))
    for _ in range(3):
        steps["first"](given)

    def work() -> None:
        again = given
        for _ in range(20):
            again = steps["upload"](again)
            steps["second"](steps["first"](again))

    # Not for events: with all slots under way the upload ring waits for its oldest copy.
    return host_waits(work).blocking
