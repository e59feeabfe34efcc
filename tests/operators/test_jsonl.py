"""Events as lines: whole, flushed, the same twice."""

from __future__ import annotations

import json
import resource

import msgspec
import pytest

from engine import OperatorError
from engine.frame import UnknownRecord
from engine.testing import HarnessContext, run_operator
from operators.sinks.jsonl import JsonlSink, JsonlSinkConfig
from tests.operators.media import event
from tests.operators.sightings import ONE, TWO


def opened(tmp_path, **config):
    sink, ctx = JsonlSink(JsonlSinkConfig(**config)), HarnessContext(output=tmp_path)
    sink.open(ctx)
    return sink, tmp_path / "events.jsonl"


def test_one_line_per_record(tmp_path):
    run_operator(
        JsonlSink(JsonlSinkConfig(path="e.jsonl")), [event(ONE, TWO), event()], output=tmp_path
    )
    first, second = map(json.loads, (tmp_path / "e.jsonl").read_text().splitlines())
    assert first == {
        "stream": "cam",
        "pts": 7,
        "pts_seconds": 0.28,
        "seq": 7,
        "kind": "face_entered",
        "track_id": 4,
        "box": [1.5, 2.0, 30.25, 40.0],
        "score": 0.9375,
        "zone": "door",
    }
    assert second["zone"] == "Tür\n2"


def test_each_line_is_there_before_the_next(tmp_path):
    sink, path = opened(tmp_path)
    for count in (1, 2, 3):
        sink.process(event(ONE, pts=count))
        assert len(path.read_text().splitlines()) == count
    sink.close()


def test_unknown_record_is_written_with_its_name(tmp_path):
    sink, path = opened(tmp_path)
    sink.process(event(UnknownRecord("Gate", msgspec.msgpack.encode({"open": True}))))
    sink.close()
    row = json.loads(path.read_text())
    assert (row["kind"], row["open"]) == ("Gate", True)


def test_a_second_run_takes_the_next_name(tmp_path):
    for _ in range(2):
        run_operator(JsonlSink(JsonlSinkConfig()), [event(ONE)], output=tmp_path)
    first, second = (tmp_path / name for name in ("events.jsonl", "events-2.jsonl"))
    assert first.read_bytes() == second.read_bytes() != b""


def test_who_opens_again_goes_on_in_the_same_file(tmp_path):
    sink, path = opened(tmp_path)
    sink.process(event(ONE))
    sink.close()
    sink.open(HarnessContext(output=tmp_path))
    sink.process(event(ONE))
    sink.close()
    assert len(path.read_text().splitlines()) == 2
    assert list(tmp_path.iterdir()) == [path]


def test_appending_keeps_what_is_there_but_half_a_line(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"old":1}\n{"half"' + b"x" * 9000)
    sink, _ = opened(tmp_path, append=True)
    sink.process(event(ONE))
    sink.close()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert rows[0] == {"old": 1}
    assert rows[1]["track_id"] == 4
    assert len(rows) == 2


def test_full_disk_leaves_whole_lines(tmp_path):
    sink, path = opened(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OperatorError) as caught:
            fill(sink)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    sink.close()
    assert caught.value.code == "DISK_FULL"
    assert str(path) in str(caught.value)
    written = [json.loads(line)["pts"] for line in path.read_text().splitlines()]
    assert written == list(range(len(written)))
    assert len(written) > 3


def fill(sink):
    for number in range(50):
        sink.process(event(ONE, pts=number))
