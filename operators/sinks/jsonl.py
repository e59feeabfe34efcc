"""Writes events to a file, one JSON object per line, each line on disk before the next event."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from engine import Config, OpContext, Operator
from operators.ports import Events
from operators.sinks._events import event_rows
from operators.sinks._files import disk_errors, reserve


class JsonlSinkConfig(Config, frozen=True):
    """Where to."""

    path: Annotated[
        str,
        Meta(
            min_length=1,
            description="file; an existing one is never overwritten, the next free of NAME-2, "
            "NAME-3, ... is taken",
        ),
    ] = "events.jsonl"
    append: Annotated[bool, Meta(description="go on in an existing file instead")] = False


class JsonlSink(Operator[JsonlSinkConfig]):
    """A line is whole or absent, also after a kill or on a full disk."""

    event_sink = True
    pixels = "ignored"
    _path: Path | None = None  # once it has been opened: trying again goes on in the same file

    def open(self, ctx: OpContext) -> None:
        self._node = ctx.node
        wanted = self._path or ctx.output_path(self.config.path)
        with disk_errors(self._node, wanted):
            if self._path is None:
                self._path = wanted if self.config.append else reserve(wanted)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            self._end = _end_of_last_line(self._file)
            os.ftruncate(self._file, self._end)

    def process(self, events: Events) -> None:
        for row in event_rows(events):
            self._append(msgspec.json.encode(row) + b"\n")

    def close(self) -> None:
        os.close(self._file)

    def _append(self, line: bytes) -> None:
        assert self._path is not None
        with disk_errors(self._node, self._path):
            written = 0
            try:
                while written < len(line):
                    written += os.pwrite(self._file, line[written:], self._end + written)
            except OSError:
                os.ftruncate(self._file, self._end)
                raise
        self._end += len(line)


def _end_of_last_line(file: int, step: int = 4096) -> int:
    """Where whole lines end: a kill in the middle of a write may have left half a line."""
    end = os.fstat(file).st_size
    while end > 0:
        start = max(0, end - step)
        newline = os.pread(file, end - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0
