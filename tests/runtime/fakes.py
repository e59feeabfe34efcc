"""What lanes and inputs are run with, without processes: inboxes by hand, a host that remembers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from engine.caps import Caps
from engine.clock import FakeClock
from engine.contract import Mode
from engine.device.opening import Devices
from engine.device.simulated import SimulatedDevice
from engine.frame import Discontinuity, Frame, Item, StreamEnd, Watermark
from engine.plan import PlannedEdge, PlannedNode
from engine.runtime.outlets import Outlets
from engine.spec import BatchSpec, JoinSpec
from engine.timing import Stamp
from engine.transport.outbox import Outbox

FPS = 25
TICK_NS = 10**9 // FPS
GRAY = Caps(media="video", pix_fmt="gray", dtype="uint8", width=2, height=2, device="cpu")


def frame(
    seq: int, stream_id: str = "cam", *, pts: int | None = None, epoch: int = 0, media: Any = None
) -> Frame:
    """Every byte is its seq; `pts` in ticks of 1/25 s, by default its seq too."""
    ticks = seq if pts is None else pts
    stamp = Stamp(stream_id, ticks, Fraction(1, FPS), ticks * TICK_NS, seq, epoch)
    caps = GRAY if media is None else Caps(media=media, dtype="uint8", device="cpu")
    return Frame(np.full((2, 2), seq % 256, np.uint8), caps, stamp)


def mark(seq: int, stream_id: str = "cam") -> Watermark:
    return Watermark(stream_id, seq, seq * TICK_NS)


def end(stream_id: str = "cam", error: str | None = None) -> StreamEnd:
    return StreamEnd(stream_id, error)


def broken(stream_id: str = "cam", cause: str = "TEST") -> Discontinuity:
    return Discontinuity(stream_id, cause)


def planned_edge(producer: str = "a", consumer: str = "b", **fields: Any) -> PlannedEdge:
    """A blocking edge within one worker."""
    port = fields.pop("producer_port", "out")
    given = {
        "consumer_port": "frames", "arrival": "each", "queue": 1024, "policy": "block",
        "window": 1, "link": "inproc",
    } | fields  # fmt: skip
    return PlannedEdge(
        id=f"{producer}.{port}->{consumer}.{given['consumer_port']}", producer=producer,
        producer_port=port, consumer=consumer, **given,
    )  # fmt: skip


def planned_node(name: str = "node", **fields: Any) -> PlannedNode:
    given = {"op": "x:X", "config": {}, "streams": {}, "worker": "main", "device": "cpu"} | fields
    return PlannedNode(name=name, **given)


def batched(max_size: int, max_wait_ms: float = 0) -> PlannedNode:
    return planned_node(batch=BatchSpec(max_size=max_size, max_wait_ms=max_wait_ms))


def joined(policy: Any, tolerance_ms: float = 0) -> PlannedNode:
    return planned_node(join=JoinSpec(policy=policy, tolerance_ms=tolerance_ms))


class FakeInbox:
    """An edge's end that holds what it was fed; open until `close`."""

    def __init__(self, *items: Item, closed: bool = False) -> None:
        self.edge = planned_edge()
        self.on_ready: Callable[[], None] = lambda: None
        self.items = deque(items)
        self.drops: list[str] = []
        self._closed = closed

    def feed(self, *items: Item) -> None:
        self.items.extend(items)

    def take(self) -> Item | None:
        return self.items.popleft() if self.items else None

    def dropped(self, cause: str) -> None:
        self.drops.append(cause)

    @property
    def closed(self) -> bool:
        return self._closed and not self.items

    def close(self) -> None:
        self._closed = True


class FakeHost:
    """A worker with nothing around it, on a clock that moves when told to."""

    threads = 1

    def __init__(self, out_dir: Path, mode: Mode = "file") -> None:
        self.clock = FakeClock(10**12)
        self.devices = Devices(SimulatedDevice)
        self.mode: Mode = mode
        self.out_dir = out_dir
        self.incarnation = 0
        self.latency_budget_ns: int | None = None
        self.aborted = False
        self.going = True
        self.epochs: dict[str, int] = {}
        self.epoch_reasons: list[str] = []
        self.raises = True  # whether the supervisor answers who asks for an epoch
        self.admits: Callable[[int], bool] = lambda seq: True
        self.reports: list[tuple[str, str, str]] = []  # code, stream, message
        self.failures: list[tuple[str, str, str]] = []  # node, stream, error
        self.reached: dict[str, int] = {}
        self.ended: list[Any] = []
        self.over: list[str] = []  # streams that sources have ended
        self.published: list[tuple[str, bytes]] = []

    def epoch_of(self, stream_id: str) -> int:
        return self.epochs.get(stream_id, 0)

    def raise_epoch(self, stream_id: str, reason: str) -> bool:
        if self.raises:
            self.epochs[stream_id] = self.epoch_of(stream_id) + 1
            self.epoch_reasons.append(reason)
        return self.raises

    def wait_go(self) -> bool:
        return self.going

    def report(self, code: str, node: str, stream_id: str, message: str) -> None:
        self.reports.append((code, stream_id, message))

    def publish(self, topic: str, payload: bytes) -> None:
        self.published.append((topic, payload))

    def progress(self, node: str, stream_id: str, seq: int) -> None:
        self.reached[stream_id] = max(seq, self.reached.get(stream_id, -1))

    def admit(self, node: str, stream_id: str, seq: int) -> bool:
        return self.admits(seq)

    def stream_ended(self, stream_id: str) -> None:
        self.over.append(stream_id)

    def node_failed(self, node: str, stream_id: str, error: Exception, detail: str) -> None:
        self.failures.append((node, stream_id, str(error)))

    def device_lost(self, node: str, stream_id: str, error: BaseException) -> None:
        raise SystemExit(75)

    def lane_ended(self, lane: Any) -> None:
        self.ended.append(lane)

    @property
    def codes(self) -> list[str]:
        return [code for code, _, _ in self.reports]


class Exits:
    """The output side of a node under test: one roomy edge per port."""

    def __init__(self, *ports: str, looks_ahead: bool = False) -> None:
        clock = FakeClock()
        self.boxes = {
            port: Outbox(planned_edge("node", f"after-{port}", producer_port=port), clock)
            for port in ports or ("out",)
        }
        self.records: dict[str, int] = {}
        edges = {port: [box] for port, box in self.boxes.items()}
        self.outlets = Outlets(edges, lambda: False, looks_ahead, self.records)

    def taken(self, port: str = "out") -> list[Item]:
        """What has come out of a port."""
        items: list[Item] = []
        while (item := self.boxes[port].take()) is not None:
            items.append(item)
        return items


def brief(item: Item | None) -> Any:
    """An item in a form that is easy to compare and to read."""
    if isinstance(item, Frame):
        return item.stamp.stream_id, item.stamp.seq
    if isinstance(item, Watermark):
        return "mark", item.stream_id, item.seq
    if isinstance(item, StreamEnd):
        return "end", item.stream_id, item.error
    return item


def told(items: list[Item]) -> list[Any]:
    return [brief(item) for item in items]


def without_marks(items: list[Any]) -> list[Any]:
    return [item for item in items if not isinstance(item, Watermark)]
