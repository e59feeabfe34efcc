"""The sending process of `bench links`: opens every carrier once, then sends what it is told to."""

from __future__ import annotations

import multiprocessing
import sys
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from bench.carriers import FRAME_BYTES, SHAPE, Carrier, Factory, foreign, free_port, mp_queue
from bench.own_links import OwnLink, own
from engine.runtime.worker import SWITCH_INTERVAL_S
from engine.transport.keys import new_keypair

PATIENCE_S = 60.0
POOL = 8  # pictures that a decoder's pool goes round with


@dataclass(frozen=True)
class Parcel:
    """What both processes need to make the same carriers."""

    folder: Path
    port: int
    queue: Any
    source_bytes: int


@dataclass(frozen=True)
class Taken:
    """One measurement: `count` frames from the sender's memory into the receiver's hands."""

    count: int
    seconds: float
    sender_cpu_s: float
    receiver_cpu_s: float

    @property
    def fps(self) -> float:
        return self.count / self.seconds

    @property
    def cpu_ms(self) -> float:
        """CPU time of both processes, all threads, per frame."""
        return (self.sender_cpu_s + self.receiver_cpu_s) * 1e3 / self.count


def pictures(total_bytes: int) -> np.ndarray:
    """[N, 720, 1280, 3] uint8, every page touched."""
    count = max(2, -(-total_bytes // FRAME_BYTES))
    made = np.empty((count, *SHAPE), np.uint8)
    for index in range(count):
        made[index] = index % 251
    return made


def carriers(parcel: Parcel) -> dict[str, Factory]:
    return own(parcel.folder, parcel.folder / "keys") | foreign(
        parcel.folder, parcel.port, parcel.queue
    )


class Pair:
    """Two processes with every carrier open between them."""

    def __init__(self, folder: Path, source_bytes: int) -> None:
        context = multiprocessing.get_context("spawn")
        new_keypair(folder / "keys", "bench")
        parcel = Parcel(folder, free_port(), mp_queue(), source_bytes)
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, parcel), daemon=True)
        self._process.start()
        theirs.close()
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        addresses: dict[str, str] = self._hear()
        self._ends = {name: make() for name, make in carriers(parcel).items()}
        for name, end in self._ends.items():
            end.open_receiver(addresses[name])

    def measure(self, name: str, count: int, *, cold: bool = False) -> Taken:
        """Have the other process send `count` frames by this carrier; take them all.

        They come from a pool of a few pictures, as from a decoder, or `cold`: from memory that no
        cache holds.
        """
        end = self._ends[name]
        before = self._cpu_s(name)
        own_before, start = time.process_time(), time.perf_counter()
        self._pipe.send((name, count, cold))
        for _ in range(count):
            end.receive()
        seconds, own_after = time.perf_counter() - start, time.process_time()
        self._hear()  # told when the last was handed over; it may have had work after that
        return Taken(count, seconds, self._cpu_s(name) - before, own_after - own_before)

    def _cpu_s(self, name: str) -> float:
        self._pipe.send((name, 0, False))
        used: float = self._hear()
        return used

    @property
    def names(self) -> list[str]:
        return list(self._ends)

    def finish(self) -> int:
        """Tell the other process to end; how many frames of our own links were never settled."""
        self._pipe.send(("", 0, False))
        unsettled: int = self._hear()
        return unsettled

    def _hear(self) -> Any:
        if not self._pipe.poll(PATIENCE_S):
            message = "the sending process does not answer"
            raise TimeoutError(message)
        return self._pipe.recv()

    def __enter__(self) -> Pair:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for end in self._ends.values():
            end.close()
        if error is not None:
            self._process.terminate()
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()


def serve(pipe: Connection, parcel: Parcel) -> None:
    """The other process: `(name, count, cold)` sends frames and is answered by its CPU seconds."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    source = pictures(parcel.source_bytes)
    ends: dict[str, Carrier] = {name: make() for name, make in carriers(parcel).items()}
    pipe.send({name: end.open_sender() for name, end in ends.items()})
    place = 0
    while (request := pipe.recv())[0]:
        name, count, cold = request
        for _ in range(count):
            place = (place + 1) % (len(source) if cold else POOL)
            ends[name].send(source[place])
        pipe.send(time.process_time())
    pipe.send(_unsettled([end for end in ends.values() if isinstance(end, OwnLink)]))
    for end in ends.values():
        end.close()


def _unsettled(links: list[OwnLink]) -> int:
    """What is left once the last credits had a second to come back."""
    end = time.monotonic() + 1.0
    while (left := sum(link.unsettled() for link in links)) and time.monotonic() < end:
        time.sleep(0.01)
    return left
