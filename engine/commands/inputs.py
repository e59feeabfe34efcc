"""INPUTS of the command line: each file or URL becomes a stream of the graph's only source."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Protocol

from engine.commands.console import CommandError

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
    """INPUTS resolved: how to change the graph, and what to tell the user."""

    overrides: tuple[str, ...] = ()  # `--set` assignments
    lines: tuple[str, ...] = ()  # "door: rtsp://host/door (operators.sources.rtsp:RtspSource)"
    mode: str | None = None
    sources: tuple[Source, ...] = ()

    def count_frames(self) -> int | None:
        """The frames of all inputs together; None where one of them does not say."""
        counts = [source.count_frames() for source in self.sources]
        return sum(filter(None, counts)) if counts and all(counts) else None


def resolve_inputs(
    uris: Sequence[str], mode: str | None, graph: object, resolver: Resolver | None = None
) -> Inputs:
    """How the plain data of a graph changes so that its only source plays `uris`."""
    if not uris:
        return Inputs(mode=mode, overrides=(f"mode={mode}",) if mode else ())
    resolve = resolver or installed_resolver()
    sources = [resolve(uri, mode) for uri in uris]
    for what, kinds in (("operator", {s.op for s in sources}), ("mode", {s.mode for s in sources})):
        if len(kinds) > 1:
            raise CommandError(
                f"these inputs need more than one {what} ({', '.join(sorted(kinds))}):"
                " run them apart, or give each a source node of its own in a graph file"
            )
    node, data = only_source(graph)
    ids = unique([source.stream_id for source in sources])
    streams = {key: source.config for key, source in zip(ids, sources, strict=True)}
    op, chosen = sources[0].op, mode or sources[0].mode
    overrides = [f"{node}.op={json.dumps(op)}", f"{node}.streams={json.dumps(streams)}"]
    if data.get("op") != op:  # the fields that the graph sets are another operator's
        overrides.append(f"{node}.config={{}}")
    lines = [f"{key}: {source.shown} ({op})" for key, source in zip(ids, sources, strict=True)]
    return Inputs((*overrides, f"mode={chosen}"), tuple(lines), chosen, tuple(sources))


def only_source(graph: object) -> tuple[str, Mapping[str, Any]]:
    """The name and the data of the graph's only node without inputs."""
    nodes = graph.get("nodes") if isinstance(graph, Mapping) else None
    found = {
        str(name): node
        for name, node in (nodes.items() if isinstance(nodes, Mapping) else ())
        if isinstance(node, Mapping) and not node.get("inputs")
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
