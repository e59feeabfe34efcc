"""`frameloom models`: which checkpoints operators read by themselves, and what a checkpoint says.

A safetensors file carries text beside its tensors; what is JSON in it is shown, no tensor is read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from engine.catalog import known_operators
from engine.commands.console import CommandError, print_json, stdout
from engine.commands.tables import make_table

MOST_HEADER_BYTES = 100 * 2**20  # as the format has it


def models_command(path: Path | None, *, as_json: bool) -> None:
    """The checkpoints of all operators as they come, or everything one file says of itself."""
    if path is not None:
        told = told_by(path)
        if as_json:
            print_json(told)
        else:
            text = json.dumps(told, indent=2, ensure_ascii=False)
            stdout().print(text, markup=False, highlight=False, soft_wrap=True)
        return
    found = shipped()
    if as_json:
        print_json(found)
        return
    table = make_table("operator", "checkpoint", ">bytes")
    for row in found:
        size = "missing" if row["bytes"] is None else str(row["bytes"])
        table.add_row(row["operator"], row["path"], size)
    stdout().print(table)


def shipped() -> list[dict[str, Any]]:
    """A row per operator and checkpoint that it reads where its config names none."""
    rows = []
    for op, kind in known_operators().items():
        try:
            config = kind.config_type()
        except TypeError:  # a field without default: it has no checkpoint of its own
            continue
        for path in kind.checkpoints(config).values():
            size = path.stat().st_size if path.is_file() else None
            rows.append({"operator": op.rpartition(":")[2], "path": str(path), "bytes": size})
    return rows


def told_by(path: Path) -> dict[str, Any]:
    """The texts in a safetensors file's header, decoded. CommandError if it is none."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > MOST_HEADER_BYTES:
                raise CommandError(f"{path}: is no safetensors file")
            header = msgspec.json.decode(file.read(length))
        texts = header.get("__metadata__", {})
        return {name: _decoded(text) for name, text in texts.items()}
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from error
    except (msgspec.DecodeError, AttributeError) as error:
        raise CommandError(f"{path}: is no safetensors file: {error}") from error


def _decoded(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
