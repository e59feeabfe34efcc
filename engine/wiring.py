"""The second stage of `check`: edges between nodes, their order, cycles, what nothing reaches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from engine.contract import Port
from engine.convert import Place, nearest
from engine.draft import DraftNode
from engine.errors import Problem
from engine.spec import EdgeSpec


@dataclass(frozen=True, slots=True)
class DraftEdge:
    """An edge between two nodes that exist; a port is None where its operator cannot be had."""

    spec: EdgeSpec
    producer: str
    producer_port: str
    output: Port | None
    consumer: str
    consumer_port: str
    input: Port | None

    @property
    def id(self) -> str:
        return f"{self.producer}.{self.producer_port}->{self.consumer}.{self.consumer_port}"

    def place(self, problems: list[Problem]) -> Place:
        """Where its problems are told: at the consumer, where it is written."""
        return Place(problems, self.consumer, f"inputs.{self.consumer_port}")


def draft_edges(nodes: Mapping[str, DraftNode], problems: list[Problem]) -> list[DraftEdge]:
    """Every edge whose ends exist, and what is wrong with each input of each node."""
    edges: list[DraftEdge] = []
    for node in nodes.values():
        for port in node.spec.inputs:
            edge = _draft_edge(nodes, node, port, problems)
            if edge is not None:
                edges.append(edge)
        _check_inputs(node, Place(problems, node.name))
    return edges


def sort_nodes(
    names: Iterable[str], edges: Sequence[DraftEdge], problems: list[Problem]
) -> list[str]:
    """Producers before consumers, else in the order of the file. Tells every cycle."""
    waiting: dict[str, set[str]] = {name: set() for name in names}
    for edge in edges:
        if not edge.spec.back_edge:
            waiting[edge.consumer].add(edge.producer)
    order: list[str] = []
    while waiting:
        ready = [name for name in waiting if not waiting[name] & waiting.keys()][:1]
        if not ready:
            ready = _cycle(waiting)
            way = " -> ".join((*ready, ready[0]))
            hint = "mark the edge that closes it with back_edge: true"
            problems.append(Problem(ready[0], "inputs", f"{way} is a cycle", hint))
        for name in ready:
            order.append(name)
            del waiting[name]
    return order


def check_back_edges(edges: Sequence[DraftEdge], problems: list[Problem]) -> None:
    """A back edge closes a cycle, and its consumer can begin before anything has come over it."""
    for edge in edges:
        if not edge.spec.back_edge:
            continue
        if edge.producer not in reachable({edge.consumer}, edges):
            place = edge.place(problems).inside("back_edge")
            place.report("closes no cycle", "leave it out")
        elif edge.input and edge.input.arrival != "latest" and not edge.input.optional:
            message = "a back edge must end at a Latest or an optional port"
            edge.place(problems).report(message, "else the first frame waits for itself")


def check_reached(
    nodes: Mapping[str, DraftNode],
    edges: Sequence[DraftEdge],
    told: set[str],
    problems: list[Problem],
) -> None:
    """Every node gets frames from some source. Those in `told` have other problems already."""
    sources = {node.name for node in nodes.values() if node.op is None or not node.op.inputs}
    reached = reachable(sources | told, edges)
    for name in nodes:
        if name not in reached:
            hint = "wire one of its inputs to a node that a source feeds"
            problems.append(Problem(name, "inputs", "no source reaches this node", hint))


def check_partners(
    nodes: Mapping[str, DraftNode], edges: Sequence[DraftEdge], problems: list[Problem]
) -> None:
    """A join puts frames of one stream together: its inputs must have a stream in common."""
    for name in nodes:
        joined = [
            edge
            for edge in edges
            if edge.consumer == name
            and edge.input is not None
            and edge.input.arrival == "each"
            and not edge.input.optional
        ]
        known = {edge.consumer_port: _streams_of(edge.producer, nodes, edges) for edge in joined}
        if len(known) > 1 and all(known.values()) and not set.intersection(*known.values()):
            told = "; ".join(f"{port} brings {', '.join(sorted(known[port]))}" for port in known)
            message = f"the inputs have no stream in common ({told}), so nothing would be joined"
            hint = "give the sources a stream of the same name: streams: {door: {...}}"
            problems.append(Problem(name, "inputs", message, hint))


def _streams_of(name: str, nodes: Mapping[str, DraftNode], edges: Sequence[DraftEdge]) -> set[str]:
    """The streams that sources send to what `name` gives."""
    found: set[str] = set()
    for source, node in nodes.items():
        is_source = node.op is not None and not node.op.inputs
        if is_source and name in reachable({source}, edges):
            found |= set(node.streams) or {source}
    return found


def reachable(starts: set[str], edges: Sequence[DraftEdge]) -> set[str]:
    """`starts` and every node behind them."""
    reached = set(starts)
    front = list(starts)
    while front:
        name = front.pop()
        behind = {edge.consumer for edge in edges if edge.producer == name} - reached
        reached |= behind
        front += behind
    return reached


def _draft_edge(
    nodes: Mapping[str, DraftNode], node: DraftNode, port: str, problems: list[Problem]
) -> DraftEdge | None:
    spec = node.spec.inputs[port]
    place = Place(problems, node.name, f"inputs.{port}")
    wanted = node.op.inputs.get(port) if node.op else None
    if node.op is not None and wanted is None:
        hint = nearest(port, node.op.inputs) if node.op.inputs else "it is a source"
        place.report("the operator has no such input", hint)
    _check_policy(spec, wanted, place)
    name, _, output_name = spec.from_.partition(".")
    producer = nodes.get(name)
    if producer is None:
        place.inside("from").report(f"there is no node '{name}'", nearest(name, nodes))
        return None
    if producer is node:
        place.inside("from").report("a node cannot feed itself", "keep the state in the operator")
        return None
    found = _output(producer, output_name, place.inside("from"))
    if found is None or (node.op is not None and wanted is None):
        return None
    return DraftEdge(spec, name, found[0], found[1], node.name, port, wanted)


def _check_policy(spec: EdgeSpec, wanted: Port | None, place: Place) -> None:
    if wanted is None or wanted.arrival == "latest":
        return
    missing = [key for key in ("queue", "full") if getattr(spec, key) is None]
    if missing:
        message = f"{' and '.join(missing)} must be given"
        place.report(message, "e.g. queue: 2, full: block | drop_oldest | latest")


def _output(producer: DraftNode, port: str, place: Place) -> tuple[str, Port | None] | None:
    if producer.op is None:
        return port or "out", None
    outputs = producer.op.outputs
    if not outputs:
        place.report(f"'{producer.name}' is a sink: nothing comes out of it")
    elif port in outputs:
        return port, outputs[port]
    elif port:
        message = f"'{producer.name}' has no output '{port}'"
        place.report(message, nearest(port, outputs))
    elif len(outputs) == 1 or "out" in outputs:
        name = "out" if "out" in outputs else next(iter(outputs))
        return name, outputs[name]
    else:
        choices = ", ".join(f"{producer.name}.{name}" for name in outputs)
        place.report(f"'{producer.name}' has several outputs", f"one of {choices}")
    return None


def _check_inputs(node: DraftNode, place: Place) -> None:
    if node.op is None:
        return
    for port in node.op.inputs.values():
        if port.name not in node.spec.inputs and not port.optional:
            accepted = f"it accepts {port.caps.describe()}"
            place.inside(f"inputs.{port.name}").report("this input is not wired", accepted)
    batched = [port.name for port in node.op.inputs.values() if port.arrival == "batch"]
    if batched and node.spec.batch is None:
        message = f"the port '{batched[0]}' takes batches, so their size must be given"
        place.inside("batch").report(message, "e.g. batch: {max_size: 4, max_wait_ms: 5}")
    if node.spec.batch is not None and not batched:
        place.inside("batch").report("the operator takes no batches", "leave it out")
    _check_join(node, len(node.op.inputs), place.inside("join"))


def _check_join(node: DraftNode, inputs: int, place: Place) -> None:
    join = node.spec.join
    if join is None:
        return
    if inputs < 2:
        place.report("the operator has fewer than two inputs to put together", "leave it out")
    elif join.policy == "nearest" and not join.tolerance_ms:
        place.inside("tolerance_ms").report("nearest needs a tolerance above 0 ms")
    elif join.policy != "nearest" and join.tolerance_ms:
        place.inside("tolerance_ms").report(f"means nothing with policy {join.policy}")


def _cycle(waiting: Mapping[str, set[str]]) -> list[str]:
    """The nodes of one cycle, in the direction of the frames; every node has a producer in here."""
    way = [next(iter(waiting))]
    while True:
        producer = next(name for name in waiting if name in waiting[way[-1]])
        if producer in way:
            found = way[way.index(producer) :][::-1]
            first = found.index(next(name for name in waiting if name in found))
            return found[first:] + found[:first]
        way.append(producer)
