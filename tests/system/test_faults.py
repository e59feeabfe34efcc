"""What goes wrong inside operators: frames, nodes and whole workers are lost, never the rest."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from engine.plan import Plan
from engine.runtime.supervisor import Run, RunResult
from tests.engine.graphs import plan_of
from tests.system.faults import (
    assert_settled,
    codes,
    finish,
    gone,
    op,
    records,
    wait_for,
    wait_for_frames,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("short_tempdir")]
FRAMES = 60


def run_to_end(plan: Plan, out: Path, **options: Any) -> RunResult:
    with Run(plan, out, **options) as run:
        assert run.wait(15), run.snapshot()
    return run.close()


def chain(*middle: dict[str, Any], mode: str = "file", **source: Any) -> Plan:
    """A source, what is given, and a recorder; `middle` nodes get their input here."""
    nodes = {"cam": op("Count", config={"frames": FRAMES} | source, worker="source")}
    previous = "cam"
    for number, made in enumerate(middle):
        made["inputs"] = {"frames": {"from": previous, "queue": 2, "full": "block"}}
        previous = f"n{number}"
        nodes[previous] = made
    nodes["rec"] = op("Recorder", {"frames": previous}, worker="sink")
    return plan_of(nodes, mode=mode)


# ---- a frame


def test_bad_frames_are_kept_and_the_rest_goes_on(tmp_path: Path) -> None:
    result = run_to_end(chain(op("FailEvery", config={"every": 20})), tmp_path)
    assert result.exit_code == 3
    assert_settled(result)
    bad = [19, 39, 59]
    seen = [seq for _, seq, _, _ in records(tmp_path / "seen.txt")]
    assert seen == [seq for seq in range(FRAMES) if seq not in bad]
    assert result.snapshot.edges["cam.out->n0.frames"].drops == {"quarantined": 3}
    assert result.snapshot.nodes["n0"].quarantined == 3
    folder = tmp_path / "quarantine" / "n0"
    kept = {f"cam-{seq}.{kind}" for seq in bad for kind in ("npy", "json", "txt")}
    assert {path.name for path in folder.iterdir()} == kept
    assert np.load(folder / "cam-39.npy").tolist() == [[39, 39], [39, 39]]
    assert "ValueError: cannot do 39" in (folder / "cam-39.txt").read_text()


# ---- a node


def test_nothing_starts_when_nodes_cannot_be_opened(tmp_path: Path) -> None:
    plan = chain(
        op("OpenFails", config={"reason": "no weights"}),
        op("OpenFails", config={"reason": "no font"}, worker="source"),
        mode="live",
    )
    with Run(plan, tmp_path) as run:
        assert run.wait(10)
        assert not run._going
    result = run.close()
    assert result.exit_code == 1
    assert {(f.node, f.code, f.message) for f in result.failures} == {
        ("n0", "NOT_FOUND", "no weights"),
        ("n1", "NOT_FOUND", "no font"),
    }
    assert all(node.frames == 0 for node in result.snapshot.nodes.values())


def test_a_device_that_is_not_there_is_named_with_its_cause(tmp_path: Path) -> None:
    result = run_to_end(chain(op("Pass", device="cuda:99")), tmp_path)
    assert result.exit_code == 1
    (failure,) = result.failures
    assert (failure.node, failure.code, failure.detail) == ("n0", "DeviceError", "")
    assert failure.message.startswith("cuda:99 was asked for")
    assert result.snapshot.nodes["cam"].frames == 0
    assert result.snapshot.nodes["n0"].state == "failed"


# ---- a worker


def test_a_worker_in_the_middle_of_a_file_is_replaced(tmp_path: Path) -> None:
    crash = {"seq": 20, "marker": str(tmp_path / "crashed")}
    result = run_to_end(chain(op("CrashAt", config=crash, worker="middle")), tmp_path)
    assert result.exit_code == 3, result.failures
    assert_settled(result)
    assert codes(result.snapshot) == ["WORKER_LOST"]
    seen = [seq for _, seq, _, _ in records(tmp_path / "seen.txt")]
    assert seen == sorted(set(seen))
    assert 20 not in seen
    assert FRAMES - 8 <= len(seen) < FRAMES, "only what the worker held is lost"
    text = (tmp_path / "seen.txt").read_text()
    assert "reset cam" in text
    assert text.endswith("closed\n"), "the sink has finished its file"


def test_a_file_source_that_dies_is_a_failure_and_the_sinks_finish(tmp_path: Path) -> None:
    nodes = {
        "cam": op("CrashingCount", config={"seq": 20}, worker="source"),
        "rec": op("Recorder", {"frames": "cam"}, worker="sink"),
    }
    result = run_to_end(plan_of(nodes, mode="file"), tmp_path)
    assert result.exit_code == 1
    assert [f.code for f in result.failures] == ["WORKER_LOST"]
    assert "'source' was killed by signal 9" in result.failures[0].message
    assert_settled(result)
    assert (tmp_path / "seen.txt").read_text().endswith("closed\n")


def test_a_node_that_never_returns_is_restarted(tmp_path: Path) -> None:
    stuck = {"seq": 30, "marker": str(tmp_path / "stuck")}
    plan = chain(op("StuckAt", config=stuck, worker="middle"), mode="live", frames=10**6, fps=100)
    with Run(plan, tmp_path, stuck_ms=500) as run:
        wait_for(lambda: "STUCK" in codes(run.snapshot()), 8, "STUCK told")
        wait_for_frames(run, 4, n0=20, rec=20)
        result = finish(run)
    (told,) = [event for event in result.snapshot.events if event.code == "STUCK"]
    assert told.node == "n0"
    assert result.snapshot.workers["middle"].restarts == 1
    assert result.exit_code == 3, result.failures
    assert_settled(result)


# ---- the supervisor

SUPERVISOR = """
import sys, pathlib
from engine.runtime.supervisor import Run
from tests.system.test_faults import chain
with Run(chain(mode="live", frames=10**6, fps=100), pathlib.Path(sys.argv[1])) as run:
    run.started.wait()
    print(*(worker.pid for worker in run._workers.values()), flush=True)
    run.wait()
"""


def test_workers_die_with_their_supervisor(tmp_path: Path, short_tempdir: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, str(tmp_path)],
        stdout=subprocess.PIPE,
        env={"TMPDIR": str(short_tempdir), "PYTHONPATH": ":".join(filter(None, sys.path))},
        text=True,
    ) as supervisor:
        try:
            assert supervisor.stdout is not None
            pids = [int(pid) for pid in supervisor.stdout.readline().split()]
            assert len(pids) == 2
            assert all(psutil.pid_exists(pid) for pid in pids)
        finally:
            supervisor.kill()
    wait_for(lambda: gone(pids), 2, "the workers have ended")
    (sockets,) = short_tempdir.iterdir()  # all that a killed supervisor cannot take away itself
    shutil.rmtree(sockets)
