"""Devices that are there, and every cause for which one cannot be had."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from engine.device import opening
from engine.device.driver import Driver, Gpu, ask_driver
from engine.device.opening import Devices, open_device
from engine.device.simulated import SimulatedDevice
from engine.errors import DeviceError

ONE = Driver((13, 0), (Gpu(0, "NVIDIA H200", (9, 0), 140 << 30),))


def fake_torch(*, available: bool) -> Any:
    cuda = SimpleNamespace(is_available=lambda: available, device_count=lambda: int(available))
    return SimpleNamespace(cuda=cuda, __version__="9.9", version=SimpleNamespace(cuda=None))


@pytest.fixture
def one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "ask_driver", lambda: ONE)


def test_no_driver_is_told_with_what_the_loader_said() -> None:
    with pytest.raises(DeviceError, match=r"no NVIDIA driver \(libnothing.so: cannot open"):
        ask_driver("libnothing.so")


def test_a_library_that_is_no_driver_is_told() -> None:
    with pytest.raises((DeviceError, AttributeError), match="cuInit"):
        ask_driver("libc.so.6")


def test_a_device_without_driver_is_refused_with_cause_and_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(opening, "ask_driver", lambda: ask_driver("libnothing.so"))
    with pytest.raises(DeviceError) as caught:
        open_device("cuda:0")
    told = str(caught.value)
    assert told.startswith("cuda:0 was asked for, but there is no NVIDIA driver")
    assert "`frameloom doctor`" in told
    assert "--set NODE.device=cpu" in told


def test_a_number_too_high_names_those_that_are_there(one_gpu: None) -> None:
    with pytest.raises(DeviceError, match=r"cuda:3 was asked for; there is cuda:0 \(NVIDIA H200\)"):
        open_device("cuda:3")


def test_a_gpu_without_torch_is_refused(one_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(DeviceError, match="cuda:0 was asked for, but torch cannot be imported"):
        open_device("cuda:0")


def test_a_torch_for_processors_is_told_apart_from_a_missing_gpu(
    one_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", fake_torch(available=False))
    with pytest.raises(DeviceError, match=r"has NVIDIA H200, but torch 9\.9 was built for no CUDA"):
        open_device("cuda:0")


def test_each_device_is_opened_once_and_the_processor_never() -> None:
    asked: list[str] = []

    def opened(name: str) -> SimulatedDevice:
        asked.append(name)
        return SimulatedDevice(name)

    devices = Devices(opened)
    devices.require("cpu")
    devices.require("cuda:0")
    with devices.scope("cuda:0", 0) as one, devices.scope("cuda:0", -1) as other:
        assert one.device is other.device
        assert one.stream is not other.stream
    assert asked == ["cuda:0"]


@pytest.mark.needs_cuda
def test_the_driver_names_its_gpus() -> None:
    driver = ask_driver()
    assert driver.cuda >= (12, 0)
    assert [gpu.index for gpu in driver.gpus] == list(range(len(driver.gpus)))
    assert all(gpu.memory_bytes > 1 << 30 and gpu.capability >= (7, 0) for gpu in driver.gpus)
