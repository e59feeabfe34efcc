"""The supervisor's hold on its workers: the forkserver, process ids, exits."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from engine.errors import EngineError
from engine.runtime.messages import Spawn

# The engine owns the thread budget. And freed memory is kept for the next frame: by default the
# C library returns it to the kernel and faults it in again, which costs a third of the throughput.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(128 << 20),
}
PRELOADED = ("numpy", "cv2", "zmq", "msgspec", "engine.runtime.worker")


@dataclass
class WorkerState:
    """What the supervisor knows of one worker."""

    name: str
    pid: int = 0
    incarnation: int = -1
    address: bytes = b""
    endpoint: str = ""
    phase: str = "down"  # down | starting | listening | opening | ready | done | failed
    started_ns: int = 0
    heard_ns: int = 0
    deaths: int = 0  # since it last held for a while
    start_at_ns: int | None = None


class Forkserver:
    """Starts workers. The process that makes it must outlive it in the same thread (PDEATHSIG)."""

    def __init__(self, preload: Iterable[str]) -> None:
        environment = os.environ | ENVIRONMENT
        root = str(Path(__file__).resolve().parents[2])
        paths = [root, environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        modules = list(dict.fromkeys((*PRELOADED, *preload)))
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "engine.runtime.forkserver", *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        self._pending = b""
        self._unread: list[dict[str, int]] = []
        try:
            self._wait_for("ready")
        except EngineError:
            self.close()
            raise

    @property
    def process_id(self) -> int:
        return self._process.pid

    def fileno(self) -> int:
        """To be polled: readable when a worker has exited."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def spawn(self, request: Spawn) -> int:
        """Fork a worker; its process id."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # reading the answer says what is the matter
            self._process.stdin.write(msgspec.json.encode(request) + b"\n")
            self._process.stdin.flush()
        return self._wait_for("pid")

    def exits(self) -> Iterator[tuple[int, int]]:
        """(pid, status) of workers that have ended; status is negative for a signal. Never waits.

        To be asked also when nothing is readable: an exit may have come with the answer to `spawn`.
        """
        if select.select([self.fileno()], [], [], 0)[0]:
            self._read()
        messages, self._unread = self._unread, []
        for message in messages:
            if "exited" in message:
                yield message["exited"], message["status"]

    def close(self) -> None:
        """End it, and with it every worker that still runs."""
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _wait_for(self, key: str) -> int:
        while True:
            for index, message in enumerate(self._unread):
                if key in message:
                    del self._unread[index]
                    return message[key]
            self._read()

    def _read(self) -> None:
        chunk = os.read(self.fileno(), 1 << 16)
        if not chunk:
            raise EngineError("the forkserver has died; see its output above")
        self._pending += chunk
        *lines, self._pending = self._pending.split(b"\n")
        self._unread += [json.loads(line) for line in lines]


def kill(pid: int) -> None:
    """End a worker that does not answer."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
