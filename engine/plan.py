"""A checked graph, ready to run: what `check` makes of a spec and what workers are given."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field

from engine.contract import Arrival
from engine.spec import BatchSpec, JoinSpec, Policy, WorkerSpec

LinkKind = Literal["inproc", "ipc", "tcp"]


class PlannedEdge(Struct, frozen=True, kw_only=True):
    """An edge with its effective policy and its link."""

    id: str  # "producer.port->consumer.port"
    producer: str
    producer_port: str
    consumer: str
    consumer_port: str
    arrival: Arrival
    queue: int
    policy: Policy
    window: int
    link: LinkKind
    max_age_ms: int | None = None
    back_edge: bool = False


class PlannedNode(Struct, frozen=True, kw_only=True):
    """A node whose config has been validated; `config` and `streams` are plain data again."""

    name: str
    op: str
    config: dict[str, Any]
    streams: dict[str, dict[str, Any]]  # sources only: stream id -> complete config
    worker: str
    device: str
    batch: BatchSpec | None = None
    join: JoinSpec | None = None


class Plan(Struct, frozen=True, kw_only=True):
    """Nodes in topological order (back edges left out), every edge, every worker."""

    graph: str
    mode: Literal["file", "live"]
    latency_budget_ms: int | None
    max_in_flight: int | None
    nodes: dict[str, PlannedNode]
    edges: tuple[PlannedEdge, ...]
    workers: dict[str, WorkerSpec] = field(default_factory=dict)

    def inputs_of(self, node: str) -> list[PlannedEdge]:
        return [edge for edge in self.edges if edge.consumer == node]

    def outputs_of(self, node: str) -> list[PlannedEdge]:
        return [edge for edge in self.edges if edge.producer == node]
