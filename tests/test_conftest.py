"""The rules that every test runs under, tried on a small suite on a machine without a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = """
import random, threading
import pytest
from tests import leaks

leaks.PATIENCE_S = 0.0
STATE = random.getstate()

@pytest.mark.needs_cuda
def test_on_a_device():
    pass

def test_seeding():
    random.seed(7)

def test_after_seeding():
    assert random.getstate() == STATE

def test_leaving_a_thread():
    threading.Thread(target=threading.Event().wait, daemon=True, name="frameloom-x").start()
"""


def outcomes(folder: Path, require_cuda: str) -> dict[str, str]:
    """The outcome of each test of the suite."""
    file = folder / "test_suite.py"
    file.write_text(SUITE)
    environment = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "",
        "FRAMELOOM_REQUIRE_CUDA": require_cuda,
    }
    root = Path(__file__).parent.parent
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-rA", "-q"]
    arguments = ["-c", str(root / "pyproject.toml"), "--rootdir", str(folder), str(file)]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", *arguments],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    found: dict[str, str] = {}
    for line in done.stdout.splitlines():
        outcome, _, rest = line.partition(" ")
        if outcome in ("PASSED", "FAILED", "ERROR"):
            name = rest.partition("::")[2].partition(" ")[0]
            found[name] = "ERROR" if "ERROR" in (outcome, found.get(name)) else outcome
        elif outcome == "SKIPPED":
            found["skipped"] = rest
    return found


@pytest.mark.slow
def test_without_a_gpu_cuda_tests_are_skipped_and_leaks_are_errors(tmp_path: Path) -> None:
    found = outcomes(tmp_path, require_cuda="0")
    assert "needs a CUDA device" in found.pop("skipped")
    assert found == {
        "test_seeding": "PASSED",
        "test_after_seeding": "PASSED",
        "test_leaving_a_thread": "ERROR",
    }


@pytest.mark.slow
def test_where_cuda_is_required_its_tests_cannot_be_skipped(tmp_path: Path) -> None:
    found = outcomes(tmp_path, require_cuda="1")
    assert found["test_on_a_device"] == "ERROR"
    assert "skipped" not in found
