"""Workers that are killed: the others go on, the books stay exact, nothing is left behind."""

from __future__ import annotations

from pathlib import Path

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


def ring() -> Plan:
    """Three workers; each has a camera that the next one records."""
    nodes = {}
    for worker, following in ("ab", "bc", "ca"):
        nodes[f"cam-{worker}"] = op("Count", config={"fps": 100}, worker=worker)
        nodes[f"rec-{worker}"] = op(
            "Recorder",
            {"frames": {"from": f"cam-{worker}", "queue": 4, "full": "drop_oldest"}},
            config={"path": f"{worker}.txt"},
            worker=following,
        )
    return plan_of(nodes, mode="live")


def test_each_worker_of_a_live_graph_may_be_killed(tmp_path: Path) -> None:
    everybody = {f"{kind}-{worker}": 10 for kind in ("cam", "rec") for worker in "abc"}
    with Run(ring(), tmp_path) as run:
        wait_for_frames(run, 10, **everybody)
        for worker, unconcerned in (("a", "b"), ("b", "c"), ("c", "a")):
            before = run.snapshot().workers[worker]
            kill_worker(run, worker)
            wait_for_frames(run, 3, **{f"cam-{unconcerned}": 10, f"rec-{unconcerned}": 10})
            wait_for_frames(run, 3, **everybody)
            after = run.snapshot().workers[worker]
            assert (after.restarts, after.state) == (before.restarts + 1, "running")
            assert after.pid != before.pid
        result = finish(run)
    assert result.exit_code == 3, result.failures
    assert_settled(result)
    assert codes(result.snapshot).count("WORKER_LOST") == 3
    for worker in "abc":  # each recorder outlived a death of its camera, and began anew itself
        first, second = tmp_path / f"{worker}.txt", tmp_path / f"{worker}-r1.txt"
        assert records(first)
        assert records(second)


def test_who_stays_is_told_of_the_break(tmp_path: Path) -> None:
    plan = plan_of(
        {
            "cam": op("Count", config={"fps": 100}, worker="a"),
            "pass": op("Pass", {"frames": "cam"}, worker="b"),
            "rec": op("Recorder", {"frames": "pass"}, worker="c"),
        },
        mode="live",
    )
    with Run(plan, tmp_path) as run:
        wait_for_frames(run, 10, rec=20)
        assert "reset" not in (tmp_path / "seen.txt").read_text()
        kill_worker(run, "b")
        sent = frames(run, "cam")
        wait_for(lambda: "reset cam" in (tmp_path / "seen.txt").read_text(), 3, "a reset")
        wait_for_frames(run, 3, rec=20)
        assert frames(run, "cam") > sent
        result = finish(run)
    assert result.exit_code == 3
    assert_settled(result)
    assert not result.failures
    seqs = [seq for _, seq, _, _ in records(tmp_path / "seen.txt")]
    assert seqs == sorted(set(seqs)), "no frame came twice, none in the wrong place"


def test_a_lost_gpu_costs_a_worker_not_the_run(tmp_path: Path) -> None:
    """In the same process every later call would fail: only another one can go on."""
    plan = plan_of(
        {
            "cam": op("Count", config={"fps": 100}, worker="a"),
            "net": op(
                "LosesItsDevice",
                {"frames": "cam"},
                config={"seq": 20, "marker": str(tmp_path / "lost")},
                worker="b",
            ),
            "rec": op("Recorder", {"frames": "net"}, worker="c"),
        },
        mode="live",
    )
    with Run(plan, tmp_path) as run:
        wait_for(lambda: "WORKER_LOST" in codes(run.snapshot()), 10, "the loss")
        before = frames(run, "rec")
        wait_for(lambda: frames(run, "rec") > before + 20, 5, "frames behind the loss")
        result = finish(run)
    assert result.exit_code == 3, result.failures
    assert_settled(result)
    told = {event.code: event.message for event in result.snapshot.events}
    assert "illegal memory access" in told["DEVICE_LOST"]
    assert "worker 'b' left because its GPU failed" in told["WORKER_LOST"]
    assert codes(result.snapshot).count("WORKER_LOST") == 1
