"""What file sinks share: names that never overwrite, and disk errors with a remedy."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine import OperatorError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def fill_in(pattern: str, stream_id: str) -> str:
    """`pattern` with {stream} replaced by the stream id, made fit for a file name."""
    return pattern.replace("{stream}", re.sub(r"[^\w.-]", "_", stream_id))


def reserve(path: Path) -> Path:
    """Create `path`, or the first free of path-2, path-3, ...: nothing recorded is overwritten."""
    candidate, number = path, 1
    while True:
        try:
            candidate.open("xb").close()
        except FileExistsError:
            number += 1
            candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")
        else:
            return candidate


@contextmanager
def disk_errors(node: str, path: Path) -> Iterator[None]:
    """Turn what the disk refuses into a typed error that names node, file and remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise OperatorError(
                "DISK_FULL",
                f"{node}: no room left to write {path}; what was written is kept. Free space on "
                "that disk, or give the run another output folder",
                permanent=False,  # live: somebody may make room
            ) from error
        if error.errno in DENIED:
            raise OperatorError(
                "PERMISSION",
                f"{node}: may not write {path}; change its permissions, or give the run another "
                "output folder",
            ) from error
        raise
