"""What a terminal shows: the progress bar of files, the live table of cameras, the summary."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console, RenderableType

from engine.commands.tables import live_view, ms, summary_view
from engine.telemetry.stats import Histogram
from tests.engine.snapshots import snapshot
from tests.system.cli import ROOT


def text_of(renderable: RenderableType) -> str:
    console = Console(width=200, file=io.StringIO())
    console.print(renderable)
    return console.file.getvalue()  # type: ignore[attr-defined]


def row(text: str, first: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(f"{first} "))


def test_the_live_table() -> None:
    shown = snapshot()
    shown.page = "http://127.0.0.1:8700/"
    text = text_of(live_view(shown))
    assert "g · live · 4 s · http://127.0.0.1:8700/" in text
    assert re.search(r"find +main +cuda:0 +90 .* 3 +1 +open_circuit", row(text, "find"))
    assert "late 5, queue_full 3" in row(text, "camera.frames->find.frames")


def test_the_summary() -> None:
    shown = snapshot()
    shown.nodes["find"].error = "TIMEOUT: the server does not answer"
    text = text_of(summary_view(shown))
    assert "100 in 4.0 s = 25.0 fps" in row(text, "frames")
    assert re.search(r"p50 / p95 / p99 = 14 ms / \d+ ms / \d+ ms", row(text, "latency at find"))
    assert row(text, "dropped").split(maxsplit=1)[1].strip() == "late 5, queue_full 3"
    assert row(text, "found").split()[1:] == ["Face", "180"]
    assert "TIMEOUT: the server does not answer" in row(text, "find")


def test_milliseconds() -> None:
    fast, slow = Histogram(), Histogram()
    fast.add(1_234_000)
    slow.add(123_400_000)
    assert ms(Histogram(), 50) == "-"
    assert re.fullmatch(r"1\.\d\d ms", ms(fast, 50))
    assert re.fullmatch(r"12\d ms", ms(slow, 50))


def on_a_terminal(*arguments: str | Path, folder: Path) -> str:
    """What a command writes to a terminal, without its control sequences."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "engine.cli", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "160", "TERM": "xterm"}
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        said = b""
        while True:
            try:
                chunk = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            said += chunk
        process.wait()
    os.close(ours)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said.decode())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "shown"), [("file", r"test-pattern ━+"), ("live", r"test-pattern · live · \d+ s")]
)
def test_a_terminal_shows_progress(tmp_path: Path, mode: str, shown: str) -> None:
    size = ("--set", "bars.width=64", "--set", "bars.height=64")
    pace = ("--set", "bars.frames=20", "--set", "bars.realtime=true")
    arguments = ("run", "test-pattern", "--mode", mode, *size, *pace, "--no-page", "--out", "o")
    said = on_a_terminal(*arguments, folder=tmp_path)
    assert re.search(shown, said)
    assert "wrote   o/bars.mp4" in said
