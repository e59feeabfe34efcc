"""`frameloom ops`: the installed operators, read from their signatures and configs."""

from __future__ import annotations

import inspect
import typing
from typing import Any

import msgspec
from msgspec import NODEFAULT, Meta
from rich.console import Console
from rich.text import Text

from engine.catalog import known_operators
from engine.commands.console import CommandError, print_json, stdout
from engine.commands.tables import make_table
from engine.contract import Operator, Port, Tunable
from engine.convert import nearest

Kind = type[Operator[Any]]
LIMITS = (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<"), ("multiple_of", "multiple of"))


def ops_command(name: str | None, *, as_json: bool) -> None:
    """A line per operator, or everything about those whose name contains `name`."""
    found = known_operators()
    if name is not None:
        chosen = {op: kind for op, kind in found.items() if name.lower() in op.lower()}
        if not chosen:
            names = [op.rpartition(":")[2] for op in found]
            raise CommandError(f"there is no operator '{name}'; {nearest(name, names)}")
        found = chosen
    if as_json:
        print_json([describe(op, kind) for op, kind in found.items()])
        return
    console = stdout()
    if name is None:
        _print_list(console, found)
        return
    for op, kind in found.items():
        _print_details(console, op, kind)


def describe(op: str, kind: Kind) -> dict[str, Any]:
    """One operator as plain data."""
    return {
        "op": op,
        "about": _about(kind),
        "inputs": [_port(port) for port in kind.inputs.values()],
        "outputs": [_port(port) for port in kind.outputs.values()],
        "config": config_fields(kind),
        "event_sink": kind.event_sink,
        "network_sink": kind.network_sink,
    }


def config_fields(kind: Kind) -> list[dict[str, Any]]:
    """Name, type, limits, meaning, default and tunability of each config field."""
    hints = typing.get_type_hints(kind.config_type, include_extras=True)
    fields = []
    for info in msgspec.structs.fields(kind.config_type):
        base, extras = _unwrap(hints[info.name])
        metas = [extra for extra in extras if isinstance(extra, Meta)]
        fields.append(
            {
                "name": info.encode_name,
                "type": _type_name(base),
                "limits": ", ".join(_limits(meta) for meta in metas if _limits(meta)),
                "meaning": " ".join(meta.description for meta in metas if meta.description),
                "default": _default(info),
                "required": info.required,
                "tunable": any(isinstance(extra, Tunable) for extra in extras),
            }
        )
    return fields


def _unwrap(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """The type inside `Annotated`, also where that is one side of a union."""
    if typing.get_origin(hint) is typing.Annotated:
        return hint.__origin__, hint.__metadata__
    extras: list[Any] = []
    for part in typing.get_args(hint):
        if typing.get_origin(part) is typing.Annotated:
            extras += part.__metadata__
    return hint, tuple(extras)


def _type_name(kind: Any) -> str:
    if kind is type(None):
        return "null"
    if isinstance(kind, type):
        return kind.__name__ if not typing.get_args(kind) else str(kind)
    if typing.get_origin(kind) is typing.Literal:
        return " | ".join(str(choice) for choice in typing.get_args(kind))
    if typing.get_origin(kind) is typing.Annotated:
        return _type_name(kind.__origin__)
    parts = typing.get_args(kind)
    return " | ".join(_type_name(part) for part in parts) if parts else str(kind)


def _limits(meta: Meta) -> str:
    limits = [
        f"{sign} {getattr(meta, key):g}" for key, sign in LIMITS if getattr(meta, key) is not None
    ]
    if meta.pattern is not None:
        limits.append(f"like {meta.pattern}")
    return ", ".join(limits)


def _default(info: msgspec.structs.FieldInfo) -> Any:
    if info.default is not NODEFAULT:
        return msgspec.to_builtins(info.default)
    return (
        None if info.default_factory is NODEFAULT else msgspec.to_builtins(info.default_factory())
    )


def _port(port: Port) -> dict[str, Any]:
    return {
        "name": port.name,
        "caps": port.caps.describe(),
        "label": port.caps.label,
        "cleans": port.caps.cleans,
        "arrival": port.arrival,
        "optional": port.optional,
    }


def _about(kind: Kind) -> str:
    return inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0].replace("\n", " ")


def _port_in_words(port: Port) -> str:
    marks = [port.caps.describe()]
    marks += [port.arrival] * (port.arrival != "each") + ["optional"] * port.optional
    marks += [f"label {port.caps.label}"] * (port.caps.label is not None)
    marks += [f"cleans {port.caps.cleans}"] * (port.caps.cleans is not None)
    return f"{port.name} ({', '.join(marks)})"


def _print_list(console: Console, found: dict[str, Kind]) -> None:
    table = make_table("operator", "inputs", "outputs", "what it does")
    for op, kind in found.items():
        ports = (", ".join(side) or "-" for side in (kind.inputs, kind.outputs))
        table.add_row(op, *ports, Text(_about(kind)))
    console.print(table)
    console.print("`frameloom ops NAME` tells caps and config of one.", highlight=False)


def _print_details(console: Console, op: str, kind: Kind) -> None:
    console.print(Text(op, style="bold"))
    console.print(Text(inspect.cleandoc(kind.__doc__ or "")))
    for title, ports in (("inputs", kind.inputs), ("outputs", kind.outputs)):
        words = ", ".join(_port_in_words(port) for port in ports.values())
        console.print(Text.assemble((f"{title:8}", "bold"), words or "none"))
    table = make_table("config", "type", "limits", "default", "meaning")
    for field in config_fields(kind):
        default = "(required)" if field["required"] else repr(field["default"])
        mark = " (tunable)" if field["tunable"] else ""
        cells = (field["name"], field["type"], field["limits"], default, field["meaning"] + mark)
        table.add_row(*(Text(cell) for cell in cells))
    if table.row_count:
        console.print(table)
    console.print()
