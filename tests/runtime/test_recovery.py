"""What becomes of a worker that died."""

from __future__ import annotations

import pytest

from engine.runtime.processes import WorkerState
from engine.runtime.recovery import CALM_NS, FIRST_BACKOFF_NS, LONGEST_BACKOFF_NS, Recovery
from tests.engine.graphs import plan_of
from tests.system.faults import op

SECOND = 1_000_000_000


def recovery(mode: str) -> Recovery:
    nodes = {"cam": op("Count", worker="source"), "rec": op("Recorder", {"frames": "cam"})}
    return Recovery(plan_of(nodes, mode=mode))


def delays_ns(chances: Recovery, state: WorkerState, deaths: int, lived_ns: int = 0) -> list[int]:
    """How long after each death the worker starts again."""
    delays, now_ns = [], 100 * CALM_NS
    for _ in range(deaths):
        state.started_ns, state.start_at_ns = now_ns - lived_ns, None
        assert chances.plan_restart(state, now_ns) is None
        assert state.start_at_ns is not None
        delays.append(state.start_at_ns - now_ns)
    return delays


def test_live_a_worker_starts_at_once_then_ever_later_and_is_given_up_loudly() -> None:
    chances, state = recovery("live"), WorkerState("main")
    delays = delays_ns(chances, state, 8)
    assert delays[:3] == [0, FIRST_BACKOFF_NS, 2 * FIRST_BACKOFF_NS]
    assert delays == sorted(delays)
    assert max(delays) <= LONGEST_BACKOFF_NS
    state.start_at_ns = None
    reason = chances.plan_restart(state, 100 * CALM_NS)
    assert reason is not None
    assert "9 times" in reason
    assert state.start_at_ns is None


def test_one_that_held_for_a_minute_has_a_clean_record() -> None:
    chances, state = recovery("live"), WorkerState("main")
    assert delays_ns(chances, state, 20, lived_ns=CALM_NS + SECOND) == [0] * 20


@pytest.mark.parametrize(("worker", "chances"), [("main", 1), ("source", 0)])
def test_in_a_file_run_the_same_frame_would_kill_it_again(worker: str, chances: int) -> None:
    state = WorkerState(worker)
    delays_ns(recovery("file"), state, chances)
    state.start_at_ns = None
    assert recovery("file").plan_restart(state, 100 * CALM_NS)
    assert state.start_at_ns is None
