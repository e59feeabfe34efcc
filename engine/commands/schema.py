"""`frameloom schema`: the JSON schema of graph files."""

from __future__ import annotations

from pathlib import Path

import msgspec

from engine.commands.console import CommandError, print_json, stderr
from engine.schema import json_schema


def schema_command(out: Path | None) -> None:
    """Print it, or write it to a file."""
    found = json_schema()
    if out is None:
        print_json(found)
        return
    try:
        out.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    except OSError as error:
        raise CommandError(f"{out}: cannot be written: {error.strerror}") from error
    hint = f"# yaml-language-server: $schema={out}"
    stderr().print(
        f"wrote {out}; the first line of a graph file may be: {hint}", markup=False, soft_wrap=True
    )
