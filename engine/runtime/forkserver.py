"""A small process that has everything imported and forks workers in milliseconds.

Forking keeps a restart well under a second where a fresh interpreter would need several to
import its libraries. It imports no CUDA and starts no thread, so that forking is safe. It speaks
JSON lines: a spawn request on stdin; `{"pid": ...}` and `{"exited": pid, "status": ...}` on stdout.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import select
import signal
import sys
from contextlib import suppress
from pathlib import Path

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Preload the modules named on the command line, then serve until stdin closes."""
    die_with_parent()
    sys.path.append(str(Path.cwd()))  # a person's own operators; last, so they hide no library
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # also sent to whole groups
        signal.signal(number, signal.SIG_IGN)  # the supervisor decides when workers stop
    for name in sys.argv[1:]:
        with suppress(ImportError):  # an optional library: the operator itself will name it
            importlib.import_module(name)
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    _say({"ready": os.getpid()})
    children: set[int] = set()
    pending = b""
    while True:
        readable, _, _ = select.select([0, wake_read], [], [])
        if wake_read in readable:
            os.read(wake_read, 4096)
            _reap(children)
        if 0 in readable:
            chunk = os.read(0, 1 << 16)
            if not chunk:
                _end(children)
                return
            pending += chunk
            *lines, pending = pending.split(b"\n")
            for line in lines:
                children.add(_fork(line, (wake_read, wake_write)))


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that started it is gone."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _fork(line: bytes, inherited: tuple[int, int]) -> int:
    pid = os.fork()
    if pid:
        _say({"pid": pid})
        return pid
    status = 1
    try:
        die_with_parent()
        signal.set_wakeup_fd(-1)
        for descriptor in inherited:
            os.close(descriptor)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(2, 1)  # stdout is the supervisor's line protocol
        from engine.runtime.worker import run_worker

        status = run_worker(json.loads(line))
    finally:
        sys.stderr.flush()
        os._exit(status)


def _reap(children: set[int]) -> None:
    for pid in list(children):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            children.discard(pid)
            _say({"exited": pid, "status": os.waitstatus_to_exitcode(status)})


def _end(children: set[int]) -> None:
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _say(message: dict[str, int]) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    main()
