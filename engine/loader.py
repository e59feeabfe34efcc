"""Graph files: YAML to `GraphSpec` and back, with every problem told at once, and overrides."""

from __future__ import annotations

import copy
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


def load_graph(path_or_name: str | Path) -> GraphSpec:
    """Read a graph file; a bare name such as `guard` means a graph that comes with the program."""
    text, source = _read(str(path_or_name))
    return parse_graph(text, source)


def parse_graph(text: str, source: str = "graph") -> GraphSpec:
    """The spec written in `text`; GraphError names everything that is wrong with its form."""
    problems: list[Problem] = []
    data = read_document(text, problems)
    if problems:
        raise GraphError(source, problems)
    return spec_from_data(data, source)


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
    """The spec with `--set` values put in. The value is read as YAML. The path is one of

    `mode=file` (a key of the graph), `workers.gpu.host=10.0.0.2`, `detect.worker=gpu`,
    `detect.inputs.frames.queue=2`, `detect.batch.max_size=8`, `cam.streams.door.uri=...`,
    `detect.config.min_score=0.6`, or in short `detect.min_score=0.6`. Whether the operator has such
    a config field is told by `check`.
    """
    data = copy.deepcopy(to_data(spec))
    problems: list[Problem] = []
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not path:
            problems.append(Problem("", "--set", f"'{assignment}' is not path=value"))
            continue
        try:
            value = read_value(text)
        except yaml.YAMLError as error:
            problems.append(Problem("", f"--set {path}", f"{show(text)} is no value: {error}"))
            continue
        _assign(data, path.split("."), value, problems)
    read = read_spec(data, problems)
    if problems or read is None:
        raise GraphError(spec.graph, problems)
    return read


def _assign(data: dict[str, Any], path: list[str], value: Any, problems: list[Problem]) -> None:
    nodes = data.setdefault("nodes", {})
    if path[0] in nodes and len(path) > 1:
        node_keys = [info.encode_name for info in msgspec.structs.fields(NodeSpec)]
        rest = path[1:] if path[1] in node_keys else ["config", *path[1:]]
        place = Place(problems, path[0])
        if (
            rest[0] == "inputs"
            and len(rest) > 2
            and rest[1] not in nodes[path[0]].get("inputs", {})
        ):
            wired = nodes[path[0]].get("inputs", {})
            place.inside(".".join(rest)).report("no such input is wired", nearest(rest[1], wired))
            return
        _put(nodes[path[0]], rest, value, place)
    elif path[0] in _top_keys() and (len(path) == 1 or path[0] == "workers"):
        _put(data, path, value, Place(problems))
    else:
        known = list(nodes) if len(path) > 1 else _top_keys()
        kind = "node" if len(path) > 1 else "key of the graph"
        Place(problems).inside(f"--set {'.'.join(path)}").report(
            f"there is no {kind} '{path[0]}'", nearest(path[0], known)
        )


def _put(target: dict[str, Any], path: list[str], value: Any, place: Place) -> None:
    for key in path[:-1]:
        target = target.setdefault(key, {})
        place = place.inside(key)
        if not isinstance(target, dict):
            place.report(f"has the value {show(target)}, so nothing can be set inside it")
            return
    target[path[-1]] = value


def _top_keys() -> list[str]:
    return [info.encode_name for info in msgspec.structs.fields(GraphSpec)]


def _compact(struct: Struct) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for info in msgspec.structs.fields(struct):
        value = getattr(struct, info.name)
        if info.required or value != default_of(info):
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
