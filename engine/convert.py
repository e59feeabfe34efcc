"""Plain data to structs, field by field: every problem is collected, with place and remedy."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, Struct
from msgspec.structs import FieldInfo

from engine.errors import Problem

S = TypeVar("S", bound=Struct)
MANY = 12  # names listed in a hint


class Place:
    """Where problems are found: a node ('' for the graph itself) and a dotted path inside it."""

    __slots__ = ("node", "path", "problems")

    def __init__(self, problems: list[Problem], node: str = "", path: str = "") -> None:
        self.problems = problems
        self.node = node
        self.path = path

    def inside(self, key: str) -> Place:
        return Place(self.problems, self.node, f"{self.path}.{key}" if self.path else key)

    def report(self, message: str, hint: str = "") -> None:
        self.problems.append(Problem(self.node, self.path, message, hint))


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint for a person: the known word that is most like `word`, else all that are known."""
    words = [str(name) for name in known]
    close = difflib.get_close_matches(word, words, n=1)
    if close:
        return f"did you mean '{close[0]}'?"
    more = f" and {len(words) - MANY} more" if len(words) > MANY else ""
    return f"known: {', '.join(words[:MANY])}{more}" if words else "there are none"


def convert_struct(kind: type[S], data: object, place: Place) -> S | None:
    """`data` as a `kind`. A wrong field is reported and its default taken, so that one call finds
    every problem; None where that leaves a required field open. Look at `place.problems` after.
    """
    if not isinstance(data, Mapping):
        place.report(f"{show(data)} where key: value pairs are expected")
        return None
    known = {info.encode_name: info for info in msgspec.structs.fields(kind)}
    check_keys(data, known, place)
    values: dict[str, Any] = {}
    for key, info in known.items():
        if key in data:
            convert_field(info, data[key], place.inside(key), values)
        elif info.required:
            place.inside(key).report("is required", _describe(info.type))
    if any(info.required and info.name not in values for info in known.values()):
        return None
    try:
        return kind(**values)
    except (ValueError, TypeError) as error:  # raised by the struct's own __post_init__
        place.report(str(error))
        return None


def check_keys(data: Mapping[Any, Any], known: Iterable[str], place: Place) -> None:
    """Report every key that is not known, with the nearest one that is."""
    known = list(known)
    for key in data:
        if not isinstance(key, str):
            place.report(f"the key {key!r} is not text", f"put it in quotes: '{key}'")
        elif key not in known:
            place.inside(key).report("there is no such key", nearest(key, known))


def convert_field(info: FieldInfo, value: object, place: Place, values: dict[str, Any]) -> None:
    """Put the converted value into `values`, unless it is wrong."""
    struct, is_mapping = _struct_of(info.type)
    if value is None and info.default is None:
        values[info.name] = None
    elif struct is None and is_mapping and isinstance(value, Mapping):
        inner = get_args(_parts(info.type)[0])[1]
        made = {str(key): convert_value(inner, value[key], place.inside(str(key))) for key in value}
        values[info.name] = {key: item for key, item in made.items() if item is not NODEFAULT}
    elif struct is None:
        converted = convert_value(info.type, value, place)
        if converted is not NODEFAULT:
            values[info.name] = converted
    elif is_mapping:
        values[info.name] = convert_mapping(struct, value, place)
    elif (struct_value := convert_struct(struct, value, place)) is not None:
        values[info.name] = struct_value


def convert_mapping(kind: type[S], data: object, place: Place) -> dict[str, S]:
    """A mapping of names to structs; entries that cannot be made are reported and left out."""
    if not isinstance(data, Mapping):
        place.report(f"{show(data)} where name: {{...}} pairs are expected")
        return {}
    made = {}
    for key, value in data.items():
        if not isinstance(key, str):
            place.report(f"the name {key!r} is not text", f"put it in quotes: '{key}'")
        elif (struct := convert_struct(kind, value, place.inside(key))) is not None:
            made[key] = struct
    return made


def convert_value(kind: Any, value: object, place: Place) -> Any:
    """The converted value, or NODEFAULT after reporting what is allowed and what came."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        if not path:
            message = message.partition(", got")[0]
            message += "" if message.startswith("Invalid") else f", got {show(value)}"
        at = place.inside(path.rstrip("`").lstrip(".")) if path else place
        at.report(f"{message[0].lower()}{message[1:]}", _choices(kind, value))
        return NODEFAULT


def show(value: object) -> str:
    """A value in a message: short, on one line."""
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _choices(kind: Any, value: object) -> str:
    names = [name for part in _parts(kind) for name in _literals(part)]
    if not names:
        return ""
    return nearest(value, names) if isinstance(value, str) else f"known: {', '.join(names)}"


def _literals(kind: Any) -> tuple[str, ...]:
    return tuple(map(str, get_args(kind))) if get_origin(kind) is typing.Literal else ()


def _describe(kind: Any) -> str:
    if get_origin(kind) is typing.Annotated:
        for extra in get_args(kind)[1:]:
            if isinstance(extra, msgspec.Meta) and extra.description:
                return extra.description
    return ""


def _parts(kind: Any) -> list[Any]:
    """The members of a union without None, each without its Annotated."""
    if get_origin(kind) is typing.Annotated:
        return _parts(get_args(kind)[0])
    if get_origin(kind) in (typing.Union, types.UnionType):
        return [part for member in get_args(kind) for part in _parts(member)]
    return [] if kind is type(None) else [kind]


def _struct_of(kind: Any) -> tuple[type[Struct] | None, bool]:
    """(the struct in `X`, `X | None` or `dict[str, X]`, whether it is in a mapping)."""
    parts = _parts(kind)
    if len(parts) != 1:
        return None, False
    is_mapping = get_origin(parts[0]) is dict and get_args(parts[0])[0] is str
    inner = get_args(parts[0])[1] if is_mapping else parts[0]
    inner = (_parts(inner) or [None])[0]
    if isinstance(inner, type) and issubclass(inner, Struct):
        return inner, is_mapping
    return None, is_mapping
