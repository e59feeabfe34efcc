"""What `doctor` makes of packages that work, are missing, raise, crash or hang."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.commands import doctor
from engine.commands.console import EXIT_FAILED, EXIT_OK
from engine.commands.doctor import Finding, doctor_command, judge
from engine.commands.probes import Outcome, Package, probe, probe_gpu, run_code


def outcome(code: str, distribution: str = "numpy", *, required: bool = False) -> Outcome:
    (found,) = probe([Package(distribution, code, required)])
    return found


def test_a_package_that_works() -> None:
    found = outcome("import sys")
    assert found.works
    assert found.version
    assert judge(found) == Finding("numpy", "ok", found.version)


def test_a_package_that_is_missing() -> None:
    found = outcome("import nothing_like_it", "nothing-like-it")
    assert judge(found) == Finding("nothing-like-it", "missing", "not installed")
    required = outcome("import nothing_like_it", "nothing-like-it", required=True)
    assert judge(required).verdict == "broken"


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("raise RuntimeError('no driver')", "RuntimeError: no driver"),
        ("raise Exception('bare')", "Exception: bare"),
        ("assert False, 'bridge'", "AssertionError: bridge"),
        ("import ctypes; ctypes.string_at(0)", "crashed: killed by signal 11"),
    ],
)
def test_the_exact_cause_is_kept(code: str, cause: str) -> None:
    found = outcome(code)
    assert (found.works, found.note) == (False, cause)
    finding = judge(found)
    assert finding.verdict == "missing"
    assert finding.note.endswith(f"cannot be used: {cause}")


def test_one_that_hangs_is_given_up() -> None:
    assert run_code("import time; time.sleep(60)", 0.2) == (False, "gave no answer within 0.2 s")


def test_the_gpu_is_there_or_there_is_a_reason() -> None:
    assert probe_gpu().note


def test_something_required_that_is_broken_is_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "OPTIONAL", (Package("torch", "raise SystemError"),))
    monkeypatch.setattr(doctor, "REQUIRED", (Package("numpy", "import numpy", required=True),))
    assert doctor_command(as_json=True) == EXIT_OK
    monkeypatch.setattr(doctor, "REQUIRED", (Package("numpy", "raise ImportError", required=True),))
    assert doctor_command(as_json=False) == EXIT_FAILED
    assert "BROKEN" in capsys.readouterr().out


def test_little_shared_memory_is_told_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(doctor, "SHM_WANTED_BYTES", 1 << 60)
    memory, _ = doctor._shared_memory(tmp_path)
    assert memory.verdict == "missing"
    assert "--shm-size" in memory.note
    (gone,) = doctor._shared_memory(tmp_path / "gone")
    assert "copied through sockets" in gone.note
