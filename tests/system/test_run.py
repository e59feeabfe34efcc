"""Runs in real processes: deadlines, batches of live streams, deaths at a bad moment, the end."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from engine.plan import Plan
from engine.runtime import supervisor
from engine.runtime.supervisor import Run
from tests.engine.graphs import plan_of
from tests.system.faults import (
    assert_settled,
    codes,
    finish,
    frames,
    op,
    records,
    wait_for,
    wait_for_frames,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("short_tempdir")]


def pid_of(run: Run, worker: str) -> int:
    """Its process id, once it has said it. Never 0, which would be everybody's."""
    wait_for(lambda: run.snapshot().workers[worker].pid, 5, f"a sign of life of {worker}")
    return run.snapshot().workers[worker].pid


def lossy(source: str, queue: int = 4) -> dict[str, Any]:
    return {"from": source, "queue": queue, "full": "drop_oldest"}


def two_workers(**source: Any) -> Plan:
    nodes = {
        "cam": op("Count", config={"fps": 100} | source, worker="first"),
        "rec": op("Recorder", {"frames": lossy("cam")}, worker="second"),
    }
    return plan_of(nodes, mode="live")


# ---- time


@pytest.mark.parametrize("worker", ["main", "other"])
def test_frames_that_are_late_die_at_the_earliest_point(worker: str, tmp_path: Path) -> None:
    nodes = {
        "cam": op("Count", config={"fps": 100}),
        "slow": op("Slow", {"frames": lossy("cam", 64)}, config={"ms": 30}, worker=worker),
        "rec": op("Recorder", {"frames": "slow"}, worker=worker),
    }
    with Run(plan_of(nodes, mode="live", latency_budget_ms=150), tmp_path) as run:
        wait_for_frames(run, 10, slow=25)
        result = finish(run)
    assert result.exit_code == 0, result.failures
    assert_settled(result)
    entry = result.snapshot.edges["cam.out->slow.frames"]
    assert set(entry.drops) <= {"late", "queue_full"}
    assert entry.drops["late"] > entry.consumed, "10 frames come while 3 are done"
    assert entry.age.percentile_ms(100) < 160, "nothing older than the budget was given to it"
    assert len(records(tmp_path / "seen.txt")) == result.snapshot.nodes["rec"].frames


def test_no_frame_of_a_file_is_ever_late(tmp_path: Path) -> None:
    nodes = {
        "cam": op("Count", config={"frames": 15}),
        "slow": op("Slow", {"frames": lossy("cam", 2)}, config={"ms": 20}),
        "rec": op("Recorder", {"frames": lossy("slow", 1)}, worker="other"),
    }
    plan = plan_of(nodes, mode="file", latency_budget_ms=10, max_in_flight=1)
    with Run(plan, tmp_path) as run:
        assert run.wait(10)
        result = run.close()
    assert result.exit_code == 0
    assert [seq for _, seq, _, _ in records(tmp_path / "seen.txt")] == list(range(15))


def test_a_live_batch_takes_what_several_streams_have(tmp_path: Path) -> None:
    nodes = {
        "cams": op("Count", config={"fps": 50}, streams={name: {} for name in "abcd"}),
        "rec": op(
            "BatchRecorder",
            {"frames": lossy("cams", 32)},
            batch={"max_size": 3, "max_wait_ms": 60},
            worker="other",
        ),
    }
    with Run(plan_of(nodes, mode="live"), tmp_path) as run:
        wait_for_frames(run, 10, rec=40)
        result = finish(run)
    batches = [line.split() for line in (tmp_path / "seen.txt").read_text().splitlines()]
    assert max(map(len, batches)) == 3
    assert {stream for batch in batches for stream in batch} == set("abcd")
    assert any(len(set(batch)) == 3 for batch in batches), "no batch with several streams"
    assert sum(map(len, batches)) == result.snapshot.edges["cams.out->rec.frames"].consumed


# ---- deaths at a bad moment


def test_two_workers_that_die_at_once_find_each_other_again(tmp_path: Path) -> None:
    with Run(two_workers(), tmp_path) as run:
        wait_for_frames(run, 10, rec=10)
        for pid in [pid_of(run, worker) for worker in ("first", "second")]:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: (tmp_path / "seen-r1.txt").exists(), 3, "the second life of the sink")
        wait_for_frames(run, 3, cam=10, rec=10)
        result = finish(run)
    assert result.exit_code == 3, result.failures
    assert_settled(result)
    assert [w.restarts for w in result.snapshot.workers.values()] == [1, 1]
    assert records(tmp_path / "seen-r1.txt")


