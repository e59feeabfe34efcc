"""Frozen snapshots of a running graph, and the histogram that latencies are kept in."""

from __future__ import annotations

import math
from typing import Literal

from msgspec import Struct, field
from msgspec.structs import replace

from engine.plan import LinkKind
from engine.spec import Policy

GROWTH = 1.05  # width of a histogram bin: percentiles are right to about 2.5 %
SMALLEST_NS = 1_000
BINS_PER_E = 1 / math.log(GROWTH)


class Histogram(Struct):
    """Durations in ns in bins that grow by 5 %. Sparse, so it is cheap to send and merge."""

    bins: dict[int, int] = field(default_factory=dict)
    count: int = 0
    sum_ns: int = 0

    def add(self, duration_ns: int) -> None:
        index = _bin(duration_ns)
        self.bins[index] = self.bins.get(index, 0) + 1
        self.count += 1
        self.sum_ns += duration_ns

    def merge(self, other: Histogram) -> None:
        for index, count in other.bins.items():
            self.bins[index] = self.bins.get(index, 0) + count
        self.count += other.count
        self.sum_ns += other.sum_ns

    def percentile_ms(self, percent: float) -> float:
        """The middle of the bin that holds this percentile; 0 when nothing was measured."""
        wanted = self.count * percent / 100
        seen = 0
        for index in sorted(self.bins):
            seen += self.bins[index]
            if seen >= wanted:
                return float(SMALLEST_NS * GROWTH ** (index + 0.5) / 1e6)
        return 0.0

    def cumulative(self, bounds_ms: tuple[float, ...]) -> list[tuple[float, int]]:
        """(upper bound in ms, how many are at most that) for a Prometheus histogram."""
        ordered = sorted(self.bins.items())
        return [
            (bound, sum(n for index, n in ordered if index < _bin(round(bound * 1e6))))
            for bound in bounds_ms
        ]


def _bin(duration_ns: int) -> int:
    if duration_ns <= SMALLEST_NS:
        return 0
    return int(math.log(duration_ns / SMALLEST_NS) * BINS_PER_E)


NodeState = Literal["starting", "running", "retrying", "open_circuit", "failed", "finished"]


class NodeStats(Struct, kw_only=True):
    """One node since the run began."""

    node: str
    worker: str
    device: str  # what it really runs on
    state: NodeState = "starting"
    frames: int = 0  # handed to `process` (for a source: produced)
    fps: float = 0.0  # over the last seconds
    quarantined: int = 0  # frames that made `process` raise
    restarts: int = 0
    streams: int = 0  # streams alive in a source
    busy: Histogram = field(default_factory=Histogram)  # time inside `process`
    age: Histogram = field(default_factory=Histogram)  # live: capture to the end of `process`
    records: dict[str, int] = field(default_factory=dict)  # records by class on frames that left
    error: str | None = None  # why it failed, with code and remedy


class EdgeStats(Struct, kw_only=True):
    """One edge. `sent == consumed + sum(drops.values()) + in_flight`, always."""

    edge: str
    link: LinkKind
    policy: Policy
    sent: int = 0
    consumed: int = 0
    in_flight: int = 0  # waiting at the producer, under way, or waiting at the consumer
    drops: dict[str, int] = field(default_factory=dict)  # by cause
    depth: int = 0  # frames waiting at the producer now
    peak_depth: int = 0
    bytes: int = 0  # pixel bytes sent
    slab_misses: int = 0  # frames that found no free slot and were copied through the socket
    malformed: int = 0  # messages refused: not decodable, too large, wrong version
    fps: float = 0.0
    age: Histogram = field(default_factory=Histogram)  # capture to consumed

    @property
    def balanced(self) -> bool:
        return self.sent == self.consumed + sum(self.drops.values()) + self.in_flight

    def add_past(self, past: EdgeStats) -> None:
        """Add what an earlier life of the same edge had counted."""
        self.sent += past.sent
        self.consumed += past.consumed
        self.bytes += past.bytes
        self.slab_misses += past.slab_misses
        self.malformed += past.malformed
        self.peak_depth = max(self.peak_depth, past.peak_depth)
        causes = dict.fromkeys((*self.drops, *past.drops))
        self.drops = {c: self.drops.get(c, 0) + past.drops.get(c, 0) for c in causes}
        age = Histogram(dict(self.age.bins), self.age.count, self.age.sum_ns)
        age.merge(past.age)
        self.age = age

    def lost(self) -> EdgeStats:
        """The books of an edge whose end is gone: what was under way or waiting is `peer_lost`."""
        drops = dict(self.drops)
        if self.in_flight:
            drops["peer_lost"] = drops.get("peer_lost", 0) + self.in_flight
        return replace(self, drops=drops, in_flight=0, depth=0)


class WorkerStats(Struct, kw_only=True):
    """One process."""

    worker: str
    pid: int = 0
    restarts: int = 0
    rss_bytes: int = 0
    cpu_seconds: float = 0.0
    threads: int = 0
    malformed: int = 0  # messages that named no edge of this process
    refused: int = 0  # connections whose key is not known
    state: Literal["starting", "running", "restarting", "stopped", "failed"] = "starting"


class RunEvent(Struct, kw_only=True):
    """Something a person should know: a typed code, where, and a sentence."""

    code: str
    node: str
    stream_id: str
    message: str
    time: str  # UTC wall clock, ISO 8601


class RunSnapshot(Struct, kw_only=True):
    """A whole run at one moment."""

    graph: str
    mode: str
    seconds: float
    nodes: dict[str, NodeStats] = field(default_factory=dict)
    edges: dict[str, EdgeStats] = field(default_factory=dict)
    workers: dict[str, WorkerStats] = field(default_factory=dict)
    events: list[RunEvent] = field(default_factory=list)  # the newest last, bounded
    page: str | None = None  # address of the live page
