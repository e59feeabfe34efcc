"""Events as rows, readable at once by others."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest

from engine import OperatorError
from engine.testing import HarnessContext, run_operator
from operators.sinks.sqlite import SqliteSink, SqliteSinkConfig
from tests.operators.media import event
from tests.operators.sightings import ONE, TWO


def rows(path, query="SELECT * FROM events ORDER BY id"):
    with closing(sqlite3.connect(path)) as database:
        return database.execute(query).fetchall()


def test_one_row_per_record(tmp_path):
    run_operator(SqliteSink(SqliteSinkConfig(path="e.db")), [event(ONE, TWO)], output=tmp_path)
    first, second = rows(tmp_path / "e.db")
    box, more = json.dumps(list(ONE.box), separators=(",", ":")), '{"zone":"door"}'
    assert first == (1, "cam", 7, 0.28, 7, "face_entered", 4, box, 0.9375, more)
    assert json.loads(second[-1]) == {"zone": "Tür\n2"}
    assert not (tmp_path / "e.db-wal").exists()


def test_rows_are_there_at_once_and_kept_by_the_next_run(tmp_path):
    path = tmp_path / "events.sqlite"
    for run in (1, 2):
        sink = SqliteSink(SqliteSinkConfig())
        sink.open(HarnessContext(output=tmp_path))
        sink.process(event(ONE, pts=run))
        assert rows(path, "SELECT pts FROM events ORDER BY id") == [(n,) for n in range(1, run + 1)]
        sink.close()


def test_search_by_track_uses_the_index(tmp_path):
    run_operator(SqliteSink(SqliteSinkConfig()), [event(ONE)], output=tmp_path)
    question = "EXPLAIN QUERY PLAN SELECT * FROM events WHERE stream = 'a' AND track_id = 1"
    assert "events_by_track" in str(rows(tmp_path / "events.sqlite", question))


def test_full_disk_is_named_and_keeps_what_was_written(tmp_path):
    sink = SqliteSink(SqliteSinkConfig())
    sink.open(HarnessContext(output=tmp_path))
    sink.process(event(ONE))
    pages = sink._database.execute("PRAGMA page_count").fetchone()[0]
    sink._database.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(OperatorError) as caught:
        fill(sink)
    sink.close()
    assert caught.value.code == "DISK_FULL"
    assert "events.sqlite" in str(caught.value)
    assert len(rows(tmp_path / "events.sqlite")) >= 1


def fill(sink):
    for number in range(2000):
        sink.process(event(ONE, TWO, pts=number))


def test_a_file_that_is_no_database_is_named(tmp_path):
    (tmp_path / "events.sqlite").write_text("no database at all, but quite a long text\n" * 50)
    sink = SqliteSink(SqliteSinkConfig())
    with pytest.raises(OperatorError, match=r"DATABASE: node: .*events\.sqlite"):
        sink.open(HarnessContext(output=tmp_path))
