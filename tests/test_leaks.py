"""The check that fails a leaking test notices each kind of leak."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.leaks import PATIENCE_S, lasting_leaks, leaks, take_inventory


def test_a_process_is_a_leak_until_it_is_reaped() -> None:
    before = take_inventory()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert [str(child.pid) in leak for leak in leaks(before)] == [True]
    finally:
        child.communicate(b"\n")
    assert lasting_leaks(before, PATIENCE_S) == []


@pytest.mark.parametrize(
    ("name", "daemon", "is_leak"),
    [("worker", False, True), ("frameloom-lane", True, True), ("library", True, False)],
)
def test_threads_that_keep_the_program_alive_or_are_ours(
    name: str, daemon: bool, is_leak: bool
) -> None:
    before, release = take_inventory(), threading.Event()
    thread = threading.Thread(target=release.wait, name=name, daemon=daemon)
    thread.start()
    try:
        assert bool(leaks(before)) == is_leak
    finally:
        release.set()
        thread.join()
    assert leaks(before) == []


def test_shared_memory_of_a_living_stranger_is_no_leak(tmp_path: Path) -> None:
    before = take_inventory(tmp_path)
    (tmp_path / f"frameloom-{os.getppid()}-1-slab").touch()
    assert leaks(before, tmp_path) == []
    (tmp_path / f"frameloom-{os.getpid()}-1-slab").touch()
    assert len(leaks(before, tmp_path)) == 1
    assert len(lasting_leaks(before, 0.0, tmp_path)) == 1
