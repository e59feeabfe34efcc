"""`frameloom doctor`: what this computer has, what it lacks, and why."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table
from rich.text import Text

from engine.commands.console import EXIT_FAILED, EXIT_OK, print_json, stderr, stdout
from engine.commands.doctor_graph import graph_findings
from engine.commands.doctor_networks import network_findings
from engine.commands.finding import Finding, Verdict
from engine.commands.probes import OPTIONAL, REQUIRED, Outcome, probe, probe_gpu
from engine.errors import GraphError
from engine.transport.slab import sweep_stale_slabs

SHM = Path("/dev/shm")
SHM_WANTED_BYTES = 256 << 20  # a guard graph in two workers at 1080p fits
FILES_WANTED = 1024
MARKS: dict[Verdict, tuple[str, str]] = {
    "ok": ("ok", "green"),
    "missing": ("-", "yellow"),
    "broken": ("BROKEN", "bold red"),
}


@dataclass(frozen=True)
class Asked:
    """A graph to look at, as `run` and `check` take it."""

    graph: str
    uris: list[str]
    assignments: list[str]
    mode: str | None


def doctor_command(asked: Asked | None = None, *, as_json: bool) -> int:
    """Print the report; EXIT_FAILED if something is broken that is required, or that the graph
    asks for. A graph that is wrong raises GraphError after the report.
    """
    last: list[Finding] = []
    wrong: GraphError | None = None
    if asked is not None:
        try:
            last = graph_findings(asked.graph, asked.uris, asked.assignments, asked.mode)
        except GraphError as error:  # the report may hold its cause
            wrong = error
    if not as_json:
        stderr().print("looking at packages, each in a process of its own ...")
    findings = [*_system(), *map(judge, [*probe(REQUIRED), *probe(OPTIONAL), *probe_gpu()])]
    findings += [*network_findings(), *last]
    if as_json:
        is_ok = wrong is None and not _broken(findings)
        print_json({"ok": is_ok, "findings": [asdict(f) for f in findings]})
    else:
        stdout().print(_table(findings))
    if wrong is not None:
        raise wrong
    return EXIT_FAILED if _broken(findings) else EXIT_OK


def judge(outcome: Outcome) -> Finding:
    """What an outcome means for us."""
    version = f"{outcome.version} " if outcome.version else ""
    if outcome.works:
        return Finding(outcome.name, "ok", f"{version}{outcome.note}".strip())
    note = (
        outcome.note
        if outcome.version is None
        else f"{version}cannot be used{outcome.where}: {outcome.note}"
    )
    return Finding(outcome.name, "broken" if outcome.required else "missing", note)


def _system() -> list[Finding]:
    return [_python(), _cores(), *_shared_memory(SHM), _open_files()]


def _python() -> Finding:
    is_right = sys.version_info >= (3, 11)
    note = f"{platform.python_version()} on {platform.platform()}"
    return Finding("Python", "ok" if is_right else "broken", note)


def _cores() -> Finding:
    usable, there = len(os.sched_getaffinity(0)), os.cpu_count() or 1
    note = str(usable) if usable == there else f"{usable} of {there} may be used"
    return Finding("processor cores", "ok", note)


def _shared_memory(folder: Path) -> list[Finding]:
    if not folder.is_dir():
        note = f"{folder} is not there: pixels between workers will be copied through sockets"
        return [Finding("shared memory", "missing", note)]
    swept = sweep_stale_slabs()
    usage = shutil.disk_usage(folder)
    note = f"{usage.free >> 20} MiB free of {usage.total >> 20} MiB in {folder}"
    enough = usage.free >= SHM_WANTED_BYTES
    remedy = "" if enough else "; enlarge it: docker run --shm-size 1g, or remount it"
    stale = f"removed {len(swept)} that dead processes left" if swept else "none stale"
    return [
        Finding("shared memory", "ok" if enough else "missing", note + remedy),
        Finding("slabs", "ok", stale),
    ]


def _open_files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = 0 <= soft < FILES_WANTED
    remedy = f"; many streams need more: ulimit -n {FILES_WANTED}" if few else ""
    return Finding("open files", "missing" if few else "ok", f"{soft} (at most {hard}){remedy}")


def _broken(findings: list[Finding]) -> bool:
    return any(finding.verdict == "broken" for finding in findings)


def _table(findings: list[Finding]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 1))
    for finding in findings:
        mark, style = MARKS[finding.verdict]
        table.add_row(Text(finding.what, style="bold"), Text(mark, style=style), Text(finding.note))
    return table
