"""Running a graph inside a bench: start, watch, drain, and whether its books are balanced."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from bench.common import Deadline
from engine.check import check
from engine.runtime.supervisor import Run, RunResult
from engine.spec import GraphSpec
from engine.telemetry.stats import RunSnapshot

START_S = 60.0
DRAIN_S = 30.0


class BenchRun:
    """A graph that has started. `finish` drains it; leaving the block ends it in any case."""

    def __init__(self, run: Run, out_dir: Path) -> None:
        self.run = run
        self.out_dir = out_dir
        self.result: RunResult | None = None

    def wait_for(self, what: str, is_so: Callable[[RunSnapshot], bool], seconds: float) -> None:
        """Until the snapshot says so."""
        deadline = Deadline(seconds, f"{what} did not come true")
        while not is_so(self.run.snapshot()):
            deadline.poll()

    def wait_end(self, seconds: float) -> RunResult:
        """Until the graph has ended by itself."""
        if not self.run.wait(seconds):
            message = f"the graph '{self.run.plan.graph}' did not end within {seconds:.0f} s"
            raise TimeoutError(message)
        return self._close()

    def finish(self) -> RunResult:
        """Stop the sources and let everything inside come out."""
        self.run.stop(drain=True)
        return self.wait_end(DRAIN_S)

    def _close(self) -> RunResult:
        self.result = self.run.close()
        if self.result.failures:
            raise RuntimeError("; ".join(failure.message for failure in self.result.failures))
        return self.result

    def ages(self, path: str) -> np.ndarray:
        """What an AgeSink wrote: [N, 2] int64, (arrival, age) in ns."""
        noted: np.ndarray = np.load(self.out_dir / path, allow_pickle=False)
        return noted


@contextmanager
def running(spec: GraphSpec, *, keep_open: bool = False) -> Iterator[BenchRun]:
    """Check the graph, start it, and hand it over once its sources may produce."""
    plan = check(spec)
    with tempfile.TemporaryDirectory(prefix="frameloom-bench-") as folder:
        run = Run(plan, Path(folder), keep_open=keep_open)
        active = BenchRun(run, Path(folder))
        run.start()
        try:
            if not run.started.wait(START_S) or run.failures:
                raise RuntimeError(
                    "; ".join(f.message for f in run.failures) or "it does not start"
                )
            yield active
        finally:
            if active.result is None:
                run.close()


def unbalanced(snapshot: RunSnapshot) -> list[str]:
    """Edges where something is unaccounted for, or still under way after the drain."""
    return [
        name
        for name, edge in snapshot.edges.items()
        if not edge.balanced or edge.in_flight or edge.malformed
    ]


def drop_figures(snapshot: RunSnapshot) -> dict[str, float]:
    """`drops_CONSUMER_CAUSE` of every edge that dropped anything."""
    return {
        f"drops_{name.partition('->')[2].partition('.')[0]}_{cause}": count
        for name, edge in snapshot.edges.items()
        for cause, count in edge.drops.items()
    }
