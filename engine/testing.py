"""Test an operator in five lines: `run_operator(op, frames)` opens it, feeds it and closes it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from engine.caps import Caps
from engine.clock import Clock, FakeClock
from engine.contract import Mode, OnDevice, Operator, PerStream
from engine.errors import EndOfStream, EngineError
from engine.frame import Batch, Frame, Latest
from engine.state import StreamStates
from engine.telemetry.stats import EdgeStats
from engine.timing import Stamp

S = TypeVar("S")


class HarnessContext:
    """The context of an operator that runs alone: records what it reports and publishes."""

    def __init__(
        self,
        *,
        mode: Mode = "file",
        output: Path | None = None,
        clock: Clock | None = None,
        stream_id: str = "test",
    ) -> None:
        self.node = "node"
        self.mode: Mode = mode
        self.device = "cpu"
        self.gpu: OnDevice | None = None
        self.stream_id = stream_id
        self.threads = 1
        self.clock: Clock = clock or FakeClock()
        self.reports: list[tuple[str, str]] = []
        self.published: list[tuple[str, bytes]] = []
        self.accounts: dict[str, Callable[[], EdgeStats]] = {}
        self.breaks: list[str] = []
        self.epochs: dict[str, int] = {}  # of streams that asked for a new one
        self.reasons: list[str] = []
        self.calls: dict[str, tuple[int, Callable[[], Any]]] = {}  # by stream: when, and what
        self.stop = threading.Event()
        self.exits = ExitStack()
        self.states: list[StreamStates[Any]] = []
        self._output = output
        self._seq = 0

    def enter(self, manager: AbstractContextManager[S]) -> S:
        return self.exits.enter_context(manager)

    def per_stream(self, make: Callable[[str], S]) -> PerStream[S]:
        states = StreamStates(make)
        self.states.append(states)
        return states

    def stamp(self, pts: int, time_base: Any, capture_ns: int | None = None) -> Stamp:
        seq, self._seq = self._seq, self._seq + 1
        captured = self.clock.now_ns() if capture_ns is None else capture_ns
        epoch = self.epochs.get(self.stream_id, 0)
        return Stamp(self.stream_id, pts, Fraction(time_base), captured, seq, epoch)

    def discontinuity(self, cause: str) -> None:
        self.breaks.append(cause)

    def new_epoch(self, reason: str, stream_id: str | None = None) -> int:
        stream = self.stream_id if stream_id is None else stream_id
        self.reasons.append(reason)
        epoch = self.epochs[stream] = self.epochs.get(stream, 0) + 1
        return epoch

    def call_at(self, moment_ns: int, stream_id: str, call: Callable[[], Any]) -> None:
        if self.mode == "file":
            raise EngineError("in a file graph nothing is called at a moment of the clock")
        self.calls[stream_id] = (moment_ns, call)

    def run_calls(self, until_ns: int) -> list[Any]:
        """Let a FakeClock run to `until_ns`: what the calls gave that were due on the way, flat."""
        assert isinstance(self.clock, FakeClock)
        results: list[Any] = []
        while self.calls:
            stream_id, (moment_ns, call) = min(self.calls.items(), key=lambda item: item[1][0])
            if moment_ns > until_ns:
                break
            del self.calls[stream_id]
            self.clock.advance(max(moment_ns - self.clock.now_ns(), 0))
            _collect(call(), results)
        self.clock.advance(max(until_ns - self.clock.now_ns(), 0))
        return results

    def report(self, code: str, message: str) -> None:
        self.reports.append((code, message))

    def publish(self, topic: str, payload: bytes) -> None:
        self.published.append((topic, payload))

    def account(self, name: str, stats: Callable[[], EdgeStats]) -> None:
        self.accounts[name] = stats

    def output_path(self, path: str) -> Path:
        if self._output is None:
            message = "this operator writes files: give run_operator(output=tmp_path)"
            raise ValueError(message)
        target = self._output / path
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def stopping(self) -> bool:
        return self.stop.is_set()


def run_operator(
    operator: Operator[Any],
    frames: Iterable[Frame] | Mapping[str, Iterable[Frame]] = (),
    *,
    ctx: HarnessContext | None = None,
    output: Path | None = None,
    limit: int = 10_000,
) -> list[Any]:
    """Open, process every frame, reset each stream at its end, close. Returns what came out, flat.

    `frames` feed the only input, or each input by name (zipped; `Latest` ports keep the last).
    Sources (no inputs) are called until EndOfStream or `limit` results.
    """
    ctx = ctx or HarnessContext(output=output)
    results: list[Any] = []
    with ctx.exits:
        operator.open(ctx)
        try:
            if operator.inputs:
                _feed(operator, frames, results)
            else:
                _drain(operator, results, limit)
        finally:
            operator.close()
    return results


def make_frame(
    data: Any,
    *,
    seq: int = 0,
    caps: Caps | None = None,
    stream_id: str = "test",
    fps: int = 30,
) -> Frame:
    """A frame around an array: [H, W, 3] is rgb24, [H, W] is gray, else give the caps."""
    array = np.asarray(data)
    if caps is None:
        pix_fmt = "rgb24" if array.ndim == 3 else "gray"
        height, width = array.shape[:2]
        caps = Caps(
            media="video",
            pix_fmt=pix_fmt,
            dtype=str(array.dtype),
            width=width,
            height=height,
            device="cpu",
        )
    return Frame(array, caps, Stamp(stream_id, seq, Fraction(1, fps), seq * 10**9 // fps, seq))


def _feed(operator: Operator[Any], frames: Any, results: list[Any]) -> None:
    ports = operator.inputs
    feeds = frames if isinstance(frames, Mapping) else {next(iter(ports)): frames}
    columns = {name: list(feed) for name, feed in feeds.items()}
    streams: dict[str, None] = {}
    for index in range(max((len(column) for column in columns.values()), default=0)):
        arguments: dict[str, Any] = {}
        for name, port in ports.items():
            column = columns.get(name, [])
            item = column[index] if index < len(column) else None
            if item is not None:
                streams.setdefault(item.stamp.stream_id)
            if port.arrival == "latest":
                arguments[name] = Latest(item if item is not None else (column or [None])[-1])
            elif port.arrival == "batch":
                arguments[name] = Batch((item,) if item is not None else ())
            else:
                arguments[name] = item
        _collect(operator.process(**arguments), results)
    for stream_id in streams:
        _collect(operator.reset(stream_id), results)


def _drain(operator: Operator[Any], results: list[Any], limit: int) -> None:
    while len(results) < limit:
        try:
            _collect(operator.process(), results)
        except EndOfStream:
            return


def _collect(output: Any, results: list[Any]) -> None:
    if output is None:
        return
    if isinstance(output, Batch):
        results.extend(output.frames)
    elif isinstance(output, list):
        results.extend(output)
    else:
        results.append(output)
