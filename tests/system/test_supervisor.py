"""What would end a run without a word: it is told, cleaned up after, and never waited for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import zmq

from engine.errors import EngineError, TransportError
from engine.plan import Plan
from engine.runtime import recovery, rundir, supervisor
from engine.runtime.supervisor import Run
from engine.telemetry.stats import RunEvent
from tests.engine.graphs import plan_of
from tests.system.cli import environment, frameloom
from tests.system.faults import (
    assert_settled,
    codes,
    finish,
    frames,
    kill_worker,
    op,
    wait_for,
    wait_for_frames,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("short_tempdir")]
SMALL = ("--set", "bars.width=64", "--set", "bars.height=64", "--set", "bars.frames=5")
QUICK = (*SMALL, "--no-page")


def two_workers(mode: str = "live", **middle: Any) -> Plan:
    nodes = {
        "cam": op("Count", config={"fps": 100}),
        "node": op("CrashAt", {"frames": "cam"}, config={"seq": 10**9} | middle, worker="other"),
        "rec": op("Recorder", {"frames": "node"}),
    }
    return plan_of(nodes, mode=mode)


# ---- things that must not end it


def test_who_watches_may_fail_and_the_run_goes_on(tmp_path: Path) -> None:
    def fail(event: RunEvent) -> None:
        raise ValueError(event.code)

    with Run(two_workers(), tmp_path, on_event=fail) as run:
        wait_for_frames(run, 10, rec=5)
        run.raise_epoch("cam", "test")
        wait_for(lambda: "OBSERVER_FAILED" in codes(run.snapshot()), 3, "that it is told")
        wait_for_frames(run, 3, rec=5)
        result = finish(run)
    assert result.exit_code == 0, result.failures


@pytest.mark.parametrize(
    "parts", [[b"other:x", b""], [b"\xff", b"\xff"], [b"other:0", b"{}"], [b"other:0"], [b""]]
)
def test_nonsense_on_the_control_socket_is_told_and_refused(
    parts: list[bytes], tmp_path: Path
) -> None:
    with Run(two_workers(), tmp_path) as run:
        wait_for_frames(run, 10, rec=5)
        with zmq.Context() as context, context.socket(zmq.DEALER) as stranger:
            stranger.connect(run._endpoint)
            stranger.send_multipart(parts)
            wait_for(lambda: "BAD_MESSAGE" in codes(run.snapshot()), 3, "that it is told")
        wait_for_frames(run, 3, rec=5)
        result = finish(run)
    assert result.exit_code == 0, result.failures


# ---- things that must


def test_a_bug_in_the_supervisor_ends_the_run_loudly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Run(two_workers(), tmp_path) as run:
        wait_for_frames(run, 10, rec=5)
        monkeypatch.setattr(run._ledger, "update", lambda *_: 1 // 0)
        assert run.wait(5)
        result = run.close()
    assert result.exit_code == 1
    (failure,) = result.failures
    assert failure.code == "SUPERVISOR"
    assert "ZeroDivisionError" in failure.message
    assert "Traceback" in failure.detail


def test_a_forkserver_that_dies_ends_the_run_loudly(tmp_path: Path) -> None:
    with Run(two_workers(), tmp_path) as run:
        wait_for_frames(run, 10, rec=5)
        assert run._forkserver is not None
        os.kill(run._forkserver.process_id, signal.SIGKILL)
        assert run.wait(5)
        result = run.close()
    assert result.exit_code == 1
    assert [failure.code for failure in result.failures] == ["SUPERVISOR"]


def test_a_live_worker_that_keeps_dying_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(recovery.MOST_DEATHS, "live", 2)
    with Run(two_workers(), tmp_path) as run:
        for life in range(3):
            wait_for(lambda: run.snapshot().workers["other"].restarts == life, 5, "a new life")  # noqa: B023
            wait_for_frames(run, 5, rec=2)
            kill_worker(run, "other")
        wait_for(lambda: run.failures, 5, "that it is given up")
        wait_for_frames(run, 3, cam=20)
        result = finish(run)
    assert result.exit_code == 1
    (failure,) = result.failures
    assert failure.code == "WORKER_LOST"
    assert "3 times" in failure.message
    assert_settled(result)


def test_in_a_file_run_the_second_death_is_the_last(tmp_path: Path) -> None:
    with Run(two_workers("file"), tmp_path) as run:
        for life in range(2):
            wait_for(lambda: run.snapshot().workers["other"].restarts == life, 5, "a new life")  # noqa: B023
            wait_for_frames(run, 5, rec=2)
            kill_worker(run, "other")
        wait_for(lambda: run.failures, 5, "that it is given up")
        result = finish(run)
    assert result.exit_code == 1
    assert "twice" in result.failures[0].message
    assert_settled(result)


# ---- starting


def test_a_start_that_fails_leaves_nothing_and_waits_for_nobody(
    tmp_path: Path, short_tempdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        message = "no forkserver today"
        raise EngineError(message)

    monkeypatch.setattr(supervisor, "Forkserver", refuse)
    run = Run(two_workers(), tmp_path)
    with pytest.raises(EngineError, match="today"):
        run.start()
    run.close()
    assert list(short_tempdir.iterdir()) == []
    with pytest.raises(EngineError, match="today"), run:
        pytest.fail("it must not get here")


def test_no_folder_for_sockets_is_an_error_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    monkeypatch.setattr(rundir, "FALLBACK", tmp_path / "gone too")
    with pytest.raises(TransportError, match="set TMPDIR"), Run(two_workers(), tmp_path):
        pytest.fail("it must not get here")


def test_a_temporary_folder_with_a_long_name_will_do(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 90)
    long.mkdir()
    done = frameloom("run", "test-pattern", *QUICK, folder=tmp_path, env={"TMPDIR": str(long)})
    assert done.code == 0, done.err


def test_a_reader_of_messages_that_goes_away_stops_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "engine.cli", "run", "test-pattern", *QUICK]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stderr.close()
        out = process.stdout.read().decode()
    assert process.returncode == 0
    assert "frames" in out


def test_a_folder_that_is_gone_is_one_line(tmp_path: Path) -> None:
    code = f"import os; os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone'); {CLI}"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, env=environment(), capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == ("error: the current folder does not exist any more: cd to another one\n")


CLI = "import engine.cli; engine.cli.main()"


# ---- what may be asked


def test_a_node_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    run = Run(two_workers(), tmp_path)
    for ask in (
        lambda: run.tune("nod", "gain", 1),
        lambda: run.add_stream("nod", "a", {}),
        lambda: run.remove_stream("nod", "a"),
    ):
        with pytest.raises(EngineError, match="no node 'nod'; there are cam, node, rec"):
            ask()
    assert frames(run, "cam") == 0
