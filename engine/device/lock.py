"""Locks between processes, on files that may be deleted while somebody waits for them."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path


class Lock:
    """An exclusive lock on a file that goes with its last holder. `waited_s`: for another one."""

    def __init__(self, path: Path) -> None:
        """Waits until it is free. OSError if the file cannot be made."""
        self._path = path
        start = time.perf_counter()
        waited = False
        while True:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waited = True
                fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            if _is_at(self._descriptor, path):
                break
            waited = True
            os.close(self._descriptor)  # its last holder deleted it: there is a new one
        self.waited_s = time.perf_counter() - start if waited else 0.0

    def release(self) -> None:
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)


def remove_unheld(path: Path) -> bool:
    """Delete a file unless somebody has locked it, or owns it; whether it is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    except OSError:  # another user's
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(descriptor, path):  # and not one that was made meanwhile, maybe locked
            path.unlink()
    except OSError:  # held, or in a folder that is read only
        return False
    finally:
        os.close(descriptor)
    return not path.exists()


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether this open file still is the one of that name."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    ours = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)
