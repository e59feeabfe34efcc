"""`frameloom run`: check the graph, start it, show how it goes, drain when told to, sum up."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import msgspec

from engine.check import check_file
from engine.commands.console import (
    EXIT_FAILED,
    CommandError,
    print_error,
    print_event,
    print_json,
    stderr,
    stdout,
)
from engine.commands.display import display_for
from engine.commands.inputs import Inputs, resolve_inputs
from engine.commands.tables import summary_view
from engine.commands.written import Files, list_files, written
from engine.device.presence import absent_devices
from engine.errors import DeviceError, EngineError
from engine.plan import Plan
from engine.runtime.supervisor import Run, RunResult
from engine.telemetry.stats import RunSnapshot
from engine.telemetry.views import plain

POLL_S = 0.1
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What the command line says, beside the graph and its inputs."""

    out_dir: Path | None = None  # None: out/<graph>
    as_json: bool = False
    port: int | None = 8700  # of the page; 0: any free one; None: no page
    keys_dir: Path | None = None
    keep_open: bool = False
    seconds: float | None = None  # stop after this long; None: at the end of the inputs


class Page(Protocol):
    """The live page as this command uses it."""

    @property
    def address(self) -> str: ...
    def close(self) -> None: ...


def run_command(
    graph: str, uris: list[str], assignments: list[str], mode: str | None, options: RunOptions
) -> int:
    """Run a graph to its end; the exit code. Raises EngineError while nothing has been started."""
    inputs = resolve_inputs(uris, mode)
    _, plan = check_file(graph, assignments, inputs.edit)
    for device, cause in absent_devices(plan).items():
        raise DeviceError(f"{device} was asked for, but {cause}. `frameloom doctor` says more")
    out_dir = options.out_dir or Path("out") / plan.graph
    before = _prepare(out_dir)
    run = Run(
        plan,
        out_dir,
        keep_open=options.keep_open,
        keys_dir=options.keys_dir,
        on_event=print_event,
    )
    with _page(run, options.port) as address:
        _announce(plan, inputs, out_dir, address)
        try:
            result = _carry_out(run, plan, inputs, options, address)
        except EngineError as error:  # from starting: a link or a device that cannot be had
            print_error(error)
            return EXIT_FAILED
    result.snapshot.page = address
    _report(result, written(before, list_files(out_dir)), as_json=options.as_json)
    return result.exit_code


def _carry_out(
    run: Run, plan: Plan, inputs: Inputs, options: RunOptions, address: str | None
) -> RunResult:
    """Start, watch, close."""
    watch = _Watch(run, options.seconds)
    with watch.signals():
        try:
            run.start()
            quiet = options.as_json or not stderr().is_terminal
            shown = nullcontext() if quiet else display_for(plan, inputs.count_frames())
            watch.until_the_end(shown, address)
        finally:
            result = run.close()
    return result


class _Watch:
    """Waits for the end of a run; turns signals and the time limit into stops."""

    def __init__(self, run: Run, seconds: float | None) -> None:
        self._run = run
        self._seconds = seconds
        self._stops = 0

    @contextmanager
    def signals(self) -> Iterator[None]:
        """The first SIGINT or SIGTERM drains, the second ends at once."""
        before = {number: signal.signal(number, self._on_signal) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def until_the_end(self, shown: AbstractContextManager[Any], address: str | None) -> None:
        with shown as display:
            until: float | None = None
            while not self._run.wait(POLL_S):
                if until is None and self._seconds is not None and self._run.started.is_set():
                    until = time.monotonic() + self._seconds
                if until is not None and time.monotonic() >= until and not self._stops:
                    self._stop()
                if display is not None:
                    display.update(self._snapshot(address))
            if display is not None:
                display.update(self._snapshot(address))

    def _snapshot(self, address: str | None) -> RunSnapshot:
        snapshot = self._run.snapshot()
        snapshot.page = address
        return snapshot

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        self._stop()

    def _stop(self) -> None:
        self._stops += 1
        self._run.stop(drain=self._stops == 1)


def _prepare(out_dir: Path) -> Files:
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        return list_files(out_dir)
    except OSError as error:
        message = f"{out_dir}: cannot write there: {error.strerror}; choose another with --out"
        raise CommandError(message) from error


@contextmanager
def _page(run: Run, port: int | None) -> Iterator[str | None]:
    """The live page while the block runs; its address."""
    if port is None:
        yield None
        return
    from engine.web.server import PageServer

    page = PageServer(run, port)
    try:
        yield page.address
    finally:
        page.close()


def _announce(plan: Plan, inputs: Inputs, out_dir: Path, address: str | None) -> None:
    console = stderr()
    for line in inputs.lines:
        console.print(f"input   {line}", soft_wrap=True, markup=False, highlight=False)
    told = "nothing is lost" if plan.mode == "file" else "late frames are dropped"
    console.print(f"graph   {plan.graph}, mode {plan.mode}: {told}", highlight=False)
    console.print(f"output  {out_dir}", soft_wrap=True, markup=False, highlight=False)
    if address:
        console.print(f"page    {address}", soft_wrap=True, markup=False, highlight=False)


def _report(result: RunResult, files: Files, *, as_json: bool) -> None:
    snapshot = result.snapshot
    if as_json:
        found = [{"path": str(path), "bytes": size} for path, (_, size) in files.items()]
        failures = msgspec.to_builtins(result.failures)
        print_json(
            plain(snapshot) | {"exit_code": result.exit_code, "failures": failures, "files": found}
        )
        return
    console = stdout()
    console.print(summary_view(snapshot))
    for path, (_, size) in files.items():
        line = f"wrote   {path} ({size:,} bytes)"
        console.print(line, soft_wrap=True, markup=False, highlight=False)
