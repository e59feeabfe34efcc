"""Names that say which process made a thing, so that what a killed one left behind is known."""

from __future__ import annotations

import os
import re
from pathlib import Path

_NAME = re.compile(r"frameloom-([0-9]+)-([0-9]+)-\w+")


def owned_name(suffix: object) -> str:
    """`frameloom-PID-START-SUFFIX` of this process; a pid alone may be given out again."""
    return f"frameloom-{os.getpid()}-{start_time(os.getpid())}-{suffix}"


def is_orphan(name: str) -> bool:
    """Whether it is such a name and its process is gone."""
    match = _NAME.fullmatch(name)
    if match is None:
        return False
    try:
        return start_time(int(match[1])) != int(match[2])
    except (FileNotFoundError, ProcessLookupError):
        return True


def start_time(pid: int) -> int:
    """When a process started, in clock ticks since boot."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[19])
