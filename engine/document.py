"""YAML text to plain data and back: YAML 1.2's core schema, every key once, lines in messages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from engine.errors import Problem

MOST_VALUES = 100_000  # of a document, aliases written out


def read_document(text: str, problems: list[Problem]) -> object:
    """The only document in `text`; None with `problems` told when it is not well formed."""
    try:
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
            problems += _structure_problems(root, (), set())
            if not problems and _size(root, {}) > MOST_VALUES:
                message = f"its anchors stand for more than {MOST_VALUES:,} values"
                problems.append(Problem("", "", message, "write out what is meant"))
            return None if problems or root is None else loader.construct_document(root)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        context = f" {error.context}" if error.context else ""
        problems.append(Problem("", where, f"not YAML: {error.problem}{context}"))
    except RecursionError:
        problems.append(Problem("", "", "not a graph: lists or mappings are nested too deeply"))
    except yaml.YAMLError as error:  # a character that YAML forbids
        problems.append(Problem("", "", f"not YAML: {error}"))
    return None


def read_value(text: str) -> object:
    """One value as YAML reads it; yaml.YAMLError when it is not one."""
    try:
        return yaml.load(text, Loader=_Loader)
    except RecursionError as error:
        raise yaml.YAMLError("nested too deeply") from error


def write_document(data: object) -> str:
    """The YAML of plain data; small mappings on one line."""
    return yaml.dump(
        data,
        Dumper=_Dumper,
        sort_keys=False,
        default_flow_style=None,
        allow_unicode=True,
        width=100,
    )


def _structure_problems(node: Any, above: tuple[int, ...], seen: set[int]) -> Iterator[Problem]:
    """Keys that appear twice, and anchors that contain themselves. Each node is looked at once."""
    if id(node) in above:
        line = node.start_mark.line + 1
        yield Problem("", f"line {line}", "an anchor that contains itself")
        return
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and key.value in first:
                message = f"the key '{key.value}' is on line {first[key.value]} already"
                yield Problem("", f"line {line}", message, "keep one of them")
            elif isinstance(key, yaml.ScalarNode):
                first[key.value] = line
            yield from _structure_problems(value, (*above, id(node)), seen)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _structure_problems(item, (*above, id(node)), seen)


def _size(node: Any, known: dict[int, int]) -> int:
    """How many values a node stands for when every alias is written out."""
    if id(node) not in known:
        children: list[Any] = []
        if isinstance(node, yaml.MappingNode):
            children = [value for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            children = node.value
        known[id(node)] = 1 + sum(_size(child, known) for child in children)
    return known[id(node)]


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core schema: `on`, `12:30` and `2026-01-01` are text, `1e-3` is a number."""


class _Dumper(yaml.SafeDumper):
    """Quotes exactly what `_Loader` would take for something else; never writes an anchor."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_CORE_SCHEMA = {
    "null": (r"~|null|Null|NULL|", "~nN\0"),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?(?:0|[1-9][0-9]*)|0x[0-9a-fA-F]+", "-+0123456789"),
    "float": (
        r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    "merge": (r"<<", "<"),
}
for _class in (_Loader, _Dumper):
    _class.yaml_implicit_resolvers = {}
    for _tag, (_pattern, _first) in _CORE_SCHEMA.items():
        _class.add_implicit_resolver(
            f"tag:yaml.org,2002:{_tag}",
            re.compile(rf"^(?:{_pattern})$"),
            ["" if character == "\0" else character for character in _first],
        )
