"""Runs the program as a user does: a process of its own, in a folder of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 50.0


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)


def frameloom(*arguments: str | Path, folder: Path, env: dict[str, str] | None = None) -> Done:
    """Run a command to its end."""
    done = subprocess.run(
        _command(arguments),
        cwd=folder,
        env=environment() | (env or {}),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


class Started:
    """A command that still runs. Its standard error is read as it comes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def wait_for(self, pattern: str) -> str:
        """The first line of standard error that holds the pattern."""
        with self._changed:
            found = self._changed.wait_for(lambda: self._match(pattern), TIMEOUT_S)
        assert found, f"{pattern!r} not in {self._lines}"
        return found

    def page(self) -> str:
        """The address of the live page."""
        return re.sub(r"^page\s+", "", self.wait_for(r"^page "))

    def get(self, path: str) -> bytes:
        """What the live page answers."""
        with urllib.request.urlopen(self.page() + path, timeout=5) as answer:
            return bytes(answer.read())

    def wait_until_frames(self, node: str, count: int) -> Any:
        """A snapshot in which the node has seen that many frames."""
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            snapshot = json.loads(self.get("api/snapshot"))
            if snapshot["nodes"][node]["frames"] >= count:
                return snapshot
        raise AssertionError(f"{node} never saw {count} frames: {snapshot}")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> Done:
        """Wait for its end."""
        assert self.process.stdout is not None
        out = self.process.stdout.read()
        code = self.process.wait(TIMEOUT_S)
        self._reader.join()
        return Done(code, out, "\n".join(self._lines))

    def _match(self, pattern: str) -> str | None:
        return next((line for line in self._lines if re.search(pattern, line)), None)

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._changed:
                self._lines.append(line.rstrip("\n"))
                self._changed.notify_all()


@contextmanager
def started(*arguments: str | Path, folder: Path) -> Iterator[Started]:
    """A command in the background; killed if the block leaves it running."""
    process = subprocess.Popen(
        _command(arguments),
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    run = Started(process)
    try:
        yield run
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        run._reader.join()
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()


def _command(arguments: tuple[str | Path, ...]) -> list[str]:
    return [sys.executable, "-m", "engine.cli", *map(str, arguments)]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "160", "NO_COLOR": "1"}
