"""The command line, from outside: commands, messages and exit codes."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from engine.commands.console import CommandError
from engine.commands.top import metrics_url
from tests.system.cli import ROOT, frameloom

pytestmark = pytest.mark.slow

TWO_MISTAKES = """
graph: wrong
nodes:
  bars:
    op: operators.sources.test_pattern:TestPattern
    config: {fps: -1}
  shown:
    op: operators.sinks.null:NullSnk
    inputs: {frames: {from: bars, queue: 1, full: block}}
"""


def test_help_answers_at_once(tmp_path: Path) -> None:
    """0.3 s of processor time: what the wall clock says on an idle machine."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "engine.cli", "--help"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    for command_name in (b"run", b"check", b"ops", b"schema", b"keygen", b"doctor", b"top"):
        assert b"\n  " + command_name in done.stdout
    assert b"Exit codes: 0 done" in done.stdout
    assert used_s < 0.3


def test_version(tmp_path: Path) -> None:
    done = frameloom("--version", folder=tmp_path)
    assert (done.code, done.out) == (0, "frameloom 0.1.0\n")


def test_check_shows_plan_and_budget(tmp_path: Path) -> None:
    done = frameloom("check", "guard", folder=tmp_path)
    assert done.code == 0
    assert "graph 'guard' is right: mode file" in done.out
    assert "detect.out->track.frames" in done.out
    assert "memory of queues at most" in done.out


def test_check_for_machines_holds_no_password(tmp_path: Path) -> None:
    done = frameloom("check", "guard", "rtsp://ann:geheim@10.0.0.5/door", "--json", folder=tmp_path)
    assert done.code == 0
    assert done.data["plan"]["mode"] == "live"
    assert done.data["plan"]["nodes"]["camera"]["streams"] == ["10-0-0-5-door"]
    assert done.data["budget"]["memory_bytes"] > 0
    assert "geheim" not in done.out + done.err


def test_check_tells_every_problem(tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text(TWO_MISTAKES)
    done = frameloom("check", "wrong.yaml", "--set", "shwn.x=1", folder=tmp_path)
    assert done.code == 2
    assert done.out == ""
    assert "graph 'wrong' has 3 problems:" in done.err
    for hint in ("did you mean 'shown'?", "fps", "did you mean 'NullSink'?"):
        assert hint in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("command", ["check", "run"])
def test_an_unknown_graph_is_named(tmp_path: Path, command: str) -> None:
    done = frameloom(command, "gaurd", folder=tmp_path)
    assert done.code == 2
    assert "did you mean 'guard'?" in done.err


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = frameloom("--debug", "check", "gaurd", folder=tmp_path)
    assert done.code != 0
    assert "Traceback" in done.err


def test_an_unknown_command_is_a_usage_error(tmp_path: Path) -> None:
    done = frameloom("rum", folder=tmp_path)
    assert done.code == 2
    assert "Did you mean 'run'?" in done.err


def test_ops_lists_all_and_tells_one(tmp_path: Path) -> None:
    done = frameloom("ops", folder=tmp_path)
    assert done.code == 0
    assert "operators.sinks.mp4:Mp4Sink" in done.out
    one = frameloom("ops", "testpattern", folder=tmp_path)
    assert ">= 64" in one.out
    assert "Hz" in one.out
    assert "frames (video yuv420p" in one.out


def test_ops_for_machines(tmp_path: Path) -> None:
    (sink,) = frameloom("ops", "JsonlSink", "--json", folder=tmp_path).data
    assert sink["event_sink"] is True
    (events,) = sink["inputs"]
    assert (events["name"], events["caps"], events["arrival"]) == ("events", "event", "each")
    path, _append = sink["config"]
    assert (path["name"], path["type"], path["default"]) == ("path", "str", "events.jsonl")
    assert not path["required"]
    detect = frameloom("ops", "FaceDetect", "--json", folder=tmp_path).data[0]
    marks = {field["name"]: field["tunable"] for field in detect["config"]}
    assert detect["outputs"][0]["label"] == "raw-face"
    assert marks["min_score"]
    assert not marks["model"]


def test_ops_suggests_the_nearest(tmp_path: Path) -> None:
    done = frameloom("ops", "Mp4Snik", folder=tmp_path)
    assert done.code == 2
    assert "did you mean 'Mp4Sink'?" in done.err


def test_schema(tmp_path: Path) -> None:
    printed = frameloom("schema", folder=tmp_path)
    assert printed.data["title"] == "frameloom graph"
    done = frameloom("schema", "-o", "graph.json", folder=tmp_path)
    assert done.code == 0
    assert (tmp_path / "graph.json").read_text() == printed.out
    assert "yaml-language-server: $schema=graph.json" in done.err


def test_keygen_keeps_the_secret_and_never_overwrites(tmp_path: Path) -> None:
    assert frameloom("keygen", "door", "--dir", "keys", folder=tmp_path).code == 0
    secret = tmp_path / "keys" / "door.secret"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    before = secret.read_bytes()
    again = frameloom("keygen", "door", "--dir", "keys", folder=tmp_path)
    assert again.code == 2
    assert "never overwritten" in again.err
    assert secret.read_bytes() == before


@pytest.mark.parametrize("name", ["../door", "a b", ""])
def test_keygen_refuses_names_that_are_paths(tmp_path: Path, name: str) -> None:
    assert frameloom("keygen", name, folder=tmp_path).code == 2
    assert list(tmp_path.iterdir()) == []


def test_top_says_that_nobody_answers(tmp_path: Path) -> None:
    done = frameloom("top", "127.0.0.1:9", "--once", folder=tmp_path)
    assert done.code == 2
    assert "127.0.0.1:9/metrics does not answer" in done.err
    assert "is a graph running there" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    "address",
    ["localhost:8700", "http://localhost:8700", "http://localhost:8700/", "localhost:8700/metrics"],
)
def test_top_knows_where_the_metrics_of_a_page_are(address: str) -> None:
    assert metrics_url(address) == "http://localhost:8700/metrics"


@pytest.mark.parametrize("address", ["", "ftp://localhost/", "http:///metrics"])
def test_top_refuses_what_is_no_address(address: str) -> None:
    with pytest.raises(CommandError, match="no address of a page"):
        metrics_url(address)


def test_doctor_finds_what_is_required(tmp_path: Path) -> None:
    done = frameloom("doctor", "--json", folder=tmp_path)
    assert done.code == 0
    found = {finding["what"]: finding for finding in done.data["findings"]}
    assert done.data["ok"]
    for name in ("Python", "av", "numpy", "pyzmq", "processor cores"):
        assert found[name]["verdict"] == "ok", found[name]
    assert "/dev/shm" in found["shared memory"]["note"]
    assert found["GPU"]["note"]
