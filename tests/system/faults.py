"""Graphs of small test operators in real processes, and how to wait for what they do."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from engine.runtime.supervisor import Run, RunResult
from engine.telemetry.stats import RunSnapshot
from tests.engine.graphs import node

OPERATORS = "tests.runtime.operators"


def op(name: str, inputs: dict[str, Any] | None = None, /, **fields: Any) -> dict[str, Any]:
    """A node of a test operator; an input given as text is a blocking edge of 2 frames."""
    return node(name if ":" in name else f"{OPERATORS}:{name}", inputs, **fields)


def wait_for(condition: Callable[[], Any], seconds: float, what: str) -> float:
    """How long it took, in s; fails when it takes longer than `seconds`."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, f"within {seconds} s not: {what}"
        time.sleep(0.01)  # real processes are being watched
    return time.monotonic() - start


def frames(run: Run, name: str) -> int:
    return run.snapshot().nodes[name].frames


def wait_for_frames(run: Run, seconds: float, **counts: int) -> None:
    """Until each node named has had so many frames more."""
    goals = {name: frames(run, name) + more for name, more in counts.items()}
    wait_for(
        lambda: all(frames(run, name) >= goal for name, goal in goals.items()),
        seconds,
        f"{counts} frames more; {run.snapshot().events}",
    )


def kill_worker(run: Run, name: str) -> None:
    """End a worker's process as the kernel would that is out of memory."""
    pid = run.snapshot().workers[name].pid
    assert pid > 1, f"worker '{name}' has not said its pid yet"  # 0 would be this test's own group
    os.kill(pid, signal.SIGKILL)


def finish(run: Run, seconds: float = 8) -> RunResult:
    """Ask a run to end with what is inside coming out, and see it do so."""
    run.stop()
    assert run.wait(seconds), run.snapshot()
    return run.close()


def codes(snapshot: RunSnapshot) -> list[str]:
    return [event.code for event in snapshot.events]


def assert_settled(result: RunResult) -> None:
    """Every frame sent is accounted for, and none is under way any more."""
    for edge in result.snapshot.edges.values():
        assert edge.balanced, edge
        assert edge.in_flight == 0, edge


def records(path: Path) -> list[tuple[str, int, int, int]]:
    """(stream, seq, epoch, byte) of every frame that a Recorder saw."""
    rows = [line.split() for line in path.read_text().splitlines()]
    return [(row[0], *map(int, row[1:])) for row in rows if len(row) == 4]  # type: ignore[misc]


def gone(pids: list[int]) -> bool:
    """Whether none of these processes runs any more."""
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                return False
    return True
