"""From a spec to a plan that can run, or to the full list of what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from engine.agreement import Outputs, check_agreement, describable, resolve_caps
from engine.draft import DraftNode, check_workers, draft_nodes
from engine.errors import GraphError, Problem
from engine.loader import override, read_data, read_spec, to_data
from engine.plan import LinkKind, Plan, PlannedEdge, PlannedNode
from engine.spec import GraphSpec, Policy, WorkerSpec
from engine.wiring import (
    DraftEdge,
    check_back_edges,
    check_partners,
    check_reached,
    draft_edges,
    sort_nodes,
)

LOSSY: tuple[Policy, ...] = ("drop_oldest", "latest")


def check(spec: GraphSpec) -> Plan:
    """The plan of a graph; GraphError carries every problem.

    In a file graph every edge blocks, and `latency_budget_ms`, `max_in_flight` and `max_age_ms` are
    left out of the plan: nothing is ever late, and one graph file serves cameras and files.
    Whether a device is there is found out by the run. Operators are imported, and nothing else.
    """
    problems: list[Problem] = []
    plan = _plan(spec, to_data(spec), problems)
    if plan is None:
        raise GraphError(spec.graph, problems)
    return plan


def check_file(
    path_or_name: str | Path,
    overrides: Iterable[str] = (),
    edit: Callable[[object], None] | None = None,
) -> tuple[GraphSpec, Plan]:
    """Read a graph file, put the `--set` values in and check it: problems of all three together.

    `edit` may change the plain data in place before the `--set` values are put in.
    """
    problems: list[Problem] = []
    data = read_data(path_or_name)
    if edit is not None:
        edit(data)
    override(data, overrides, problems)
    spec = read_spec(data, problems)
    plan = None if spec is None else _plan(spec, None, problems)
    if spec is None or plan is None:
        raise GraphError(spec.graph if spec else str(path_or_name), problems)
    return spec, plan


def _plan(spec: GraphSpec, data: object, problems: list[Problem]) -> Plan | None:
    """The plan, or None with `problems` completed. `data` is read again where it was not yet."""
    if data is not None:  # the Python spelling does not check the values it is given
        spec = read_spec(data, problems) or spec
    found: list[Problem] = []
    nodes = draft_nodes(spec, found)
    check_workers(spec, found)
    edges = draft_edges(nodes, found)
    order = sort_nodes(nodes, edges, found)
    check_back_edges(edges, found)
    check_reached(nodes, edges, {problem.node for problem in (*problems, *found)}, found)
    check_partners(nodes, edges, found)
    outputs = resolve_caps(order, describable(nodes, found), edges)
    check_agreement(nodes, edges, outputs, found)
    _check_hosts(spec, edges, outputs, found)
    if spec.mode == "live":
        _check_evidence(nodes, edges, found)
    problems += [problem for problem in found if not _follows(problem, problems)]
    if problems:
        return None
    return _make_plan(spec, [nodes[name] for name in order], edges)


def _follows(problem: Problem, earlier: Sequence[Problem]) -> bool:
    """Whether it only repeats that something could not be read."""
    return any(
        problem.node == other.node and f"{other.field}.".startswith(f"{problem.field}.")
        for other in earlier
    )


def _check_evidence(
    nodes: Mapping[str, DraftNode], edges: Sequence[DraftEdge], problems: list[Problem]
) -> None:
    for edge in edges:
        op = nodes[edge.consumer].op
        if op is None or not op.event_sink:
            continue
        hint = "say full: block; events are evidence"
        if edge.spec.full in LOSSY or (edge.spec.full is None and _is_latest(edge)):
            message = f"full: {edge.spec.full or 'latest'} would lose events"
            edge.place(problems).inside("full").report(message, hint)
        if edge.spec.max_age_ms is not None:
            edge.place(problems).inside("max_age_ms").report("would lose events", "leave it out")


def _check_hosts(
    spec: GraphSpec, edges: Sequence[DraftEdge], outputs: Outputs, problems: list[Problem]
) -> None:
    """A GPU's memory ends with its host."""
    for edge in edges:
        given = outputs.get((edge.producer, edge.producer_port))
        ends = spec.nodes[edge.producer].worker, spec.nodes[edge.consumer].worker
        on_gpu = given is not None and (given.device or "cpu") != "cpu"
        if on_gpu and _link(_workers(spec), *ends) == "tcp":
            place = edge.place(problems)
            place.report("pixels on a GPU cannot cross to another host", "put ToHost before")


def _workers(spec: GraphSpec) -> dict[str, WorkerSpec]:
    used = dict.fromkeys(node.worker for node in spec.nodes.values())
    return {name: spec.workers.get(name, WorkerSpec()) for name in used}


def _make_plan(spec: GraphSpec, nodes: Sequence[DraftNode], edges: Sequence[DraftEdge]) -> Plan:
    is_live = spec.mode == "live"
    workers = _workers(spec)
    return Plan(
        graph=spec.graph,
        mode=spec.mode,
        latency_budget_ms=spec.latency_budget_ms if is_live else None,
        max_in_flight=spec.max_in_flight if is_live else None,
        nodes={node.name: _planned_node(node) for node in nodes},
        edges=tuple(_planned_edge(spec, workers, edge) for edge in edges),
        workers=workers,
    )


def _planned_node(node: DraftNode) -> PlannedNode:
    return PlannedNode(
        name=node.name,
        op=node.spec.op,
        config=node.spec.config if node.config is None else msgspec.to_builtins(node.config),
        streams={key: msgspec.to_builtins(config) for key, config in node.streams.items()},
        worker=node.spec.worker,
        device=node.spec.device,
        batch=node.spec.batch,
        join=node.spec.join,
    )


def _planned_edge(
    spec: GraphSpec, workers: Mapping[str, WorkerSpec], edge: DraftEdge
) -> PlannedEdge:
    assert edge.input is not None
    ends = spec.nodes[edge.producer].worker, spec.nodes[edge.consumer].worker
    is_live = spec.mode == "live"
    return PlannedEdge(
        id=edge.id,
        producer=edge.producer,
        producer_port=edge.producer_port,
        consumer=edge.consumer,
        consumer_port=edge.consumer_port,
        arrival=edge.input.arrival,
        queue=edge.spec.queue or 1,
        policy=(edge.spec.full or "latest") if is_live else "block",
        window=edge.spec.window,
        link=_link(workers, *ends),
        max_age_ms=edge.spec.max_age_ms if is_live else None,
        back_edge=edge.spec.back_edge,
    )


def _link(workers: Mapping[str, WorkerSpec], producer: str, consumer: str) -> LinkKind:
    if producer == consumer:
        return "inproc"
    return "ipc" if workers[producer].host == workers[consumer].host else "tcp"


def _is_latest(edge: DraftEdge) -> bool:
    return edge.input is not None and edge.input.arrival == "latest"
