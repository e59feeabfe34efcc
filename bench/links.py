"""How fast 1280x720x3 frames cross: our links, other people's and plain memory, in one run."""

from __future__ import annotations

import math
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil  # type: ignore[import-untyped]

from bench.carriers import look
from bench.common import interleave, median, put, quantile, ratios, say
from bench.own_links import EDGE, picture_frame
from bench.peer import Pair, Taken, pictures
from bench.result import Bar, at_least, at_most, exactly, l3_bytes
from engine.clock import MonotonicClock
from engine.transport.epochs import EpochTable
from engine.transport.inproc import InprocInbox
from engine.transport.outbox import Outbox

COLD = ("ipc", "imagezmq")  # also sent from memory that no cache holds
FIRST_COUNT = 30  # frames of the pass that tells how many fill the time
HOP_PAUSE_S = 0.0005  # between two frames: a hop is measured into a lane that waits


def run(quick: bool) -> tuple[dict[str, float], tuple[Bar, ...]]:
    """Rounds of all carriers in turn. CPU is that of both processes with all their threads."""
    rounds, seconds = (3, 0.2) if quick else (9, 0.6)
    source_bytes = source_set_bytes()
    memory = Memory(source_bytes)
    with tempfile.TemporaryDirectory(prefix="frameloom-bench-") as folder:
        say("links: opening every carrier between two processes")
        with Pair(Path(folder), source_bytes) as pair:
            carries = {name: Carry(pair, name, seconds) for name in pair.names}
            carries |= {f"{name}_cold": Carry(pair, name, seconds, cold=True) for name in COLD}
            cases: dict[str, Callable[[], float]] = dict(carries)
            cases["memcpy_dram"] = memory.cold_fps
            cases["memcpy_warm"] = memory.warm_fps
            cases["inproc"] = lambda: inproc_fps(memory.source[0], seconds)
            fps = interleave(cases, rounds, budget_s=15.0 if quick else math.inf)
            unsettled = pair.finish()
    hops_us = inproc_hops_us(memory.source[0], 500 if quick else 3000)
    figures: dict[str, float] = {"source_set_mib": round(source_bytes / 2**20)}
    for name, values in fps.items():
        put(figures, f"{name}_fps", values)
    for name, carry in carries.items():
        put(figures, f"{name}_cpu_ms", [taken.cpu_ms for taken in carry.taken[1:]])
    for percent in (50, 99):
        figures[f"inproc_hop_p{percent}_us"] = round(quantile(hops_us, percent), 1)
    return figures, bars(fps, figures, unsettled)


def bars(fps: dict[str, list[float]], figures: dict[str, float], unsettled: int) -> tuple[Bar, ...]:
    """The issue's lines. A ratio is the median of the rounds' ratios."""

    def ratio(ours: str, theirs: str) -> float:
        return median(ratios(fps[ours], fps[theirs]))

    return (
        at_least("ipc_vs_imagezmq", 3.0, ratio("ipc", "imagezmq")),
        at_least("ipc_cold_vs_memcpy_dram", 0.6, ratio("ipc_cold", "memcpy_dram")),
        at_least("tcp_vs_zmq_tcp_view", 0.9, ratio("tcp", "zmq_tcp_view")),
        at_least("curve_vs_zmq_curve_view", 0.9, ratio("curve", "zmq_curve_view")),
        at_most("inproc_hop_p50_us", 100, figures["inproc_hop_p50_us"]),
        at_most("ipc_cpu_ms", 0.4, figures["ipc_cpu_ms"]),
        exactly("frames_unsettled", 0, unsettled),
    )


def source_set_bytes() -> int:
    """More than the last cache holds, so that every frame comes from memory; at most 1/16 of it."""
    most = int(psutil.virtual_memory().total) // 16
    return min(max(l3_bytes() * 9 // 8, 64 << 20), most)


class Carry:
    """One case: as many frames as fill `seconds`, learned in the first call."""

    def __init__(self, pair: Pair, name: str, seconds: float, *, cold: bool = False) -> None:
        self.taken: list[Taken] = []
        self._pair = pair
        self._name = name
        self._seconds = seconds
        self._cold = cold
        self._count = FIRST_COUNT

    def __call__(self) -> float:
        taken = self._pair.measure(self._name, self._count, cold=self._cold)
        self._count = max(FIRST_COUNT, int(taken.fps * self._seconds))
        self.taken.append(taken)
        return taken.fps


class Memory:
    """memcpy between two sets that are each larger than the caches, and inside one cache."""

    def __init__(self, total_bytes: int) -> None:
        self.source = pictures(total_bytes)
        self._target = pictures(total_bytes)

    def cold_fps(self) -> float:
        start = time.perf_counter()
        for source, target in zip(self.source, self._target, strict=True):
            np.copyto(target, source)
        return len(self.source) / (time.perf_counter() - start)

    def warm_fps(self) -> float:
        count = len(self.source)
        start = time.perf_counter()
        for _ in range(count):
            np.copyto(self._target[0], self.source[0])
        return count / (time.perf_counter() - start)


class Inproc:
    """Our link within one process: an outbox, the inbox on it, and a thread that takes."""

    def __init__(self, pause_s: float, count: int) -> None:
        self.ages_ns: list[int] = []
        self._pause_s = pause_s
        self._count = count
        self._clock = MonotonicClock()
        self._outbox = Outbox(EDGE, self._clock)
        self._inbox = InprocInbox(self._outbox, EpochTable(), self._clock)
        self._bell = threading.Event()
        self._inbox.on_ready = self._bell.set

    def run(self, picture: np.ndarray) -> float:
        """Send `count` frames through; the seconds it took."""
        taker = threading.Thread(target=self._take, name="bench-inproc")
        start = time.perf_counter()
        taker.start()
        for seq in range(self._count):
            if self._pause_s:
                time.sleep(self._pause_s)
            self._outbox.put(picture_frame(picture, seq), lambda: False)
        self._outbox.close()
        taker.join()
        return time.perf_counter() - start

    def _take(self) -> None:
        while not self._inbox.closed:
            self._bell.clear()
            item = self._inbox.take()
            if item is None:
                self._bell.wait()
            else:
                self.ages_ns.append(self._clock.now_ns() - item.stamp.capture_ns)  # type: ignore[union-attr]
                look(item.data)  # type: ignore[union-attr]


def inproc_fps(picture: np.ndarray, seconds: float) -> float:
    count = int(20_000 * seconds)
    return count / Inproc(0.0, count).run(picture)


def inproc_hops_us(picture: np.ndarray, count: int) -> list[float]:
    """From `put` in one thread to the frame in another that was asleep."""
    link = Inproc(HOP_PAUSE_S, count)
    link.run(picture)
    return [age_ns / 1e3 for age_ns in link.ages_ns]
