"""What a terminal shows while a graph runs: a progress bar for files, a live table for cameras."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol

from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

from engine.commands.console import stderr
from engine.commands.tables import live_view
from engine.plan import Plan
from engine.telemetry.stats import RunSnapshot
from engine.telemetry.views import frames_read, sources

REFRESH_HZ = 4


class Display(Protocol):
    """Something that shows the newest snapshot while it is entered."""

    def __enter__(self) -> Display: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
    def update(self, snapshot: RunSnapshot) -> None: ...


def display_for(plan: Plan, total_frames: int | None) -> Display:
    """The display that fits the mode."""
    return ProgressBar(plan.graph, total_frames) if plan.mode == "file" else LiveTable()


class ProgressBar:
    """Frames that were read, of all that will come."""

    def __init__(self, title: str, total_frames: int | None) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=stderr(),
            refresh_per_second=REFRESH_HZ,
            transient=True,
        )
        self._task = self._progress.add_task(title, total=total_frames, rate="")

    def __enter__(self) -> ProgressBar:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def update(self, snapshot: RunSnapshot) -> None:
        rate = sum(snapshot.nodes[name].fps for name in sources(snapshot))
        done = frames_read(snapshot)
        self._progress.update(self._task, completed=done, rate=f"{rate:.0f} fps")


class LiveTable:
    """Nodes and edges, refreshed a few times a second."""

    def __init__(self) -> None:
        self._live = Live(console=stderr(), refresh_per_second=REFRESH_HZ, transient=True)

    def __enter__(self) -> LiveTable:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def update(self, snapshot: RunSnapshot) -> None:
        self._live.update(live_view(snapshot))
