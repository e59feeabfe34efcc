"""What an operator is given in `open`: resources, state per stream, stamps, reports, outputs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol, TypeVar

from msgspec.structs import replace

from engine.clock import Clock
from engine.contract import Mode, OnDevice, Operator, PerStream
from engine.device.opening import Devices
from engine.device.scope import DeviceScope
from engine.errors import EngineError, OperatorError
from engine.frame import Frame
from engine.runtime.calls import Call, Calls
from engine.state import StreamStates
from engine.telemetry.stats import EdgeStats
from engine.timing import Stamp

S = TypeVar("S")
Account = tuple[str, Callable[[], EdgeStats]]


class Host(Protocol):
    """What a context needs of the worker it lives in."""

    clock: Clock
    devices: Devices
    mode: Mode
    out_dir: Path
    incarnation: int
    latency_budget_ns: int | None

    def epoch_of(self, stream_id: str) -> int: ...

    def raise_epoch(self, stream_id: str, reason: str) -> bool:
        """Have the one authority raise a stream's epoch, and wait for it; False: it did not."""

    def report(self, code: str, node: str, stream_id: str, message: str) -> None: ...
    def publish(self, topic: str, payload: bytes) -> None: ...


class LaneContext:
    """The engine's OpContext."""

    def __init__(self, host: Host, node: str, stream_id: str, device: str, threads: int) -> None:
        self.node = node
        self.stream_id = stream_id
        self.device = device
        self.gpu: OnDevice | None = None
        self._scope: DeviceScope | None = None
        self.threads = threads
        self.clock = host.clock
        self.mode: Mode = host.mode
        self.exits = ExitStack()
        self.stop = threading.Event()
        self.breaks: list[str] = []
        self._states: list[StreamStates[Any]] = []
        # Edges out of the graph: what earlier lives counted, and who knows what this one counts.
        # Replaced as a whole: the worker reads them from another thread.
        self._books: tuple[dict[str, EdgeStats], tuple[Account, ...]] = ({}, ())
        self._host = host
        self._own_epochs: dict[str, int] = {}  # by stream, the last one that was asked for here
        self.calls: Calls | None = None  # of a lane that makes them
        self._seq = 0

    def enter(self, manager: AbstractContextManager[S]) -> S:
        return self.exits.enter_context(manager)

    def per_stream(self, make: Callable[[str], S]) -> PerStream[S]:
        states = StreamStates(make)
        self._states.append(states)
        return states

    def asked_for(self, stamp: Stamp) -> bool:
        """Whether the operator itself asked for the epoch that a frame is of."""
        return self._own_epochs.get(stamp.stream_id) == stamp.epoch

    def forget(self, stream_id: str) -> None:
        """Drop what the operator keeps of a stream."""
        self._own_epochs.pop(stream_id, None)
        if self.calls is not None:
            self.calls.forget(stream_id)
        for states in self._states:
            states.forget(stream_id)

    def open(self, operator: Operator[Any]) -> None:
        """`operator.open`, on a GPU with a stream of its own, held until `release`."""
        if self.device != "cpu":
            lent = self._host.devices.scope(self.device, operator.stream_priority)
            self.gpu = self._scope = self.exits.enter_context(lent)
        self.run(lambda: operator.open(self))

    def run(self, call: Callable[[], S], frames: Iterable[Frame] = ()) -> S:
        """`call()`: on a GPU after what `frames` wait for, on the node's stream."""
        return call() if self._scope is None else self._scope.call(call, frames)

    def release(self) -> None:
        """Give back what was entered and made: the operator is closed, or did not open."""
        self._states.clear()
        if self.calls is not None:
            self.calls.clear()
        self.exits.close()
        self.gpu = self._scope = None
        self._books = {name: stats.lost() for name, stats in self.edges().items()}, ()

    def stamp(self, pts: int, time_base: Any, capture_ns: int | None = None) -> Stamp:
        captured = self.clock.now_ns() if capture_ns is None else capture_ns
        budget = self._host.latency_budget_ns
        seq, self._seq = self._seq, self._seq + 1
        return Stamp(
            stream_id=self.stream_id,
            pts=pts,
            time_base=time_base if isinstance(time_base, Fraction) else Fraction(time_base),
            capture_ns=captured,
            seq=seq,
            epoch=self._host.epoch_of(self.stream_id),
            deadline_ns=None if budget is None else captured + budget,
        )

    @property
    def next_seq(self) -> int:
        """Of the next stamp."""
        return self._seq

    def discontinuity(self, cause: str) -> None:
        self.breaks.append(cause)

    def new_epoch(self, reason: str, stream_id: str | None = None) -> int:
        stream = self.stream_id if stream_id is None else stream_id
        if not self._host.raise_epoch(stream, reason) and not self.stop.is_set():
            message = f"no new epoch of '{stream}' ({reason}): the supervisor did not answer"
            raise OperatorError("NO_EPOCH", message, permanent=False)
        epoch = self._own_epochs[stream] = self._host.epoch_of(stream)
        return epoch

    def call_at(self, moment_ns: int, stream_id: str, call: Callable[[], Any]) -> None:
        if self.calls is None:
            message = "only nodes with inputs in live graphs are called at a moment of the clock"
            raise EngineError(f"{message}; a file graph goes by pts")
        self.calls.ask(Call(moment_ns, stream_id, call))

    def report(self, code: str, message: str) -> None:
        self._host.report(code, self.node, self.stream_id, message)

    def publish(self, topic: str, payload: bytes) -> None:
        self._host.publish(topic, payload)

    def account(self, name: str, stats: Callable[[], EdgeStats]) -> None:
        past, now = self._books
        self._books = past, (*now, (f"{self.node}:{name}", stats))

    def edges(self) -> dict[str, EdgeStats]:
        """The books of edges that lead out of the graph, over all lives of the operator."""
        past, accounts = self._books
        total = dict(past)
        for name, read in accounts:
            stats = replace(read(), edge=name)
            if name in past:
                stats.add_past(past[name])
            total[name] = stats
        return total

    def output_path(self, path: str) -> Path:
        target = self._host.out_dir / path
        if self._host.incarnation:  # never over what an earlier life of this worker wrote
            target = target.with_stem(f"{target.stem}-r{self._host.incarnation}")
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def stopping(self) -> bool:
        return self.stop.is_set()
