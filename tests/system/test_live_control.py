"""What may be asked of a graph while it runs, and the limits it keeps, in real processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.plan import Plan
from engine.runtime.supervisor import Run
from tests.engine.graphs import plan_of
from tests.system.faults import (
    assert_settled,
    codes,
    finish,
    frames,
    kill_worker,
    op,
    records,
    wait_for,
    wait_for_frames,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("short_tempdir")]
BOTH = pytest.mark.parametrize("worker", ["main", "other"])


def live(middle: dict[str, Any], worker: str = "main", fps: int = 100, **top: Any) -> Plan:
    """A camera, one node with up to 8 frames in front of it, and a recorder."""
    middle["inputs"] = {"frames": {"from": "cam", "queue": 8, "full": "block"}}
    middle["worker"] = worker
    nodes = {
        "cam": op("Count", config={"fps": fps}),
        "node": middle,
        "rec": op("Recorder", {"frames": "node"}, worker=worker),
    }
    return plan_of(nodes, mode="live", **top)


def is_tripled(path: Path) -> bool:
    """Whether some frame went through `Gain` with a gain of 3."""
    return any(byte == seq * 3 % 256 != seq % 256 for _, seq, _, byte in records(path))


# ---- tunables


@BOTH
def test_a_tunable_changes_exactly_at_the_frame_named(worker: str, tmp_path: Path) -> None:
    with Run(live(op("Gain"), worker), tmp_path) as run:
        wait_for_frames(run, 10, rec=5)
        change = frames(run, "cam") + 60
        run.tune("node", "gain", 3, from_seq=change)
        wait_for_frames(run, 5, rec=90)
        result = finish(run)
    assert result.exit_code == 0, result.failures
    for _, seq, _, byte in records(tmp_path / "seen.txt"):
        assert byte == seq * (3 if seq >= change else 1) % 256


def test_a_value_that_cannot_be_is_refused_and_the_graph_goes_on(tmp_path: Path) -> None:
    with Run(live(op("Gain")), tmp_path) as run:
        wait_for_frames(run, 10, rec=1)
        for name, value in (("gain", "much"), ("offset", 1), ("nothing", 1)):
            run.tune("node", name, value)
        wait_for(lambda: codes(run.snapshot()).count("BAD_TUNE") == 3, 3, "three refusals")
        wait_for_frames(run, 3, rec=10)
        result = finish(run)
    told = [event.message for event in result.snapshot.events]
    assert "gain" in told[0]
    assert "not a tunable" in told[1]
    assert "no field 'nothing'" in told[2]
    assert all(byte == seq % 256 for _, seq, _, byte in records(tmp_path / "seen.txt"))


def test_a_worker_that_starts_again_knows_what_was_tuned(tmp_path: Path) -> None:
    with Run(live(op("Gain"), "other"), tmp_path) as run:
        wait_for_frames(run, 10, rec=5)
        run.tune("node", "gain", 3)
        wait_for(lambda: is_tripled(tmp_path / "seen.txt"), 3, "the change")
        kill_worker(run, "other")
        wait_for(lambda: (tmp_path / "seen-r1.txt").exists(), 3, "the second life")
        wait_for_frames(run, 3, rec=20)
        finish(run)
    seen = records(tmp_path / "seen-r1.txt")
    assert seen
    assert all(byte == seq * 3 % 256 for _, seq, _, byte in seen)


# ---- epochs


@BOTH
def test_a_new_epoch_ends_what_waits_at_once(worker: str, tmp_path: Path) -> None:
    with Run(live(op("Slow", config={"ms": 40}), worker), tmp_path) as run:
        wait_for(lambda: run.snapshot().edges["cam.out->node.frames"].depth >= 6, 10, "a queue")
        assert run.raise_epoch("cam", "seek") == 1
        wait_for_frames(run, 5, rec=15)
        result = finish(run)
    assert result.snapshot.edges["cam.out->node.frames"].drops["stale_epoch"] >= 6
    assert_settled(result)
    lines = (tmp_path / "seen.txt").read_text().splitlines()
    epochs = [line.split()[2] if "reset" not in line else "reset" for line in lines[:-2]]
    assert epochs == ["0"] * epochs.count("0") + ["reset"] + ["1"] * epochs.count("1")
    assert epochs.count("1") >= 5


def test_a_source_that_starts_again_knows_the_epoch(tmp_path: Path) -> None:
    with Run(live(op("Pass"), "other"), tmp_path) as run:
        wait_for_frames(run, 10, rec=5)
        run.raise_epoch("cam", "seek")
        wait_for(lambda: records(tmp_path / "seen.txt")[-1][2] == 1, 3, "the new epoch")
        lines = len(records(tmp_path / "seen.txt"))
        kill_worker(run, "main")
        wait_for(
            lambda: [
                seq for _, seq, epoch, _ in records(tmp_path / "seen.txt")[lines:] if seq == 9
            ],
            4,
            "the 10th frame of the second life",
        )
        result = finish(run)
    assert records(tmp_path / "seen.txt")[-1][2] == 1
    assert_settled(result)


@BOTH
def test_a_source_that_is_tuned_ends_what_it_made_before(worker: str, tmp_path: Path) -> None:
    nodes = {
        "cam": op("Paint"),
        "node": op(
            "Slow", {"frames": {"from": "cam", "queue": 8, "full": "block"}},
            config={"ms": 30}, worker=worker,
        ),
        "rec": op("Recorder", {"frames": "node"}, worker=worker),
    }  # fmt: skip
    with Run(plan_of(nodes, mode="live"), tmp_path) as run:
        wait_for(lambda: run.snapshot().edges["cam.out->node.frames"].depth >= 6, 10, "a queue")
        run.tune("cam", "value", 7)
        wait_for_frames(run, 5, rec=15)
        result = finish(run)
    assert result.exit_code == 0, result.failures
    assert_settled(result)
    assert result.snapshot.edges["cam.out->node.frames"].drops["stale_epoch"] >= 5
    assert [e.message for e in result.snapshot.events if e.code == "EPOCH"] == ["epoch 1: value 7"]
    seen = [(epoch, byte) for _, _, epoch, byte in records(tmp_path / "seen.txt")]
    assert set(seen) == {(0, 0), (1, 7)}, "each epoch holds its own value only"
    assert seen == sorted(seen), "and nothing of the old one comes after the first of the new one"


# ---- streams


def test_streams_come_and_go(tmp_path: Path) -> None:
    nodes = {
        "cams": op("Count", config={"fps": 100}),
        "rec": op("Recorder", {"frames": "cams"}, worker="other"),
    }

    def seen(name: str = "seen.txt") -> set[str]:
        path = tmp_path / name
        return {stream for stream, *_ in records(path)} if path.exists() else set()

    with Run(plan_of(nodes, mode="live"), tmp_path, keep_open=True) as run:
        assert run.started.wait(10)
        assert frames(run, "cams") == 0
        run.add_stream("cams", "door", {})
        wait_for(lambda: seen() == {"door"}, 4, "door")
        run.add_stream("cams", "yard", {"fps": 50})
        wait_for(lambda: seen() == {"door", "yard"}, 4, "yard")
        wait_for(lambda: run.snapshot().nodes["cams"].streams == 2, 2, "two streams")
        run.remove_stream("cams", "door")
        wait_for(lambda: run.snapshot().nodes["cams"].streams == 1, 2, "one stream")
        assert "reset door" in (tmp_path / "seen.txt").read_text()
        wait_for_frames(run, 4, rec=10)
        run.remove_stream("cams", "yard")
        wait_for(lambda: run.snapshot().nodes["cams"].streams == 0, 2, "no stream")
        assert not run.finished.is_set(), "it is kept open"
        run.add_stream("cams", "door", {"frames": 3})
        wait_for(lambda: (tmp_path / "seen.txt").read_text().count("reset door") == 2, 4, "again")
        result = finish(run)
    assert result.exit_code == 0, result.failures
    assert_settled(result)
    stream_seqs = [seq for stream, seq, _, _ in records(tmp_path / "seen.txt") if stream == "door"]
    assert stream_seqs[-3:] == [0, 1, 2]


def test_a_source_that_starts_again_has_the_streams_it_had(tmp_path: Path) -> None:
    nodes = {
        "cams": op("Count", config={"fps": 100}, streams={"a": {}, "b": {}}, worker="source"),
        "rec": op("Recorder", {"frames": "cams"}),
    }
    with Run(plan_of(nodes, mode="live"), tmp_path, keep_open=True) as run:
        wait_for_frames(run, 10, rec=5)
        run.add_stream("cams", "c", {})
        run.remove_stream("cams", "a")
        wait_for(lambda: "reset a" in (tmp_path / "seen.txt").read_text(), 3, "a is over")
        wait_for(lambda: records(tmp_path / "seen.txt")[-1][0] == "c", 3, "c has come")
        kill_worker(run, "source")
        wait_for(lambda: run.snapshot().workers["source"].restarts == 1, 3, "the second life")
        lines = len(records(tmp_path / "seen.txt"))

        def later() -> list[str]:
            return [stream for stream, *_ in records(tmp_path / "seen.txt")[lines:]]

        wait_for(lambda: min(map(later().count, "bc")) >= 10, 4, "both streams again")
        finish(run)
    assert set(later()) == {"b", "c"}


# ---- limits and ends


@BOTH
def test_a_stop_lets_everything_come_out(worker: str, tmp_path: Path) -> None:
    with Run(live(op("Slow", config={"ms": 15}), worker, fps=200), tmp_path) as run:
        wait_for(lambda: run.snapshot().edges["cam.out->node.frames"].depth >= 6, 10, "a queue")
        result = finish(run)
    assert result.exit_code == 0, result.failures
    for edge in result.snapshot.edges.values():
        assert edge.sent == edge.consumed == len(records(tmp_path / "seen.txt"))
    lines = (tmp_path / "seen.txt").read_text().splitlines()
    assert lines[-2:] == ["reset cam", "closed"]


@BOTH
def test_no_more_frames_are_inside_than_allowed(worker: str, tmp_path: Path) -> None:
    plan = live(op("Slow", config={"ms": 20}), worker, fps=200, max_in_flight=2)
    with Run(plan, tmp_path) as run:
        wait_for_frames(run, 10, rec=30)
        result = finish(run)
    assert result.exit_code == 0, result.failures
    entry = result.snapshot.edges["cam.out->node.frames"]
    assert entry.peak_depth <= 2, "there is room for 8"
    assert entry.drops["queue_full"] > entry.consumed, "10 frames come while 2 are done"
    assert_settled(result)


def test_a_batch_takes_frames_of_all_streams(tmp_path: Path) -> None:
    streams = {name: {"frames": 9} for name in "abc"}
    nodes = {
        "cams": op("Count", streams=streams),
        "rec": op("BatchRecorder", {"frames": "cams"}, batch={"max_size": 3}, worker="other"),
    }
    with Run(plan_of(nodes, mode="file"), tmp_path) as run:
        assert run.wait(10)
    assert run.close().exit_code == 0
    assert (tmp_path / "seen.txt").read_text().splitlines() == ["a b c"] * 9
