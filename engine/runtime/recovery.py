"""What becomes of a worker that died: when it starts again, or why it does not."""

from __future__ import annotations

from engine.plan import Plan
from engine.runtime.messages import DEVICE_LOST_STATUS
from engine.runtime.processes import WorkerState

FIRST_BACKOFF_NS = 100_000_000
LONGEST_BACKOFF_NS = 30_000_000_000
CALM_NS = 60_000_000_000  # a worker that held this long starts with a clean record
MOST_DEATHS = {"file": 1, "live": 8}  # without calm between them; at the next one it is given up


def how_it_ended(status: int) -> str:
    """A worker's exit status in words; negative for a signal."""
    if status == DEVICE_LOST_STATUS:
        return "left because its GPU failed (DEVICE_LOST)"
    return f"was killed by signal {-status}" if status < 0 else f"exited with status {status}"


class Recovery:
    """Live, a worker gets eight chances, further and further apart; in a file run it gets one:
    the same frames would most likely kill it again.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._sources = {
            node.worker for node in plan.nodes.values() if not plan.inputs_of(node.name)
        }

    def plan_restart(self, state: WorkerState, now_ns: int) -> str | None:
        """Set when the worker starts again; or the reason why it must not."""
        if self._plan.mode == "file" and state.name in self._sources:
            return "a file's source cannot go on where it died"  # it would send frames twice
        if now_ns - state.started_ns > CALM_NS:
            state.deaths = 0
        state.deaths += 1
        if state.deaths > MOST_DEATHS[self._plan.mode]:
            times = "twice" if state.deaths == 2 else f"{state.deaths} times"
            return f"it died {times} without holding {CALM_NS // 1_000_000_000} s, and is given up"
        backoff_ns = FIRST_BACKOFF_NS << (state.deaths - 2) if state.deaths > 1 else 0
        state.start_at_ns = now_ns + min(backoff_ns, LONGEST_BACKOFF_NS)
        return None
