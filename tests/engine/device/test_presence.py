"""Which devices of a plan are not here, and what `run` and `check` say of it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.commands import check as check_module
from engine.commands import run as run_module
from engine.commands.check import check_command
from engine.commands.run import RunOptions, run_command
from engine.device import presence
from engine.device.driver import Driver, Gpu
from engine.device.presence import absent_devices
from engine.errors import DeviceError
from engine.plan import Plan
from tests.runtime.fakes import planned_node


def plan(*devices: str) -> Plan:
    nodes = {
        f"n{n}": msgspec.structs.replace(planned_node(f"n{n}", worker="main"), device=device)
        for n, device in enumerate(devices)
    }
    return Plan(
        graph="t", mode="live", latency_budget_ms=None, max_in_flight=None, nodes=nodes, edges=()
    )


def answer(
    monkeypatch: pytest.MonkeyPatch, returncode: int, stdout: str = "", stderr: str = ""
) -> None:
    done = subprocess.CompletedProcess([], returncode, stdout, stderr)
    monkeypatch.setattr(presence.subprocess, "run", lambda *_, **__: done)


def test_a_plan_without_a_gpu_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence.subprocess, "run", None)
    assert absent_devices(plan("cpu", "cpu")) == {}


def test_a_gpu_that_is_one_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver((13, 0), (Gpu(0, "H200", (9, 0), 1), Gpu(1, "T4", (7, 5), 1)))
    answer(monkeypatch, 0, msgspec.json.encode(driver).decode())
    found = absent_devices(plan("cuda:0", "cuda:1", "cuda:2", "cpu", "cuda:2"))
    assert found == {"cuda:2": "there is cuda:0 (H200), cuda:1 (T4) only"}


def test_the_drivers_own_words_are_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, 1, stderr="there is no NVIDIA driver (no file)\n")
    assert absent_devices(plan("cuda:0")) == {"cuda:0": "there is no NVIDIA driver (no file)"}
    answer(monkeypatch, -11)
    assert absent_devices(plan("cuda:0")) == {"cuda:0": "exit code -11"}


def test_a_driver_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(command: Any, **_: Any) -> Any:
        raise subprocess.TimeoutExpired(command, 1)

    monkeypatch.setattr(presence.subprocess, "run", hang)
    assert absent_devices(plan("cuda:0")) == {"cuda:0": "the driver did not answer within 60 s"}


def test_it_is_asked_for_real() -> None:
    """Whatever this computer has, there is an answer, and a cause where there is none."""
    (cause,) = absent_devices(plan("cuda:99")).values()
    assert cause.startswith("there is ")


def test_nothing_is_started_without_its_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "absent_devices", lambda _: {"cuda:0": "there is no driver"})
    with pytest.raises(DeviceError, match="cuda:0 was asked for, but there is no driver"):
        run_command("test-pattern", [], [], None, RunOptions(out_dir=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_check_says_what_is_not_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check_module, "absent_devices", lambda _: {"cuda:0": "there is no driver"})
    check_command("test-pattern", [], [], None, as_json=False)
    assert "NOT HERE: cuda:0: there is no driver" in capsys.readouterr().out
