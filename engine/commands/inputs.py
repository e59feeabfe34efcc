"""INPUTS of the command line: each file or URL becomes a stream of the graph's only source."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Protocol

from engine.catalog import load_operator
from engine.commands.console import CommandError
from engine.contract import Port
from engine.errors import OperatorError

GROUP = "frameloom.uris"


class Source(Protocol):
    """What the installed resolver of URIs says about one of them."""

    @property
    def op(self) -> str: ...
    @property
    def config(self) -> dict[str, Any]: ...
    @property
    def mode(self) -> Any: ...
    @property
    def stream_id(self) -> str: ...
    @property
    def shown(self) -> str: ...
    def count_frames(self) -> int | None: ...


Resolver = Callable[[str, str | None], Source]


@dataclass(frozen=True)
class Inputs:
    """INPUTS and `--mode`, resolved."""

    mode: str | None = None  # None: as the graph says
    sources: tuple[tuple[str, Source], ...] = ()  # stream id -> its source

    @property
    def lines(self) -> list[str]:
        """What to tell the user: "door: rtsp://host/door (operators.sources.rtsp:RtspSource)"."""
        return [f"{name}: {source.shown} ({source.op})" for name, source in self.sources]

    def count_frames(self) -> int | None:
        """The frames of all inputs together; None where one of them does not say."""
        counts = [source.count_frames() for _, source in self.sources]
        return sum(filter(None, counts)) if counts and all(counts) else None

    def edit(self, graph: object) -> None:
        """Change the plain data of a graph so that its only source plays these inputs."""
        if self.mode is not None and isinstance(graph, dict):
            graph["mode"] = self.mode
        if not self.sources:
            return
        name, node = only_source(graph)
        op = self.sources[0][1].op
        if node.get("op") != op:  # what the graph sets are another operator's fields and ports
            node |= {"op": op, "config": {}}
            leave_out_missing_ports(graph, name, load_operator(op).outputs)
        node["streams"] = {key: source.config for key, source in self.sources}


def resolve_inputs(
    uris: Sequence[str], mode: str | None, resolver: Resolver | None = None
) -> Inputs:
    """Ask the installed resolver about each URI. They must agree on operator and mode."""
    if not uris:
        return Inputs(mode)
    resolve = resolver or installed_resolver()
    sources = [resolve(uri, mode) for uri in uris]
    for what, kinds in (("operator", {s.op for s in sources}), ("mode", {s.mode for s in sources})):
        if len(kinds) > 1:
            raise CommandError(
                f"these inputs need more than one {what} ({', '.join(sorted(kinds))}):"
                " run them apart, or give each a source node of its own in a graph file"
            )
    ids = unique(source.stream_id for source in sources)
    return Inputs(mode or sources[0].mode, tuple(zip(ids, sources, strict=True)))


def leave_out_missing_ports(graph: Any, source: str, ports: Mapping[str, Port]) -> None:
    """A camera without sound in place of a file: optional inputs fed by the sound are taken away.

    An input that its operator cannot do without stays, for `check` to name.
    """
    for node in graph["nodes"].values():
        inputs = node.get("inputs") if isinstance(node, dict) else None
        if not isinstance(inputs, dict):
            continue
        for port, edge in list(inputs.items()):
            producer, _, output = str(_producer(edge)).partition(".")
            if producer == source and output and output not in ports and _optional(node, port):
                del inputs[port]


def only_source(graph: object) -> tuple[str, dict[str, Any]]:
    """The name and the data of the graph's only node without inputs."""
    nodes = graph.get("nodes") if isinstance(graph, dict) else None
    found = {
        str(name): node
        for name, node in (nodes.items() if isinstance(nodes, dict) else ())
        if isinstance(node, dict) and not node.get("inputs")
    }
    if len(found) != 1:
        have = f"has {len(found)} ({', '.join(found)})" if found else "has none"
        raise CommandError(
            f"inputs replace those of the graph's only source, and this graph {have}:"
            " use --set node.streams.NAME.field=value"
        )
    return next(iter(found.items()))


def unique(names: Iterable[str]) -> list[str]:
    """The names, repeated ones with -2, -3 behind them."""
    taken: dict[str, None] = {}
    for name in names:
        candidate, number = name, 1
        while candidate in taken:
            number += 1
            candidate = f"{name}-{number}"
        taken[candidate] = None
    return list(taken)


def installed_resolver() -> Resolver:
    """The resolver that an installed package of operators offers."""
    found = entry_points(group=GROUP)
    for entry in found:
        resolver: Resolver = entry.load()
        return resolver
    raise CommandError(
        f"no package that knows URIs is installed (entry point group '{GROUP}'):"
        " install this one (`pip install -e .`), or name the source with --set"
    )


def _producer(edge: object) -> object:
    return edge.get("from", "") if isinstance(edge, dict) else ""


def _optional(node: Mapping[str, Any], port: str) -> bool:
    try:
        inputs = load_operator(str(node.get("op"))).inputs
    except OperatorError:
        return False
    return port in inputs and inputs[port].optional
