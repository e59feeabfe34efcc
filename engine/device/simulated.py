"""A device without hardware that finds every missing wait: vector clocks over streams and host.

Work is carried out at once, in the order in which the host gives it, so results are right whatever
the order. What is checked instead is whether that order was *asked for*. Each stream, and the host,
is a thread with a vector clock (Mattern 1989; as in FastTrack, Flanagan and Freund, PLDI 2009,
section 2): events carry clocks, waits join them. Two accesses to the same memory, one of them a
write, must be ordered by the clocks; if they are not, some run on a real device would do them the
other way round, and `OrderingError` says which two. Memory that is given up goes to the next one
who asks, keeping its history, so a missing `keep` is found like a missing wait. An event counts as
reached only when the host has waited for it: the slowest device there can be.
"""

from __future__ import annotations

import itertools
import math
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.device.interface import U8, Replay, Stream
from engine.errors import EngineError, OperatorError

HOST = "host"
Clock = dict[str, int]


class OrderingError(EngineError, AssertionError):
    """Two accesses to the same memory that nothing puts in order, or a read of nothing."""


@dataclass(slots=True)
class Block:
    """A place in memory, and who touched it when. Its history outlives who it is given to."""

    nbytes: int
    home: str  # the stream it is ordered on; `host` for page-locked memory
    number: int
    wrote: tuple[str, int, str] | None = None  # who, when on its clock, doing what
    reads: dict[str, tuple[int, str]] = field(default_factory=dict)
    filled: bool = False  # since it was given out


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the trace."""

    what: str  # launch | wait | record | upload | download | copy | free | keep | capture | replay
    stream: str
    detail: str = ""


class SimulatedArray:
    """Device memory. `values` stands for what is in it; look at it through the device only."""

    def __init__(self, block: Block, values: npt.NDArray[Any], whole: Any = None) -> None:
        self.block = block
        self.values = values
        self._whole = whole  # of which it is a part: a block is given up with its whole array

    def __getitem__(self, part: slice) -> SimulatedArray:
        return SimulatedArray(self.block, self.values[part], self._whole or self)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.values.dtype

    @property
    def nbytes(self) -> int:
        return int(self.values.nbytes)


class SimulatedEvent:
    """A clock at a point of a stream."""

    def __init__(self, device: SimulatedDevice, clock: Clock) -> None:
        self._device = device
        self.clock = clock

    def done(self) -> bool:
        return _before(self.clock, self._device.clocks[HOST])

    def wait_host(self) -> None:
        self._device.trace.append(Entry("wait", HOST))
        _join(self._device.clocks[HOST], self.clock)


class SimulatedSharedEvent(SimulatedEvent):
    """One event seen from two processes, which both are this one."""

    handle = b""

    def record_on(self, stream: Any) -> None:
        self._device.trace.append(Entry("record", stream.name))
        self.clock = dict(self._device.clocks[stream.name])


class SimulatedStream:
    """A stream: a name, and the clock of what it was given."""

    def __init__(self, device: SimulatedDevice, name: str, priority: int) -> None:
        self.name = name
        self.priority = priority
        self.handle = hash(name)
        self._device = device

    def record(self) -> SimulatedEvent:
        device = self._device
        device.trace.append(Entry("record", self.name))
        return SimulatedEvent(device, dict(device.clocks[self.name]))

    def wait(self, event: Any) -> None:
        self._device.trace.append(Entry("wait", self.name))
        _join(self._device.clocks[self.name], event.clock)

    @contextmanager
    def use(self) -> Iterator[None]:
        before, self._device.current = self._device.current, self
        try:
            yield
        finally:
            self._device.current = before


class SimulatedDevice:
    """See the head of the module. One thread at a time."""

    def __init__(self, name: str = "cuda:0", memory_bytes: int = 1 << 30) -> None:
        self.name = name
        self.memory_bytes = memory_bytes
        self.used_bytes = 0
        self.trace: list[Entry] = []
        self.clocks: dict[str, Clock] = {HOST: {}}
        self.current: SimulatedStream | None = None
        self._numbers = itertools.count()
        self._idle: dict[tuple[str, int], list[Block]] = {}
        self._kept: dict[int, set[str]] = {}
        self._waiting: list[tuple[Block, list[SimulatedEvent]]] = []
        self.host_blocks: list[tuple[U8, Block]] = []  # all that was ever locked
        self._shared: dict[bytes, Any] = {}
        self._captured: list[Callable[[Stream], None]] | None = None

    # ---- what the engine asks

    def stream(self, priority: int) -> SimulatedStream:
        name = f"stream{sum(name != HOST for name in self.clocks)}"
        self.clocks[name] = {}
        return SimulatedStream(self, name, priority)

    def empty(self, shape: tuple[int, ...], dtype: str, stream: Any) -> SimulatedArray:
        block = self._take(math.prod(shape) * np.dtype(dtype).itemsize, stream.name)
        array = SimulatedArray(block, np.full(shape, 65, dtype))
        weakref.finalize(array, self._free, block).atexit = False
        return array

    def keep(self, array: Any, stream: Any) -> None:
        self.trace.append(Entry("keep", stream.name, f"block {array.block.number}"))
        self._kept.setdefault(array.block.number, set()).add(stream.name)

    def pinned(self, nbytes: int) -> U8:
        array = np.zeros(nbytes, np.uint8)
        block = Block(nbytes, HOST, next(self._numbers), filled=True)
        self.host_blocks.append((array, block))
        return array

    def upload(self, source: npt.NDArray[Any], target: Any, stream: Any) -> None:
        def run() -> None:
            target.values[...] = source.reshape(target.shape)

        host = self._host_block(source)
        self._give("upload", stream, [host], [target.block], run)

    def download(self, source: Any, target: npt.NDArray[Any], stream: Any) -> None:
        def run() -> None:
            target.reshape(source.shape)[...] = source.values

        host = self._host_block(target)
        self._give("download", stream, [source.block], [host], run)

    def copy(self, source: Any, target: Any, stream: Any) -> None:
        def run() -> None:
            target.values[...] = source.values

        self._give("copy", stream, [source.block], [target.block], run)

    def clear(self, array: Any, stream: Any) -> None:
        self._give("launch", stream, [], [array.block], lambda: array.values.fill(0))

    def capture(self, stream: Any, work: Callable[[], Any]) -> tuple[Any, Replay]:
        self.trace.append(Entry("capture", stream.name))
        self._captured = captured = list[Callable[[Stream], None]]()
        try:
            with stream.use():
                made = work()
        finally:
            self._captured = None

        def replay(on: Any) -> None:
            self.trace.append(Entry("replay", on.name))
            for step in captured:
                step(on)

        return made, replay

    def host_reads(self, array: npt.NDArray[Any]) -> None:
        self._access(self._host_block(array), HOST, "a read by the host", write=False)

    def host_writes(self, array: npt.NDArray[Any]) -> None:
        self._access(self._host_block(array), HOST, "a write by the host", write=True)

    def view(
        self, memory: Any, offset: int, shape: tuple[int, ...], dtype: str, owner: object
    ) -> SimulatedArray:
        flat, blocks = memory
        nbytes = math.prod(shape) * np.dtype(dtype).itemsize
        block = blocks.setdefault(offset, Block(nbytes, HOST, next(self._numbers)))
        values = flat[offset : offset + nbytes].view(dtype).reshape(shape)
        return SimulatedArray(block, values, owner)

    def share_memory(self, nbytes: int) -> tuple[Any, bytes]:
        if self.used_bytes + nbytes > self.memory_bytes:
            raise out_of_memory(self.name, nbytes, self.memory_bytes - self.used_bytes)
        self.used_bytes += nbytes
        blocks: dict[int, Block] = {}
        return self._share((np.zeros(nbytes, np.uint8), blocks))

    def unshare_memory(self, memory: Any) -> None:
        flat, blocks = memory
        for block in blocks.values():  # whoever still uses it races with this
            self._access(block, HOST, "the end of shared memory", write=True)
        self.used_bytes -= flat.nbytes

    def open_memory(self, handle: bytes) -> Any:
        return self._shared[handle]

    def share_event(self) -> SimulatedSharedEvent:
        event = SimulatedSharedEvent(self, {})
        _, event.handle = self._share(event)
        return event

    def open_event(self, handle: bytes) -> SimulatedSharedEvent:
        event: SimulatedSharedEvent = self._shared[handle]
        return event

    def _share(self, what: Any) -> tuple[Any, bytes]:
        handle = str(len(self._shared)).encode()
        self._shared[handle] = what
        return what, handle

    def explained(self, error: Exception) -> Exception:
        return error

    def synchronize(self) -> None:
        for clock in list(self.clocks.values()):
            _join(self.clocks[HOST], clock)

    # ---- what stands for kernels

    def launch(
        self,
        run: Callable[[], None],
        *,
        reads: Sequence[SimulatedArray] = (),
        writes: Sequence[SimulatedArray] = (),
        stream: Any = None,
    ) -> None:
        """A kernel on `stream`, or on the current one, that reads and writes whole arrays."""
        on = stream or self.current
        if on is None:
            raise OrderingError("a kernel was launched while no stream was current")
        self._give("launch", on, [a.block for a in reads], [a.block for a in writes], run)

    # ---- inside

    def _give(
        self,
        what: str,
        stream: Any,
        reads: Sequence[Block],
        writes: Sequence[Block],
        run: Callable[[], None],
    ) -> None:
        def step(on: Any) -> None:
            clock = self.clocks[on.name]
            _join(clock, self.clocks[HOST])  # it cannot begin before it was given
            clock[on.name] = clock.get(on.name, 0) + 1
            self.trace.append(Entry(what, on.name))
            for block in reads:
                self._access(block, on.name, f"a {what} on {on.name}", write=False)
            for block in writes:
                self._access(block, on.name, f"a {what} on {on.name}", write=True)
            run()

        if self._captured is None:
            step(stream)
            return
        self._captured.append(step)
        for block in writes:  # whoever reads it while capturing is given what will be there
            block.filled = True

    def _access(self, block: Block, who: str, doing: str, *, write: bool) -> None:
        clock = self.clocks[who]
        if who == HOST:
            clock[HOST] = clock.get(HOST, 0) + 1
        if not write and not block.filled:
            raise OrderingError(f"{doing} of block {block.number}, where nobody wrote anything")
        before = [block.wrote] if block.wrote else []
        if write:
            before += [(reader, tick, did) for reader, (tick, did) in block.reads.items()]
        for other, tick, did in before:
            if clock.get(other, 0) < tick:
                raise OrderingError(
                    f"{doing} and {did}: nothing orders them (block {block.number})"
                )
        if write:
            block.wrote, block.reads, block.filled = (who, clock[who], doing), {}, True
        else:
            block.reads[who] = (clock[who], doing)

    def _take(self, nbytes: int, home: str) -> Block:
        waiting, self._waiting = self._waiting, []
        for block, events in waiting:
            if all(event.done() for event in events):
                self._idle.setdefault((block.home, block.nbytes), []).append(block)
            else:
                self._waiting.append((block, events))
        idle = self._idle.get((home, nbytes))
        if idle:
            block = idle.pop()
            block.filled = False
            return block
        if self.used_bytes + nbytes > self.memory_bytes:
            raise out_of_memory(self.name, nbytes, self.memory_bytes - self.used_bytes)
        self.used_bytes += nbytes
        return Block(nbytes, home, next(self._numbers))

    def _free(self, block: Block) -> None:
        users = self._kept.pop(block.number, set()) - {block.home}
        self.trace.append(Entry("free", block.home, f"block {block.number}"))
        events = [SimulatedEvent(self, dict(self.clocks[name])) for name in sorted(users)]
        self._waiting.append((block, events))

    def _host_block(self, array: npt.NDArray[Any]) -> Block:
        for memory, block in self.host_blocks:
            if np.may_share_memory(memory, array):
                return block
        raise OrderingError(
            "host memory that is not page-locked: the copy would not be asynchronous"
        )


def out_of_memory(device: str, wanted_bytes: int, free_bytes: int) -> OperatorError:
    """What a full device is told as: it may have room later, so a live node tries again."""
    return OperatorError(
        "GPU_OUT_OF_MEMORY",
        f"{device} has {free_bytes >> 20} MiB free, {max(wanted_bytes >> 20, 1)} MiB were asked"
        " for: run fewer streams or smaller batches there, or another device",
        permanent=False,
    )


def _join(clock: Clock, other: Clock) -> None:
    for name, tick in other.items():
        clock[name] = max(clock.get(name, 0), tick)


def _before(clock: Clock, other: Clock) -> bool:
    return all(other.get(name, 0) >= tick for name, tick in clock.items())
