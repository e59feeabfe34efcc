"""`frameloom run` from outside: files, live graphs, signals, the page, what goes wrong."""

from __future__ import annotations

import json
import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.operators.media import write_clip
from tests.system.cli import ROOT, frameloom, started

pytestmark = pytest.mark.slow

ENDLESS = """
graph: endless
mode: live
latency_budget_ms: 500
max_in_flight: 3
nodes:
  bars:
    op: operators.sources.test_pattern:TestPattern
    config: {width: 64, height: 64}
  video:
    op: operators.sinks.mp4:Mp4Sink
    config: {path: bars.mp4}
    inputs: {frames: {from: bars, queue: 4, full: drop_oldest}}
  page:
    op: operators.sinks.preview:Preview
    inputs: {frames: {from: bars, queue: 1, full: drop_oldest}}
"""
TROUBLE = '''"""Operators that make trouble."""

import time

from engine import Operator
from operators.ports import Yuv


class Raises(Operator):
    """Does not like the frame with seq 3."""

    def process(self, frames: Yuv) -> Yuv:
        if frames.stamp.seq == 3:
            raise ValueError("three")
        return frames


class Hangs(Operator):
    """Does not come back from a frame."""

    def process(self, frames: Yuv) -> Yuv:
        time.sleep(600)
        return frames
'''
HANGING = """
  hangs:
    op: trouble:Hangs
    inputs: {frames: {from: bars, queue: 1, full: drop_oldest}}
  held:
    op: operators.sinks.null:NullSink
    inputs: {frames: {from: hangs, queue: 1, full: drop_oldest}}
"""
QUICK = ("--set", "bars.width=64", "--set", "bars.height=64", "--set", "bars.frames=20")


