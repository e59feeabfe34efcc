"""What this computer is, as far as an engine depends on it."""

from __future__ import annotations

import hashlib
import platform
import re
from functools import cache
from pathlib import Path

from engine.device.driver import ask_driver
from engine.device.report import Machine
from engine.errors import DeviceError

CPU_INFO = Path("/proc/cpuinfo")
DRIVER_INFO = Path("/proc/driver/nvidia/version")
NO_GPU = Machine("no GPU", "", "")  # plans that are made without one
BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # x86, x86, ARM


def machine_of(device: str) -> Machine:
    """The processor for `cpu`; for `cuda[:N]` that GPU, or NO_GPU."""
    if device == "cpu":
        flags = " ".join(sorted(cpu_flags()))
        return Machine(_cpu_name(), hashlib.sha256(flags.encode()).hexdigest()[:16], "")
    import torch

    if not torch.cuda.is_available():
        return NO_GPU
    properties = torch.cuda.get_device_properties(device)
    return Machine(properties.name, f"{properties.major}.{properties.minor}", driver_version())


def why_no_cuda() -> str | None:
    """The cause why no GPU can be used, or None."""
    import torch

    if torch.cuda.is_available():
        return None
    try:
        ask_driver()
    except DeviceError as error:
        return str(error)
    if torch.version.cuda is None:
        return f"this torch ({torch.__version__}) is made for processors only"
    return f"torch {torch.__version__} finds no GPU that it can use"


def driver_version() -> str:
    """As the kernel module says it, else the CUDA version that the driver knows."""
    if DRIVER_INFO.is_file():
        found = re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", DRIVER_INFO.read_text())
        if found:
            return found[1]
    major, minor = ask_driver().cuda
    return f"CUDA {major}.{minor}"


def has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 itself; elsewhere it is slower than fp32."""
    return not BF16_FLAGS.isdisjoint(cpu_flags())


@cache
def cpu_flags() -> frozenset[str]:
    """What the first core can do; empty where the system does not tell."""
    return frozenset(_first_line(r"(?:flags|Features)").split())


@cache
def _cpu_name() -> str:
    return _first_line("model name") or platform.processor() or platform.machine()


def _first_line(title: str) -> str:
    if not CPU_INFO.is_file():
        return ""
    found = re.search(rf"^{title}\s*:\s*(.+)$", CPU_INFO.read_text(), re.MULTILINE)
    return found[1] if found else ""
