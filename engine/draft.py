"""The first stage of `check`: each node by itself: operator, config, streams, device, worker."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from engine.catalog import load_operator
from engine.contract import Config, Operator
from engine.convert import Place, convert_struct, nearest
from engine.errors import OperatorError, Problem
from engine.spec import GraphSpec, NodeSpec

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")  # nodes and workers: safe in file and socket names
DEVICE = re.compile(r"cpu|cuda:[0-9]+")


@dataclass(frozen=True, slots=True)
class DraftNode:
    """A node as far as it could be made."""

    name: str
    spec: NodeSpec
    op: type[Operator[Any]] | None  # None: it cannot be had
    config: Config | None  # None: wrong, or complete only together with a stream's part
    streams: dict[str, Config]  # sources only: the complete configs of their streams

    @property
    def configs(self) -> tuple[Config, ...]:
        """Every valid config that the operator will be made with."""
        if self.streams:
            return tuple(self.streams.values())
        return () if self.config is None else (self.config,)


def draft_nodes(spec: GraphSpec, problems: list[Problem]) -> dict[str, DraftNode]:
    """Every node of the graph, and what is wrong with each."""
    if not spec.nodes:
        problems.append(Problem("", "nodes", "the graph has no nodes"))
    return {name: _draft_node(name, node, problems) for name, node in spec.nodes.items()}


def check_workers(spec: GraphSpec, problems: list[Problem]) -> None:
    """Workers that nobody uses are typing mistakes."""
    used = list(dict.fromkeys(node.worker for node in spec.nodes.values()))
    for name in spec.workers:
        if name not in used:
            place = Place(problems, "", f"workers.{name}")
            place.report("no node runs in this worker", nearest(name, used))


def _draft_node(name: str, spec: NodeSpec, problems: list[Problem]) -> DraftNode:
    place = Place(problems, name)
    _check_names(name, spec, place)
    op = _operator(spec, place)
    if op is not None:
        _check_device(op, spec, place)
    config: Config | None = None
    streams: dict[str, Config] = {}
    if op is not None and spec.streams and op.inputs:
        place.inside("streams").report("only a source has streams, and this node has inputs")
    elif op is not None and spec.streams:
        streams = _stream_configs(op, spec, place)
    elif op is not None:
        config = _config(op, spec.config, place)
    for made in filter(None, (config, *streams.values())):
        _check_checkpoints(op, made, place)
    return DraftNode(name, spec, op, config, streams)


def _check_names(name: str, spec: NodeSpec, place: Place) -> None:
    if not NAME.fullmatch(name):
        place.report("is no name for a node", "letters, digits, _ and -, a letter first")
    if not NAME.fullmatch(spec.worker):
        message = f"'{spec.worker}' is no name for a worker"
        place.inside("worker").report(message, "letters, digits, _ and -, a letter first")
    if not DEVICE.fullmatch(spec.device):
        place.inside("device").report(f"there is no device '{spec.device}'", "cpu or cuda:N")


def _check_device(op: type[Operator[Any]], spec: NodeSpec, place: Place) -> None:
    """An operator that knows no GPU would run on the CPU, whatever the graph says: not silently."""
    kind = spec.device.partition(":")[0]
    if DEVICE.fullmatch(spec.device) and kind not in op.devices:
        where = " and ".join(op.devices)
        place.inside("device").report(
            f"{op.__name__} runs on {where} only, not on {spec.device}",
            "cuda:0" if "cuda" in op.devices else "device: cpu",
        )


def _operator(spec: NodeSpec, place: Place) -> type[Operator[Any]] | None:
    if not spec.op:  # its absence has been told when the file was read
        return None
    try:
        return load_operator(spec.op)
    except OperatorError as error:
        place.inside("op").report(error.message)
        return None


def _config(op: type[Operator[Any]], data: dict[str, Any], place: Place) -> Config | None:
    before = len(place.problems)
    made = convert_struct(op.config_type, data, place.inside("config"))
    return made if len(place.problems) == before else None


def _check_checkpoints(op: type[Operator[Any]] | None, config: Config, place: Place) -> None:
    for name, path in op.checkpoints(config).items() if op else ():
        if not path.exists():
            message = f"there is no checkpoint {path}"
            place.inside(f"config.{name}").report(message, "`frameloom train` makes one")


def _stream_configs(op: type[Operator[Any]], spec: NodeSpec, place: Place) -> dict[str, Config]:
    """The node's config completed by each stream's. What the node's part has wrong is told once."""
    made: dict[str, Config] = {}
    told: set[str] = set()
    for stream_id, own in spec.streams.items():
        found: list[Problem] = []
        config = convert_struct(op.config_type, {**spec.config, **own}, Place(found, place.node))
        for problem in found:
            key = problem.field.partition(".")[0]
            shared = key in spec.config and key not in own
            path = "config" if shared else f"streams.{stream_id}"
            moved = Problem(
                place.node, f"{path}.{problem.field}".rstrip("."), problem.message, problem.hint
            )
            if repr(moved) not in told:
                told.add(repr(moved))
                place.problems.append(moved)
        if config is not None and not found:
            made[stream_id] = config
    return made
