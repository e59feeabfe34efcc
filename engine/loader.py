"""Graph files: YAML to `GraphSpec` and back, with every problem told at once, and overrides."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import yaml
from msgspec import Struct

from engine.convert import Place, convert_struct, nearest, show
from engine.document import read_document, read_value, write_document
from engine.errors import GraphError, Problem
from engine.graph import default_of
from engine.spec import GraphSpec, NodeSpec

GRAPHS = "graphs"  # the package that holds the graphs that come with the program
TOP_KEYS = tuple(info.encode_name for info in msgspec.structs.fields(GraphSpec))
NODE_KEYS = tuple(info.encode_name for info in msgspec.structs.fields(NodeSpec))


def load_graph(path_or_name: str | Path) -> GraphSpec:
    """Read a graph file; a bare name such as `guard` means a graph that comes with the program."""
    return spec_from_data(read_data(path_or_name), str(path_or_name))


def parse_graph(text: str, source: str = "graph") -> GraphSpec:
    """The spec written in `text`; GraphError names everything that is wrong with its form."""
    return spec_from_data(parse_data(text, source), source)


def read_data(path_or_name: str | Path) -> object:
    """The plain data in a graph file, its form not yet checked."""
    return parse_data(*_read(str(path_or_name)))


def parse_data(text: str, source: str) -> object:
    """The plain data in YAML text; GraphError with line numbers when it is not well formed."""
    problems: list[Problem] = []
    data = read_document(text, problems)
    if problems:
        raise GraphError(source, problems)
    return data


def spec_from_data(data: object, source: str) -> GraphSpec:
    """The spec that plain data (as YAML gives it) stands for; GraphError with every problem."""
    problems: list[Problem] = []
    spec = read_spec(data, problems)
    if problems or spec is None:
        raise GraphError(spec.graph if spec else source, problems)
    return spec


def read_spec(data: object, problems: list[Problem]) -> GraphSpec | None:
    """As much of the spec as can be read; what cannot is added to `problems` and left out."""
    if not isinstance(data, dict):
        problems.append(Problem("", "", f"{show(data)} where a graph is expected", "graph: name"))
        return None
    spec = convert_struct(GraphSpec, {**data, "nodes": {}}, Place(problems))
    nodes = data.get("nodes", {})
    if not isinstance(nodes, dict):
        problems.append(Problem("", "nodes", f"{show(nodes)} where name: {{op: ...}} is expected"))
        nodes = {}
    made: dict[str, NodeSpec] = {}
    for name, node in nodes.items():
        if not isinstance(name, str):
            problems.append(Problem("", "nodes", f"the name {name!r} is not text"))
            continue
        read = convert_struct(NodeSpec, node, Place(problems, name))
        made[name] = read or NodeSpec(op="")
    return msgspec.structs.replace(spec, nodes=made) if spec else None


def to_data(spec: GraphSpec) -> dict[str, Any]:
    """The spec as plain data, defaults left out: what its YAML says."""
    return _compact(spec)


def dump_graph(spec: GraphSpec) -> str:
    """The YAML of a spec: `parse_graph(dump_graph(spec)) == spec`."""
    return write_document(to_data(spec))


def apply_overrides(spec: GraphSpec, assignments: Iterable[str]) -> GraphSpec:
    """The spec with `--set` values put in; see `override`."""
    data = to_data(spec)
    problems: list[Problem] = []
    override(data, assignments, problems)
    read = read_spec(data, problems)
    if problems or read is None:
        raise GraphError(spec.graph, problems)
    return read


def override(data: object, assignments: Iterable[str], problems: list[Problem]) -> None:
    """Put `path=value` assignments into a graph's plain data. The value is read as YAML. Paths:

    `mode=file` (a key of the graph), `workers.gpu.host=10.0.0.2`, `detect.worker=gpu`,
    `detect.inputs.frames.queue=2`, `detect.batch.max_size=8`, `cam.streams.door.uri=...`,
    `detect.config.min_score=0.6`, or in short `detect.min_score=0.6`. Whether the operator has such
    a config field is told by `check`.
    """
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not path:
            problems.append(Problem("", "--set", f"'{assignment}' is not path=value"))
            continue
        try:
            value = read_value(text)
        except yaml.YAMLError:
            problems.append(Problem("", f"--set {path}", f"{show(text)} is no YAML value"))
            continue
        if isinstance(data, dict):
            _assign(data, path.split("."), value, problems)


def _assign(data: dict[str, Any], path: list[str], value: Any, problems: list[Problem]) -> None:
    nodes = _mapping(data.get("nodes"))
    first, *rest = path
    if rest and isinstance(nodes.get(first), dict):
        _assign_in_node(nodes[first], rest, value, Place(problems, first))
    elif first in TOP_KEYS and bool(rest) == (first == "workers"):
        _put(data, path, value, Place(problems))
    else:
        known, kind = (nodes, "node") if rest else (TOP_KEYS, "key of the graph")
        place = Place(problems, "", f"--set {'.'.join(path)}")
        place.report(f"there is no {kind} '{first}'", nearest(first, known))


def _assign_in_node(node: dict[str, Any], path: list[str], value: Any, place: Place) -> None:
    path = path if path[0] in NODE_KEYS else ["config", *path]
    if path[0] in ("inputs", "streams") and len(path) > 2:
        there = _mapping(node.get(path[0]))
        if path[1] not in there:
            place.inside(".".join(path)).report(f"there is no '{path[1]}'", nearest(path[1], there))
            return
    _put(node, path, value, place)


def _put(target: dict[str, Any], path: list[str], value: Any, place: Place) -> None:
    for key in path[:-1]:
        if target.get(key) is None:
            target[key] = {}
        target = target[key]
        place = place.inside(key)
        if not isinstance(target, dict):
            place.report(f"has the value {show(target)}, so nothing can be set inside it")
            return
    target[path[-1]] = value


def _mapping(data: object) -> dict[Any, Any]:
    """`data`, or nothing where it is not a mapping: that is told when the spec is read."""
    return data if isinstance(data, dict) else {}


def _compact(struct: Struct) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for info in msgspec.structs.fields(struct):
        value = getattr(struct, info.name)
        if value != default_of(info):
            data[info.encode_name] = _plain(value)
    return data


def _plain(value: Any) -> Any:
    if isinstance(value, Struct):
        return _compact(value)
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value


def _read(path_or_name: str) -> tuple[str, str]:
    path = Path(path_or_name)
    is_name = re.fullmatch(r"[\w-]+", path_or_name) is not None
    try:
        if is_name and not path.is_file():
            return _read_packaged(path_or_name), path_or_name
        return path.read_text(encoding="utf-8"), path_or_name
    except FileNotFoundError as error:
        folder = path.parent
        there = [item.name for item in folder.glob("*.y*ml")] if folder.is_dir() else []
        hint = nearest(path.name, there) if there else "give a file or the name of a graph"
        raise _unreadable(path_or_name, "there is no such file", hint) from error
    except UnicodeDecodeError as error:
        raise _unreadable(path_or_name, f"not UTF-8 text: {error}", "is it YAML?") from error
    except OSError as error:
        raise _unreadable(path_or_name, error.strerror or str(error), "") from error


def _read_packaged(name: str) -> str:
    folder = resources.files(GRAPHS)
    file = folder / f"{name}.yaml"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    known = sorted(
        item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml")
    )
    raise _unreadable(name, f"there is no graph '{name}'", nearest(name, known))


def _unreadable(source: str, message: str, hint: str) -> GraphError:
    return GraphError(source, [Problem("", "", message, hint)])
