"""How a lane gets its work: items of its input edges put together as the ports and the join ask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.contract import Mode, Port
from engine.frame import Batch, Frame, Item, Latest, Signal, Watermark
from engine.plan import Plan, PlannedNode
from engine.runtime.joins import HELD, JoinInputs, MergeInputs, Queues
from engine.runtime.work import Inputs, Side, Work
from engine.spec import JoinSpec
from engine.transport.link import Inbox

LAG = HELD // 4  # several batches on one way together still fit into what a join holds


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
    """Up to `max_size` frames across streams. Live: waits at most `max_wait_ms`; file: fills up.

    A file's batch closes early when a stream has moved `max_size + LAG` beyond its first frame in
    it: joins behind could not hold what the other ways bring meanwhile, and nothing would move any
    more. It goes by seq, so that the batches are the same every time.
    """

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
        self._first: dict[str, int] = {}  # seq of each stream's first frame in the batch
        self._next: Frame | None = None  # it begins the next batch

    def next(self, now_ns: int) -> Work | Signal | None:
        if not self._side.refresh():
            return None
        self._gather(now_ns)
        if self._frames and self._due(now_ns):
            frames, self._frames = tuple(self._frames), []
            self._first.clear()
            arguments: dict[str, Any] = {self._name: Batch(frames), **self._side.arguments}
            return Work(arguments, [(self._inbox, frame) for frame in frames])
        if self._frames:
            return None
        signal, self._signal = self._signal, None
        return signal

    def _gather(self, now_ns: int) -> None:
        item: Item | None
        if self._next is not None and not self._frames:
            item, self._next = self._next, None
            self._add(item, now_ns)
        while self._is_open and len(self._frames) < self._max_size:
            item = self._inbox.take()
            if item is None:
                return
            if isinstance(item, Frame):
                if self._lags(item.stamp.stream_id, item.stamp.seq):
                    self._next = item
                else:
                    self._add(item, now_ns)
            elif not (isinstance(item, Watermark) and self._frames):
                self._signal = item
            elif self._lags(item.stream_id, item.seq):
                self._signal = item  # any other mark says nothing that the waiting frames do not

    def _add(self, frame: Frame, now_ns: int) -> None:
        if not self._frames:
            self._since_ns = now_ns
        self._frames.append(frame)
        self._first.setdefault(frame.stamp.stream_id, frame.stamp.seq)

    def _lags(self, stream_id: str, seq: int) -> bool:
        first = self._first.get(stream_id)
        return self._fill and first is not None and seq - first > self._max_size + LAG

    @property
    def _is_open(self) -> bool:
        """Whether more may come into this batch."""
        return self._signal is None and self._next is None

    def _due(self, now_ns: int) -> bool:
        if len(self._frames) >= self._max_size or not self._is_open or self._inbox.closed:
            return True
        return not self._fill and now_ns - self._since_ns >= self._patience_ns

    def wait_ns(self, now_ns: int) -> int | None:
        if self._frames and not self._fill:
            return max(self._since_ns + self._patience_ns - now_ns, 0)
        return None

    @property
    def finished(self) -> bool:
        return self._inbox.closed and not self._frames and self._is_open

    @property
    def closed(self) -> bool:
        return self.finished and self._side.closed
