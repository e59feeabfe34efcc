"""What a test must not leave behind: processes, threads, shared memory."""

from __future__ import annotations

import os
import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

SHM = Path("/dev/shm")
PATIENCE_S = 5.0  # a process that was told to end may take a moment


@dataclass(frozen=True)
class Inventory:
    """What exists at one moment."""

    processes: frozenset[int]
    threads: frozenset[int]
    slabs: frozenset[str]


def take_inventory(shm: Path = SHM) -> Inventory:
    return Inventory(
        frozenset(child.pid for child in psutil.Process().children(recursive=True)),
        frozenset(id(thread) for thread in threading.enumerate()),
        frozenset(entry.name for entry in shm.glob("frameloom-*")),
    )


def leaks(before: Inventory, shm: Path = SHM) -> list[str]:
    """What is there now and was not before, in words."""
    return [*_processes(before), *_threads(before), *_slabs(before, shm)]


def lasting_leaks(before: Inventory, patience_s: float, shm: Path = SHM) -> list[str]:
    """The leaks that are still there after a while."""
    deadline = time.monotonic() + patience_s
    while (found := leaks(before, shm)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return found


def _processes(before: Inventory) -> list[str]:
    found = []
    for child in psutil.Process().children(recursive=True):
        if child.pid in before.processes:
            continue
        try:
            found.append(
                f"process {child.pid} ({' '.join(child.cmdline())[:80]}), {child.status()}"
            )
        except psutil.NoSuchProcess:
            continue
    return found


def _threads(before: Inventory) -> list[str]:
    return [
        f"thread {thread.name}"
        for thread in threading.enumerate()
        if id(thread) not in before.threads
        and (not thread.daemon or thread.name.startswith("frameloom"))
    ]


def _slabs(before: Inventory, shm: Path) -> list[str]:
    new = {entry.name for entry in shm.glob("frameloom-*")} - before.slabs
    return [f"shared memory {shm / name}" for name in sorted(new) if not _is_of_others(name)]


def _is_of_others(name: str) -> bool:
    """Whether the slab's name holds the pid of a living process that is not one of ours."""
    ours = {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}
    pids = {int(number) for number in re.findall(r"\d+", name)}
    return not pids & ours and any(psutil.pid_exists(pid) for pid in pids if pid > 1)
