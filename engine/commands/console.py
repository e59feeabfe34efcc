"""What all commands say things with: consoles, exit codes, errors as one red line or a tree."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

import msgspec
from rich.console import Console
from rich.text import Text

from engine.errors import EngineError
from engine.telemetry.stats import RunEvent

EXIT_OK = 0  # done, or stopped on request
EXIT_FAILED = 1  # a node, a stream or a worker failed
EXIT_USAGE = 2  # the graph or the command is wrong; nothing ran
EXIT_DEGRADED = 3  # came to its end, but frames were quarantined or lost with a worker


class ErrorConsole(Console):
    """Standard error. When nobody reads it any more it falls silent: the run goes on."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


class CommandError(EngineError):
    """A command cannot be carried out as it was given."""


def stdout() -> Console:
    """For results. Plain text of full width where it is not a terminal."""
    console = Console()
    return console if console.is_terminal else Console(width=max(console.width, 120))


@cache
def stderr() -> Console:
    """For progress, events and errors: one for all, so that a live table and lines get along."""
    return ErrorConsole(stderr=True)


def print_error(error: BaseException) -> None:
    """The message on standard error: one line, or the tree that a GraphError carries."""
    first, *rest = (str(error) or type(error).__name__).splitlines()
    text = Text.assemble((f"error: {first}", "bold red"), *(f"\n{line}" for line in rest))
    stderr().print(text, soft_wrap=True)


def print_json(data: Any) -> None:
    """One JSON object on standard output."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(data), indent=2).decode() + "\n")


def print_event(event: RunEvent) -> None:
    """What happens in a run, as it happens: one line on standard error."""
    where = "/".join(filter(None, (event.node, event.stream_id)))
    place = f" {where}" if where else ""
    stderr().print(
        Text.assemble(event.time, f"{place} ", (event.code, "bold yellow"), f" {event.message}"),
        soft_wrap=True,
    )
