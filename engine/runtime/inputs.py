"""How a lane gets its work: items of its input edges put together as the ports and the join ask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.contract import Mode, Port
from engine.frame import Batch, Frame, Latest, Signal, Watermark
from engine.plan import Plan, PlannedNode
from engine.runtime.joins import JoinInputs, MergeInputs, Queues
from engine.runtime.work import Inputs, Side, Work
from engine.spec import JoinSpec
from engine.transport.link import Inbox


def make_inputs(
    node: PlannedNode,
    ports: Mapping[str, Port],
    inboxes: Mapping[str, Inbox],
    mode: Mode,
    plan: Plan | None = None,
) -> Inputs:
    """The way of gathering that a node's ports ask for. From the plan joins learn what may come."""
    latest = {name: Latest[Frame]() for name in inboxes if ports[name].arrival == "latest"}
    driving = {name: box for name, box in inboxes.items() if name not in latest}
    idle = {name: Latest[Frame]() for name, p in ports.items() if p.arrival == "latest"}
    values = idle | latest
    slow = {name: inboxes[name] for name in latest}
    if len(driving) == 1:
        name, inbox = next(iter(driving.items()))
        if ports[name].arrival == "batch":
            return BatchInputs(name, inbox, node, mode, Side(values, slow))
        return SingleInputs(name, inbox, ports, Side(values, slow))
    queues = Queues(driving, mode, plan)
    if all(ports[name].optional for name in driving):
        return MergeInputs(queues, Side(values, slow))
    optional = frozenset(name for name in driving if ports[name].optional)
    return JoinInputs(queues, node.join or JoinSpec(), Side(values, slow), optional)


class SingleInputs:
    """One port, one item at a time. Unconnected optional ports are None."""

    def __init__(self, name: str, inbox: Inbox, ports: Mapping[str, Port], side: Side) -> None:
        self._name = name
        self._inbox = inbox
        self._side = side
        self._absent = {n: None for n, p in ports.items() if p.optional and n != name}

    def next(self, now_ns: int) -> Work | Signal | None:
        if not self._side.refresh():
            return None
        item = self._inbox.take()
        if not isinstance(item, Frame):
            return item
        arguments = {self._name: item, **self._absent, **self._side.arguments}
        return Work(arguments, [(self._inbox, item)])

    def wait_ns(self, now_ns: int) -> int | None:
        return None

    @property
    def finished(self) -> bool:
        return self._inbox.closed

    @property
    def closed(self) -> bool:
        return self.finished and self._side.closed


class BatchInputs:
    """Up to `max_size` frames across streams. Live: waits at most `max_wait_ms`; file: fills up."""

    def __init__(self, name: str, inbox: Inbox, node: PlannedNode, mode: Mode, side: Side) -> None:
        batch = node.batch
        self._name = name
        self._inbox = inbox
        self._side = side
        self._max_size = batch.max_size if batch else 1
        self._patience_ns = int(batch.max_wait_ms * 1e6) if batch else 0
        self._fill = mode == "file"
        self._frames: list[Frame] = []
        self._since_ns = 0
        self._signal: Signal | None = None

    def next(self, now_ns: int) -> Work | Signal | None:
        if not self._side.refresh():
            return None
        while self._signal is None and len(self._frames) < self._max_size:
            item = self._inbox.take()
            if item is None:
                break
            if isinstance(item, Frame):
                if not self._frames:
                    self._since_ns = now_ns
                self._frames.append(item)
            elif not (isinstance(item, Watermark) and self._frames):
                self._signal = item  # a mark behind waiting frames says nothing that they do not
        if self._frames and self._due(now_ns):
            frames, self._frames = tuple(self._frames), []
            arguments: dict[str, Any] = {self._name: Batch(frames), **self._side.arguments}
            return Work(arguments, [(self._inbox, frame) for frame in frames])
        if self._frames:
            return None
        signal, self._signal = self._signal, None
        return signal

    def _due(self, now_ns: int) -> bool:
        if len(self._frames) >= self._max_size or self._signal is not None or self._inbox.closed:
            return True
        return not self._fill and now_ns - self._since_ns >= self._patience_ns

    def wait_ns(self, now_ns: int) -> int | None:
        if self._frames and not self._fill:
            return max(self._since_ns + self._patience_ns - now_ns, 0)
        return None

    @property
    def finished(self) -> bool:
        return self._inbox.closed and not self._frames and self._signal is None

    @property
    def closed(self) -> bool:
        return self.finished and self._side.closed