def count_frames(path: Path) -> int:
    import av

    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Twenty small frames."""
    done = frameloom("run", "test-pattern", *QUICK, "--no-page", "--out", ".", folder=tmp_path)
    assert done.code == 0, done.err
    return (tmp_path / "bars.mp4").rename(tmp_path / "clip.mp4")


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    path = tmp_path / "endless.yaml"
    path.write_text(ENDLESS)
    return path


def test_a_file_graph_comes_to_its_end(tmp_path: Path) -> None:
    done = frameloom("run", "test-pattern", *QUICK, "--port", "0", folder=tmp_path)
    assert done.code == 0, done.err
    assert count_frames(tmp_path / "out" / "test-pattern" / "bars.mp4") == 20
    assert re.search(r"frames +20 in ", done.out)
    assert re.search(r"latency at video +p50 / p95 / p99 = ", done.out)
    assert re.search(r"dropped +-", done.out)
    assert re.search(r"wrote +out/test-pattern/bars.mp4 \(", done.out)
    assert re.search(r"page +http://127.0.0.1:\d+/", done.err)


def test_json_is_one_object_with_everything(tmp_path: Path) -> None:
    arguments = ("run", "test-pattern", *QUICK, "--json", "--no-page", "--out", "o")
    data = frameloom(*arguments, folder=tmp_path).data
    assert (data["graph"], data["mode"], data["exit_code"]) == ("test-pattern", "file", 0)
    assert data["frames"] == 20
    assert data["latency_ms"]["video"]["p99"] > 0
    assert data["drops"] == {}
    assert data["nodes"]["bars"]["state"] == "finished"
    (edge,) = data["edges"].values()
    assert edge["sent"] == edge["consumed"] == 20
    assert [file["path"] for file in data["files"]] == ["o/bars.mp4"]
    assert data["files"][0]["bytes"] == (tmp_path / "o" / "bars.mp4").stat().st_size


def test_inputs_become_streams(tmp_path: Path, clip: Path) -> None:
    (tmp_path / "other").mkdir()
    twin = tmp_path / "other" / "clip.mp4"
    twin.write_bytes(clip.read_bytes())
    arguments = ("run", "copy", clip, twin, "--out", "o", "--json", "--no-page")
    done = frameloom(*arguments, folder=tmp_path)
    assert done.code == 0, done.err
    assert done.data["frames"] == 40
    assert [file["path"] for file in done.data["files"]] == ["o/clip-2.mp4", "o/clip.mp4"]
    assert count_frames(tmp_path / "o" / "clip-2.mp4") == 20
    assert "clip-2: " in done.err
    assert "(operators.sources.file:FileSource)" in done.err
    assert "mode file: nothing is lost" in done.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_drains_and_files_play(
    tmp_path: Path, endless: Path, number: signal.Signals
) -> None:
    arguments = ("run", endless, "--json", "--port", "0", "--out", "o")
    with started(*arguments, folder=tmp_path) as run:
        run.wait_until_frames("video", 5)
        run.signal(number)
        done = run.end()
    assert done.code == 0, done.err
    assert done.data["exit_code"] == 0
    edge = done.data["edges"]["bars.frames->video.frames"]
    assert edge["in_flight"] == 0
    assert edge["sent"] == edge["consumed"] + sum(edge["drops"].values())
    assert count_frames(tmp_path / "o" / "bars.mp4") == edge["consumed"] >= 5


def test_it_stops_after_the_given_time(tmp_path: Path, endless: Path) -> None:
    done = frameloom(
        "run", endless, "--for", "0.5", "--no-page", "--json", "--out", "o", folder=tmp_path
    )
    assert done.code == 0, done.err
    assert 0.5 <= done.data["seconds"] < 5
    assert done.data["frames"] >= 5


def test_page_and_top_show_a_running_graph(tmp_path: Path, endless: Path) -> None:
    with started("run", endless, "--port", "0", "--out", "o", folder=tmp_path) as run:
        run.wait_until_frames("page", 2)
        assert json.loads(run.get("api/snapshot"))["previews"] == ["preview/bars"]
        assert b'frameloom_node_state{node="bars",state="running"} 1.0' in run.get("metrics")
        top = frameloom("top", run.page() + "metrics", "--once", folder=tmp_path)
        run.signal(signal.SIGINT)
        assert run.end().code == 0
    assert top.code == 0, top.err
    assert "endless · live" in top.out
    assert re.search(r"bars.frames->video.frames +inproc +drop_oldest", top.out)


def test_two_signals_end_at_once(tmp_path: Path, endless: Path) -> None:
    (tmp_path / "trouble.py").write_text(TROUBLE)
    endless.write_text(ENDLESS + HANGING)
    with started("run", endless, "--port", "0", "--out", "o", folder=tmp_path) as run:
        run.wait_until_frames("video", 5)
        run.signal(signal.SIGINT)
        run.wait_until_frames("video", 5)  # the first one has arrived
        begin = time.monotonic()
        run.signal(signal.SIGINT)
        done = run.end()
    assert time.monotonic() - begin < 8  # draining may take ten seconds
    assert done.code == 1, done.err  # the worker had to be killed
    assert "WORKER_LOST" in done.err
    assert "Traceback" not in done.err


def test_a_quarantined_frame_is_exit_code_3(tmp_path: Path) -> None:
    (tmp_path / "trouble.py").write_text(TROUBLE)
    (tmp_path / "g.yaml").write_text(
        (ROOT / "graphs" / "test-pattern.yaml")
        .read_text()
        .replace(
            "  video:",
            "  raises:\n    op: trouble:Raises\n"
            "    inputs: {frames: {from: bars, queue: 1, full: block}}\n  video:",
        )
        .replace("{from: bars, queue: 4", "{from: raises, queue: 4")
    )
    arguments = ("run", "g.yaml", *QUICK, "--no-page", "--out", "o", "--json")
    done = frameloom(*arguments, folder=tmp_path)
    assert done.code == 3, done.err
    assert done.data["nodes"]["raises"]["quarantined"] == 1
    assert count_frames(tmp_path / "o" / "bars.mp4") == 19
    assert sorted((tmp_path / "o").rglob("*-3.txt"))


BAD_FILES = {"empty.mp4": b"", "text.mp4": b"not a film at all\n"}


@pytest.mark.parametrize(("name", "code"), [("empty.mp4", "EMPTY_FILE"), ("text.mp4", "NOT_MEDIA")])
def test_a_bad_file_is_one_clear_error(tmp_path: Path, name: str, code: str) -> None:
    (tmp_path / name).write_bytes(BAD_FILES[name])
    done = frameloom("run", "copy", name, "--no-page", "--out", "o", folder=tmp_path)
    assert done.code == 1
    assert re.search(rf"source/{name[:-4]} {code} ", done.err), done.err
    assert "Traceback" not in done.err + done.out


def test_what_could_be_read_of_a_truncated_file_is_kept(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "cut.mp4", frames=40, noise=True, movflags="faststart")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    done = frameloom("run", "copy", "cut.mp4", "--no-page", "--out", "o", "--json", folder=tmp_path)
    assert done.code == 1
    assert done.data["failures"][0]["code"] == "TRUNCATED"
    assert 0 < count_frames(tmp_path / "o" / "cut.mp4") < 40


def test_a_missing_file_is_told_before_anything_runs(tmp_path: Path) -> None:
    done = frameloom("run", "guard", "gone.mp4", folder=tmp_path)
    assert done.code == 2
    assert "gone.mp4: there is no such file" in done.err
    assert list(tmp_path.iterdir()) == []


def test_cameras_and_files_do_not_mix(tmp_path: Path, clip: Path) -> None:
    done = frameloom("run", "guard", clip, "rtsp://h/x", folder=tmp_path)
    assert done.code == 2
    assert "more than one operator" in done.err


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_port_in_use_is_told_with_a_remedy(tmp_path: Path, taken_port: int) -> None:
    arguments = ("run", "test-pattern", "--port", str(taken_port), "--out", "o")
    done = frameloom(*arguments, folder=tmp_path)
    assert done.code == 2
    assert f"port {taken_port} is in use: give another with --port" in done.err
    assert not (tmp_path / "o" / "bars.mp4").exists()


def test_an_output_folder_that_cannot_be_made(tmp_path: Path, clip: Path) -> None:
    done = frameloom("run", "test-pattern", "--out", clip / "o", folder=tmp_path)
    assert done.code == 2
    assert "choose another with --out" in done.err