def test_a_worker_does_not_wait_for_one_that_is_done(tmp_path: Path) -> None:
    """The short camera's worker has come to its end when the sink of both dies."""
    nodes = {
        "short": op("Count", config={"frames": 5}, worker="short"),
        "long": op("Count", config={"fps": 100}, worker="long"),
        "merge": op("Merge", {"left": "short", "right": "long"}, worker="sink"),
        "rec": op("Recorder", {"frames": "merge"}, worker="sink"),
    }
    with Run(plan_of(nodes, mode="live"), tmp_path) as run:
        wait_for_frames(run, 10, rec=10)
        wait_for(lambda: run.snapshot().workers["short"].state == "stopped", 4, "its end")
        os.kill(pid_of(run, "sink"), signal.SIGKILL)
        wait_for(lambda: (tmp_path / "seen-r1.txt").exists(), 3, "the second life")
        wait_for_frames(run, 3, rec=10)
        result = finish(run)
    assert result.exit_code == 3, result.failures
    assert_settled(result)
    assert (tmp_path / "seen-r1.txt").read_text().endswith("closed\n")


def test_a_worker_leaves_the_end_to_its_supervisor(tmp_path: Path) -> None:
    """Whole groups of processes are sent SIGTERM or SIGHUP; when to drain the supervisor says."""
    with Run(two_workers(), tmp_path) as run:
        wait_for_frames(run, 10, rec=10)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            os.kill(pid_of(run, "second"), number)
        wait_for_frames(run, 3, rec=10)
        result = finish(run)
    assert result.exit_code == 0, result.failures
    assert_settled(result)


def test_a_drain_that_takes_too_long_still_finishes_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "DRAIN_TIMEOUT_NS", 600_000_000)
    nodes = {
        "cam": op("Count", config={"fps": 200}),
        "slow": op("Slow", {"frames": lossy("cam", 200)}, config={"ms": 50}, worker="other"),
        "rec": op("Recorder", {"frames": "slow"}, worker="other"),
    }
    with Run(plan_of(nodes, mode="live"), tmp_path) as run:
        edge = "cam.out->slow.frames"
        wait_for(lambda: run.snapshot().edges[edge].depth > 100, 10, "a long queue")
        result = finish(run)
    (told,) = [event for event in result.snapshot.events if event.code == "DRAIN_TIMEOUT"]
    assert "'other'" in told.message
    assert (tmp_path / "seen.txt").read_text().endswith("closed\n")
    assert not [event for event in result.snapshot.events if event.code == "WORKER_LOST"]


def test_a_batch_on_one_way_to_a_join_does_not_stop_everything(tmp_path: Path) -> None:
    nodes = {
        "cam": op("Count", config={"frames": 300}),
        "thin": op("tests.runtime.odd_operators:Tenth", {"frames": "cam"}),
        "batch": op("Batched", {"frames": "thin"}, batch={"max_size": 8}),
        "join": op("Join", {"left": "cam", "right": "batch"}),
        "rec": op("Recorder", {"frames": "join"}),
    }
    with Run(plan_of(nodes, mode="file"), tmp_path) as run:
        assert run.wait(10), run.snapshot()
        result = run.close()
    assert result.exit_code == 0, result.failures
    assert [seq for _, seq, _, _ in records(tmp_path / "seen.txt")] == list(range(0, 300, 10))
    assert result.snapshot.edges["cam.out->join.left"].drops == {"unmatched": 270}
    assert_settled(result)


def test_an_operator_that_exits_is_told(tmp_path: Path) -> None:
    nodes = {
        "cam": op("Count", config={"frames": 3}),
        "exits": op("tests.runtime.odd_operators:Exits", {"frames": "cam"}),
        "rec": op("Recorder", {"frames": "exits"}),
    }
    with Run(plan_of(nodes, mode="file"), tmp_path) as run:
        assert run.wait(10), run.snapshot()
        result = run.close()
    assert result.exit_code == 3, result.failures
    assert codes(result.snapshot) == ["QUARANTINED"] * 3
    assert "SystemExit" in result.snapshot.events[0].message


