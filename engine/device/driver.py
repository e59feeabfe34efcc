"""The CUDA driver, asked directly: which GPUs there are, or why there are none. No library needed.

`python -m engine.device.driver` prints the answer as JSON, for those who do not want to load the
driver into their own process; without a driver it says why and ends with exit code 1.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import msgspec
from msgspec import Struct

from engine.errors import DeviceError

LIBRARY = "libcuda.so.1"
MAJOR, MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR


class Gpu(Struct, frozen=True):
    """One device as the driver knows it."""

    index: int
    name: str
    capability: tuple[int, int]  # compute capability
    memory_bytes: int


class Driver(Struct, frozen=True):
    """What the driver says."""

    cuda: tuple[int, int]  # the newest CUDA that it runs
    gpus: tuple[Gpu, ...]


def ask_driver(library: str = LIBRARY) -> Driver:
    """DeviceError with the cause: no driver, no device, or what the driver complains of."""
    try:
        driver = ctypes.CDLL(library)
    except OSError as error:
        raise DeviceError(f"there is no NVIDIA driver ({error})") from error
    _ask(driver, "cuInit", 0)
    count, version = ctypes.c_int(), ctypes.c_int()
    _ask(driver, "cuDeviceGetCount", ctypes.byref(count))
    _ask(driver, "cuDriverGetVersion", ctypes.byref(version))
    if count.value == 0:
        raise DeviceError("the NVIDIA driver is there, but it shows no device")
    gpus = tuple(_gpu(driver, index) for index in range(count.value))
    return Driver((version.value // 1000, version.value % 1000 // 10), gpus)


def share_memory(nbytes: int) -> tuple[int, bytes]:
    """(address, handle) of new memory of the current device that other processes can open.

    Not the allocator's: what is exported must begin and end by itself.
    """
    driver, address, handle = ctypes.CDLL(LIBRARY), ctypes.c_uint64(), _Handle()
    _ask(driver, "cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(nbytes))
    try:
        _ask(driver, "cuIpcGetMemHandle", ctypes.byref(handle), address)
    except DeviceError:
        _ask(driver, "cuMemFree_v2", address)
        raise
    return address.value, bytes(handle)


def free_memory(address: int) -> None:
    """Free what `share_memory` gave."""
    _ask(ctypes.CDLL(LIBRARY), "cuMemFree_v2", ctypes.c_uint64(address))


def open_memory(handle: bytes) -> int:
    """The address, in this process, of memory that another one shares."""
    address, raw = ctypes.c_uint64(), _Handle.from_buffer_copy(handle)
    lazily = ctypes.c_uint(1)  # CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS
    _ask(ctypes.CDLL(LIBRARY), "cuIpcOpenMemHandle_v2", ctypes.byref(address), raw, lazily)
    return address.value


class _Handle(ctypes.Structure):
    """CUipcMemHandle, which is passed by value."""

    _fields_ = (("reserved", ctypes.c_char * 64),)


def _gpu(driver: Any, index: int) -> Gpu:
    device, name, memory = ctypes.c_int(), ctypes.create_string_buffer(100), ctypes.c_size_t()
    _ask(driver, "cuDeviceGet", ctypes.byref(device), index)
    _ask(driver, "cuDeviceGetName", name, 100, device)
    _ask(driver, "cuDeviceTotalMem_v2", ctypes.byref(memory), device)
    parts = []
    for attribute in (MAJOR, MINOR):
        value = ctypes.c_int()
        _ask(driver, "cuDeviceGetAttribute", ctypes.byref(value), attribute, device)
        parts.append(value.value)
    return Gpu(index, name.value.decode(), (parts[0], parts[1]), memory.value)


def _ask(driver: Any, function: str, *arguments: Any) -> None:
    code = getattr(driver, function)(*arguments)
    if code:
        text = ctypes.c_char_p()
        driver.cuGetErrorString(code, ctypes.byref(text))
        said = (text.value or b"unknown error").decode()
        raise DeviceError(f"the NVIDIA driver refuses: {function}: {said} ({code})")


if __name__ == "__main__":
    try:
        print(msgspec.json.encode(ask_driver()).decode())  # noqa: T201  its answer
    except DeviceError as error:
        sys.exit(str(error))
