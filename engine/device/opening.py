"""Devices by name, each opened once per process; a device that cannot be had is a `DeviceError`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from engine.device.driver import ask_driver
from engine.device.interface import Device
from engine.device.scope import DeviceScope
from engine.device.streams import StreamPool
from engine.errors import DeviceError


def open_device(name: str) -> Device:
    """`cuda:N`, or DeviceError with the cause that was found. Never another one instead."""
    index = int(name.partition(":")[2] or 0)
    remedy = "`frameloom doctor` says more; `--set NODE.device=cpu` runs it on the CPU"
    try:
        gpus = ask_driver().gpus
    except DeviceError as error:
        raise DeviceError(f"{name} was asked for, but {error}. {remedy}") from error
    if index >= len(gpus):
        there = ", ".join(f"cuda:{gpu.index} ({gpu.name})" for gpu in gpus)
        raise DeviceError(f"{name} was asked for; there is {there}. {remedy}")
    try:
        import torch
    except ImportError as error:
        message = f"{name} was asked for, but torch cannot be imported: {error}. {remedy}"
        raise DeviceError(message) from error
    if not torch.cuda.is_available():
        built = torch.version.cuda or "no CUDA at all"
        raise DeviceError(
            f"{name} was asked for and the driver has {gpus[index].name}, but torch"
            f" {torch.__version__} was built for {built} and does not see it. {remedy}"
        )
    from engine.device.cuda import CudaDevice

    return CudaDevice(index)


class Devices:
    """The devices of one process, and the streams on each. `open_one` may open simulated ones."""

    def __init__(self, open_one: Callable[[str], Device] = open_device) -> None:
        self._open = open_one
        self._pools: dict[str, tuple[Device, StreamPool]] = {}
        self._lock = threading.Lock()

    def require(self, name: str) -> None:
        """DeviceError unless it can be had. Opens it."""
        if name != "cpu":
            self._pool(name)

    def device(self, name: str) -> Device:
        """DeviceError unless it can be had."""
        return self._pool(name)[0]

    @contextmanager
    def scope(self, name: str, priority: int) -> Iterator[DeviceScope]:
        """A node's stream on a device, until the block ends."""
        device, pool = self._pool(name)
        with pool.lend(priority) as stream:
            yield DeviceScope(device, stream)

    def _pool(self, name: str) -> tuple[Device, StreamPool]:
        with self._lock:
            if name not in self._pools:
                device = self._open(name)
                self._pools[name] = device, StreamPool(device)
            return self._pools[name]
