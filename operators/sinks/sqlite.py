"""Writes events to an SQLite database, one row per event, readable while the graph runs."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from engine import Config, OpContext, Operator, OperatorError
from operators.ports import Events
from operators.sinks._events import event_rows
from operators.sinks._files import disk_errors

COLUMNS = ("stream", "pts", "pts_seconds", "seq", "kind", "track_id", "box", "score")
SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY,
    stream TEXT NOT NULL,
    pts INTEGER NOT NULL,
    pts_seconds REAL NOT NULL,
    seq INTEGER NOT NULL,
    kind TEXT NOT NULL,
    track_id INTEGER,
    box TEXT,   -- JSON: x0, y0, x1, y1 in pixels of the frame
    score REAL,
    more TEXT   -- JSON: the fields that have no column
);
CREATE INDEX IF NOT EXISTS events_by_time ON events (stream, pts_seconds);
CREATE INDEX IF NOT EXISTS events_by_track ON events (stream, track_id);
"""
INSERT = f"INSERT INTO events ({', '.join(COLUMNS)}, more) VALUES ({', '.join('?' * 9)})"


class SqliteSinkConfig(Config, frozen=True):
    """Where to."""

    path: Annotated[str, Meta(min_length=1, description="file; what it already holds is kept")] = (
        "events.sqlite"
    )


class SqliteSink(Operator[SqliteSinkConfig]):
    """Each frame's events are one transaction: with a write-ahead log that costs no disk sync."""

    event_sink = True
    pixels = "ignored"

    def open(self, ctx: OpContext) -> None:
        self._node = ctx.node
        self._path = ctx.output_path(self.config.path)
        with disk_errors(self._node, self._path):
            self._path.touch()
        with self._database_errors():
            self._database = sqlite3.connect(
                self._path, isolation_level=None, check_same_thread=False
            )
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.executescript(SCHEMA)

    def process(self, events: Events) -> None:
        rows = [_values(row) for row in event_rows(events)]
        if not rows:
            return
        with self._database_errors():
            self._database.execute("BEGIN")
            try:
                self._database.executemany(INSERT, rows)
                self._database.execute("COMMIT")
            except sqlite3.Error:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    def close(self) -> None:
        self._database.close()

    @contextmanager
    def _database_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                raise OperatorError(
                    "DISK_FULL",
                    f"{self._node}: no room left to write {self._path}; what was written is kept. "
                    "Free space on that disk, or give the run another output folder",
                    permanent=False,
                ) from error
            raise OperatorError(
                "DATABASE",
                f"{self._node}: {self._path}: {error}; name a file that is a database or absent",
            ) from error


def _values(row: dict[str, Any]) -> tuple[Any, ...]:
    more = {name: value for name, value in row.items() if name not in COLUMNS}
    plain = [row.get(name) for name in COLUMNS]
    return (*(_scalar(value) for value in plain), _json(more) if more else None)


def _scalar(value: Any) -> Any:
    return _json(value) if isinstance(value, (list, tuple, dict)) else value


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
