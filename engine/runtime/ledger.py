"""The supervisor's books: figures of all workers, exact also when one dies and comes back."""

from __future__ import annotations

import threading
from typing import Literal

from msgspec.structs import replace

from engine.plan import Plan
from engine.runtime.build import fold
from engine.runtime.messages import Heartbeat
from engine.telemetry.stats import EdgeStats, NodeStats, RunEvent, RunSnapshot, WorkerStats

RATE_WINDOW_NS = 1_000_000_000


class Ledger:
    """Adds up heartbeats. What a dead worker had counted is kept; what it held is `peer_lost`.

    Nothing that a snapshot holds is changed later: other threads read it without a lock.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._lock = threading.Lock()
        self._workers = {
            node.worker: WorkerStats(worker=node.worker) for node in plan.nodes.values()
        }
        self._nodes = {
            node.name: NodeStats(node=node.name, worker=node.worker, device=node.device)
            for node in plan.nodes.values()
        }
        self._edges = {
            edge.id: EdgeStats(edge=edge.id, link=edge.link, policy=edge.policy)
            for edge in plan.edges
        }
        self._producers = {edge.id: plan.nodes[edge.producer].worker for edge in plan.edges}
        self._past_nodes: dict[str, NodeStats] = {}
        self._past_edges: dict[str, EdgeStats] = {}
        self._rates: dict[str, tuple[int, int, float]] = {}  # id -> (time, count, per second)
        self._unopened: set[str] = set()
        self._deaths = 0

    def started(self, worker: str, pid: int, restarts: int) -> None:
        """A process for the worker has been made."""
        with self._lock:
            self._workers[worker] = WorkerStats(worker=worker, pid=pid, restarts=restarts)

    def update(self, worker: str, beat: Heartbeat, now_ns: int) -> None:
        with self._lock:
            self._workers[worker] = beat.stats
            for name, node in beat.nodes.items():
                past = self._past_nodes.get(name)
                if past is not None:
                    fold(node, past)
                node.fps = self._rate(name, node.frames, now_ns)
                self._nodes[name] = node
            for name, edge in beat.edges.items():
                past_edge = self._past_edges.get(name)
                if past_edge is not None:
                    edge.add_past(past_edge)
                edge.fps = self._rate(name, edge.consumed, now_ns)
                self._edges[name] = edge
                self._producers[name] = worker

    def died(self, worker: str) -> None:
        """The worker is gone without a word: what its edges held is lost with it."""
        with self._lock:
            self._deaths += 1
            for name, node in self._nodes.items():
                if node.worker == worker:
                    past = replace(node, restarts=node.restarts + 1, state="retrying")
                    self._nodes[name] = self._past_nodes[name] = past
            for name, producer in self._producers.items():
                if producer == worker:
                    self._edges[name] = self._past_edges[name] = self._edges[name].lost()
            self._workers[worker] = replace(self._workers[worker], state="restarting")

    def could_not_open(self, node: str) -> None:
        """What the worker says of the node later does not change that."""
        with self._lock:
            self._unopened.add(node)

    def left(self, worker: str, state: Literal["stopped", "failed"]) -> None:
        """The worker has ended for good."""
        with self._lock:
            self._workers[worker] = replace(self._workers[worker], state=state)
            if state == "failed":
                for name, node in self._nodes.items():
                    if node.worker == worker:
                        self._nodes[name] = replace(node, state="failed")

    @property
    def degraded(self) -> bool:
        """Whether frames were quarantined, or lost with a worker.

        The frame in `process` when a worker died is on no edge's books: any death counts.
        """
        with self._lock:
            ours = (self._edges[edge.id] for edge in self._plan.edges)  # not those to other runs
            lost = any(edge.drops.keys() & {"peer_lost", "quarantined"} for edge in ours)
            quarantined = any(node.quarantined for node in self._nodes.values())
            return lost or quarantined or self._deaths > 0

    def edges(self) -> dict[str, EdgeStats]:
        """The edges as last heard of."""
        with self._lock:
            return dict(self._edges)

    def snapshot(self, seconds: float, events: list[RunEvent]) -> RunSnapshot:
        with self._lock:
            return RunSnapshot(
                graph=self._plan.graph,
                mode=self._plan.mode,
                seconds=seconds,
                nodes={
                    name: replace(node, state="failed") if name in self._unopened else node
                    for name, node in self._nodes.items()
                },
                edges=dict(self._edges),
                workers=dict(self._workers),
                events=events,
            )

    def _rate(self, name: str, count: int, now_ns: int) -> float:
        since_ns, before, rate = self._rates.get(name, (now_ns, count, 0.0))
        if now_ns - since_ns >= RATE_WINDOW_NS:
            rate = (count - before) * 1e9 / (now_ns - since_ns)
            since_ns, before = now_ns, count
        self._rates[name] = (since_ns, before, rate)
        return rate
