"""The Python way to write a graph: makes the same `GraphSpec` as a YAML file."""

from __future__ import annotations

from typing import Any, TypedDict, TypeVar, Unpack

import msgspec

from engine.contract import Config, Mode, Operator
from engine.errors import GraphError, Problem
from engine.spec import BatchSpec, EdgeSpec, GraphSpec, JoinSpec, NodeSpec, Policy, WorkerSpec

C = TypeVar("C", bound=Config)


class GraphOptions(TypedDict, total=False):
    """What a graph may say about itself; see `GraphSpec`."""

    about: str
    mode: Mode
    latency_budget_ms: int | None
    max_in_flight: int | None


class NodeOptions(TypedDict, total=False):
    """How an operator is placed; see `NodeSpec`."""

    inputs: dict[str, EdgeSpec]
    streams: dict[str, dict[str, Any]]
    device: str
    worker: str
    batch: BatchSpec | None
    join: JoinSpec | None


class EdgeOptions(TypedDict, total=False):
    """The policy of an edge; see `EdgeSpec`. Edges into `Latest` ports need none."""

    queue: int | None
    full: Policy | None
    window: int
    max_age_ms: int | None
    back_edge: bool
    allow: tuple[str, ...]


class OutputHandle:
    """One output port of a node."""

    def __init__(self, producer: str) -> None:
        self._producer = producer

    def edge(self, **options: Unpack[EdgeOptions]) -> EdgeSpec:
        """An edge from this port, to be given to a consumer's `inputs`."""
        return EdgeSpec(from_=self._producer, **options)


class NodeHandle:
    """A node that is in the graph: makes edges from it, and takes the edges that close a cycle."""

    def __init__(self, graph: Graph, name: str) -> None:
        self._graph = graph
        self.name = name

    def __getitem__(self, port: str) -> OutputHandle:
        return OutputHandle(f"{self.name}.{port}")

    def edge(self, port: str | None = None, **options: Unpack[EdgeOptions]) -> EdgeSpec:
        """An edge from the output `port`; without a name, from the only output."""
        output = OutputHandle(self.name) if port is None else self[port]
        return output.edge(**options)

    def feed(self, port: str, edge: EdgeSpec) -> None:
        """Wire an input later than `add`: the way to close a cycle with `back_edge=True`."""
        self._graph._feed(self.name, port, edge)


class Graph:
    """Collects nodes. A node exists before it is used, so only `feed` can make a cycle."""

    def __init__(self, name: str, **options: Unpack[GraphOptions]) -> None:
        self.name = name
        self._options = options
        self._nodes: dict[str, NodeSpec] = {}
        self._workers: dict[str, WorkerSpec] = {}

    def add(
        self,
        name: str,
        op: type[Operator[C]],
        config: C | None = None,
        **options: Unpack[NodeOptions],
    ) -> NodeHandle:
        """Place an operator. `config` may be left out when every field has a default."""
        if name in self._nodes:
            raise GraphError(self.name, [Problem(name, "", "a node of this name is there already")])
        self._nodes[name] = NodeSpec(
            op=f"{op.__module__}:{op.__qualname__}",
            config={} if config is None else plain_config(config),
            **options,
        )
        return NodeHandle(self, name)

    def worker(self, name: str, *, host: str | None = None, nice: int = 0) -> str:
        """Describe a process; returns its name for `add(worker=...)`."""
        self._workers[name] = WorkerSpec(host=host, nice=nice)
        return name

    def spec(self) -> GraphSpec:
        """What was written so far."""
        return GraphSpec(
            graph=self.name,
            workers=dict(self._workers),
            nodes=dict(self._nodes),
            **self._options,
        )

    def _feed(self, name: str, port: str, edge: EdgeSpec) -> None:
        node = self._nodes[name]
        if port in node.inputs:
            raise GraphError(self.name, [Problem(name, f"inputs.{port}", "is wired already")])
        self._nodes[name] = msgspec.structs.replace(node, inputs={**node.inputs, port: edge})


def plain_config(config: Config) -> dict[str, Any]:
    """The fields that differ from their defaults as plain data, as one would write them in YAML."""
    plain = msgspec.to_builtins(config)
    return {
        info.encode_name: plain[info.encode_name]
        for info in msgspec.structs.fields(config)
        if getattr(config, info.name) != default_of(info)
    }


def default_of(info: msgspec.structs.FieldInfo) -> Any:
    """The default of a struct's field; NODEFAULT where it has none."""
    if info.default_factory is not msgspec.NODEFAULT:
        return info.default_factory()
    return info.default