def test_a_worker_that_dies_while_it_drains_is_a_failure(tmp_path: Path) -> None:
    nodes = {
        "cam": op("Count", config={"fps": 100}),
        "slow": op("StuckAt", {"frames": lossy("cam", 512)}, config={"seq": 5}, worker="other"),
        "rec": op("Recorder", {"frames": "slow"}, worker="other"),
    }
    with Run(plan_of(nodes, mode="live"), tmp_path) as run:
        wait_for_frames(run, 10, slow=5)
        pid = pid_of(run, "other")
        run.stop()
        wait_for(lambda: run.snapshot().nodes["cam"].state == "finished", 4, "no more frames")
        os.kill(pid, signal.SIGKILL)
        assert run.wait(5), run.snapshot()
        result = run.close()
    assert result.exit_code == 1
    assert [failure.code for failure in result.failures] == ["WORKER_LOST"]
    assert_settled(result)


# ---- a second life that fails


def with_opens_once(folder: Path, **config: Any) -> Plan:
    """A node in a worker of its own that cannot be opened again, and a sink beside it."""
    once = {"marker": str(folder / "opened")} | config
    nodes = {
        "cam": op("Count", config={"fps": 100}),
        "node": op("OpensOnce", {"frames": "cam"}, config=once, worker="other"),
        "rec": op("Recorder", {"frames": "node"}, config={"path": "node.txt"}),
        "beside": op("Recorder", {"frames": "cam"}),
    }
    return plan_of(nodes, mode="live")


def test_a_node_that_cannot_open_again_fails_alone(tmp_path: Path) -> None:
    with Run(with_opens_once(tmp_path), tmp_path) as run:
        wait_for_frames(run, 10, rec=5)
        os.kill(pid_of(run, "other"), signal.SIGKILL)
        wait_for(lambda: run.failures, 3, "the failure told")
        wait_for_frames(run, 3, beside=30)
        result = finish(run)
    assert result.exit_code == 1
    assert [(failure.node, failure.code) for failure in result.failures] == [("node", "AWAY")]
    assert_settled(result)
    assert result.snapshot.nodes["node"].state == "failed"
    beside = [seq for _, seq, _, _ in records(tmp_path / "seen.txt")]
    assert beside == list(range(len(beside))), "the sibling lost nothing"


def test_a_node_that_can_open_later_is_tried_again(tmp_path: Path) -> None:
    plan = with_opens_once(tmp_path, permanent=False, opens_at=3)
    with Run(plan, tmp_path) as run:
        wait_for_frames(run, 10, rec=5)
        os.kill(pid_of(run, "other"), signal.SIGKILL)
        wait_for(lambda: "AWAY" in codes(run.snapshot()), 3, "that it is away")
        wait_for_frames(run, 4, rec=10)
        wait_for(lambda: run.snapshot().nodes["node"].state == "running", 2, "that it runs")
        result = finish(run)
    assert result.exit_code == 3, result.failures
    assert_settled(result)


# ---- the end


def test_closing_ends_at_once_whatever_runs(tmp_path: Path) -> None:
    with Run(two_workers(), tmp_path) as run:
        wait_for_frames(run, 10, rec=5)
        start = time.monotonic()
        result = run.close()
        assert time.monotonic() - start < 3
    assert result.exit_code == 0, result.failures
    assert run.finished.is_set()
    assert (tmp_path / "seen.txt").read_text().endswith("closed\n"), "also then files are finished"


def test_stopping_before_it_has_started_is_no_failure(tmp_path: Path) -> None:
    with Run(two_workers(), tmp_path) as run:
        run.stop()
        assert run.wait(10), run.snapshot()
        result = run.close()
    assert result.exit_code == 0, result.failures
    assert frames(run, "cam") == 0
    assert not run._going


def test_stopping_while_a_worker_starts_again_waits_for_nobody(tmp_path: Path) -> None:
    with Run(two_workers(), tmp_path) as run:
        wait_for_frames(run, 10, rec=10)
        os.kill(pid_of(run, "first"), signal.SIGKILL)
        wait_for(lambda: "WORKER_LOST" in codes(run.snapshot()), 3, "the loss told")
        result = finish(run, 3)
    assert result.exit_code == 3, result.failures
    assert_settled(result)
    assert (tmp_path / "seen.txt").read_text().endswith("closed\n")
