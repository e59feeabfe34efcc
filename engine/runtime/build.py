"""Making the parts of a worker from a plan: operators, edges, inputs, lanes."""

from __future__ import annotations

import importlib
import os
from typing import Any

import msgspec

from engine.contract import Config, Operator, Tunable
from engine.errors import EngineError
from engine.plan import Plan, PlannedEdge, PlannedNode
from engine.runtime.host import LaneHost
from engine.runtime.inputs import make_inputs
from engine.runtime.lane import NodeLane
from engine.runtime.outlets import Outlets
from engine.runtime.source import SourceLane, Stream
from engine.telemetry.stats import EdgeStats, Histogram, NodeStats
from engine.transport.hub import Hub
from engine.transport.inproc import InprocInbox
from engine.transport.link import Inbox
from engine.transport.outbox import Outbox

STATES = ("starting", "finished", "running", "retrying", "open_circuit", "failed")


def operator_class(path: str) -> type[Operator[Any]]:
    """The class that `module:Class` names."""
    module, _, name = path.partition(":")
    found: type[Operator[Any]] = getattr(importlib.import_module(module), name)
    return found


def thread_budget(plan: Plan) -> int:
    """Threads a library may use inside one node: the machine's cores shared by all nodes.

    It depends on the plan and the machine only, never on placement: the same graph then gives the
    same bytes however it is spread over workers.
    """
    return max(1, len(os.sched_getaffinity(0)) // len(plan.nodes))


def tuned_value(config: Config, name: str, value: Any) -> Any:
    """A tunable's new value, validated as the graph file's would be."""
    hints = {field.name: field for field in msgspec.structs.fields(type(config))}
    if name not in hints:
        raise EngineError(f"no field '{name}'; there are {', '.join(hints)}")
    if not any(isinstance(extra, Tunable) for extra in _extras(type(config), name)):
        raise EngineError(f"'{name}' is fixed for a run; it is not a tunable")
    values = msgspec.to_builtins(config) | {name: value}
    return getattr(msgspec.convert(values, type(config)), name)


def _extras(kind: type[Config], name: str) -> tuple[Any, ...]:
    import typing

    hint = typing.get_type_hints(kind, include_extras=True)[name]
    return tuple(getattr(hint, "__metadata__", ()))


class NodeParts:
    """One node in this worker: its output edges, its lanes and what they have measured."""

    def __init__(self, host: LaneHost, plan: Plan, node: PlannedNode, hub: Hub) -> None:
        self.node = node
        self.kind = operator_class(node.op)
        self.outboxes = {edge.id: Outbox(edge, host.clock) for edge in plan.outputs_of(node.name)}
        for edge in plan.outputs_of(node.name):
            if edge.link != "inproc":
                hub.serve(self.outboxes[edge.id])
        self.lanes: list[NodeLane | SourceLane] = []
        self._host = host
        self._plan = plan
        self._ended = self._blank()
        self._ended_edges: dict[str, EdgeStats] = {}

    @property
    def is_source(self) -> bool:
        return not self.kind.inputs

    @property
    def stream_ids(self) -> set[str]:
        """The streams that a source is producing now."""
        lanes = [lane for lane in self.lanes if isinstance(lane, SourceLane)]
        return {stream.stream_id for lane in lanes for stream in list(lane.streams)}

    def _outlets(self, stats: NodeStats) -> Outlets:
        ports: dict[str, list[Outbox]] = {port: [] for port in self.kind.outputs}
        for edge in self._plan.outputs_of(self.node.name):
            ports[edge.producer_port].append(self.outboxes[edge.id])
        host = self._host
        looks_ahead = bool(getattr(self.kind, "look_ahead", 0))
        return Outlets(
            ports, lambda: host.aborted, looks_ahead, stats.records, self.kind.synthesizes
        )

    def make_node_lane(self, inboxes: dict[str, Inbox]) -> NodeLane:
        config = msgspec.convert(self.node.config, self.kind.config_type)
        ports, mode = self.kind.inputs, self._host.mode
        inputs = make_inputs(self.node, ports, inboxes, mode, self._plan)
        stats = self._blank()
        lane = NodeLane(
            self._host, self.node, self.kind(config), inputs, self._outlets(stats), stats
        )
        for inbox in inboxes.values():
            inbox.on_ready = lane.bell.set
        self.lanes.append(lane)
        return lane

    def make_source_lanes(self, streams: dict[str, dict[str, Any]]) -> list[SourceLane]:
        made = [
            Stream(
                self._host,
                self.node,
                stream_id,
                self.kind(msgspec.convert(config, self.kind.config_type)),
            )
            for stream_id, config in streams.items()
        ]
        groups = [made] if self._host.mode == "file" else [[stream] for stream in made]
        lanes = []
        for group in filter(None, groups):
            stats = self._blank()
            outlets = self._outlets(stats)
            lanes.append(SourceLane(self._host, self.node, group, outlets, stats))
        self.lanes.extend(lanes)
        return lanes

    def retire(self, lane: NodeLane | SourceLane) -> None:
        """A lane has ended: keep its figures, drop the rest."""
        self.lanes.remove(lane)
        fold(self._ended, lane.stats)
        worst(self._ended, lane.stats)
        if isinstance(lane, NodeLane):
            self._ended_edges = lane.ctx.edges()

    def stats(self) -> NodeStats:
        total = self._blank()
        for part in (self._ended, *(lane.stats for lane in self.lanes)):
            fold(total, part)
            worst(total, part)
        if self.is_source:
            total.streams = len(self.stream_ids)
        return total

    def edges(self) -> dict[str, EdgeStats]:
        """The books of all edges that begin here, those that lead out of the graph too."""
        own = {edge_id: outbox.stats() for edge_id, outbox in self.outboxes.items()}
        outside = dict(self._ended_edges)
        for lane in self.lanes:
            if isinstance(lane, NodeLane):
                outside |= lane.ctx.edges()
        return own | outside

    def _blank(self) -> NodeStats:
        return NodeStats(node=self.node.name, worker=self.node.worker, device=self.node.device)


def fold(total: NodeStats, part: NodeStats) -> None:
    """Add one lane's figures to its node's."""
    total.frames += part.frames
    total.quarantined += part.quarantined
    total.restarts += part.restarts
    total.busy.merge(_copy(part.busy))
    total.age.merge(_copy(part.age))
    for name, count in dict(part.records).items():
        total.records[name] = total.records.get(name, 0) + count


def worst(total: NodeStats, part: NodeStats) -> None:
    """A node is as well as the worst of its lanes; one that is over does not hide others."""
    if STATES.index(part.state) >= STATES.index(total.state):
        total.state = part.state
        total.error = part.error or total.error


def close_outboxes(parts: NodeParts) -> None:
    """Nothing more comes out of this node."""
    for outbox in parts.outboxes.values():
        outbox.close()


def _copy(histogram: Histogram) -> Histogram:
    """A copy taken while its lane may be writing: `dict()` of a dict is atomic under the GIL."""
    return Histogram(dict(histogram.bins), histogram.count, histogram.sum_ns)


def open_inbox(host: Any, edge: PlannedEdge, hub: Hub, endpoint: str | None) -> Inbox:
    """The consumer's end of an edge."""
    if edge.link == "inproc":
        outbox = host.outbox(edge)
        return InprocInbox(outbox, host.epochs, host.clock)
    if endpoint is None:
        raise EngineError(f"{edge.id}: the producer's worker has no endpoint")
    return hub.connect(edge, endpoint)
