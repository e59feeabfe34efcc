"""Whether a package works here, tried in a process of its own: a broken one cannot take us along.

Optional GPU packages fail in many places and rarely with ImportError: at import, at first use, for
want of a driver. The last line of the traceback is the cause that `doctor` shows.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata

TIMEOUT_S = 60.0
PARALLEL = 4

CUDA = """
import ctypes
driver = ctypes.CDLL("libcuda.so.1")
def ask(name, *arguments):
    code = getattr(driver, name)(*arguments)
    if code:
        text = ctypes.c_char_p()
        driver.cuGetErrorString(code, ctypes.byref(text))
        raise RuntimeError(f"{name}: {(text.value or b'unknown error').decode()} ({code})")
ask("cuInit", 0)
count, version = ctypes.c_int(), ctypes.c_int()
ask("cuDeviceGetCount", ctypes.byref(count))
ask("cuDriverGetVersion", ctypes.byref(version))
if count.value == 0:
    raise RuntimeError("the driver is there, but it shows no device")
names = []
for index in range(count.value):
    device, name = ctypes.c_int(), ctypes.create_string_buffer(100)
    ask("cuDeviceGet", ctypes.byref(device), index)
    ask("cuDeviceGetName", name, 100, device)
    names.append(f"cuda:{index} {name.value.decode()}")
print(f"{', '.join(names)}; driver for CUDA {version.value // 1000}.{version.value % 1000 // 10}")
"""


@dataclass(frozen=True)
class Package:
    """Something to try."""

    distribution: str  # as pip calls it
    code: str  # raises where it cannot be used; may print what is worth knowing
    required: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    name: str
    version: str | None  # None: not installed
    works: bool
    note: str  # what it printed, or why it cannot be used
    required: bool = False


REQUIRED = tuple(
    Package(distribution, f"import {module}", required=True)
    for distribution, module in (
        ("ai-edge-litert", "ai_edge_litert.interpreter"),
        ("av", "av"),
        ("msgspec", "msgspec"),
        ("numpy", "numpy"),
        ("onnxruntime", "onnxruntime"),
        ("opencv-python-headless", "cv2"),
        ("prometheus-client", "prometheus_client"),
        ("PyYAML", "yaml"),
        ("pyzmq", "zmq; assert zmq.has('curve'), 'libzmq was built without CURVE'"),
        ("rich", "rich"),
        ("scipy", "scipy.optimize"),
        ("typer", "typer"),
    )
)
OPTIONAL = (
    Package("starlette", "import starlette"),
    Package("uvicorn", "import uvicorn"),
    Package("cupy-cuda13x", "import cupy; cupy.zeros(8).sum().item()"),
    Package("torch", "import torch; torch.zeros(8, device='cuda').sum().item()"),
    Package("tensorrt", "import tensorrt; tensorrt.Builder(tensorrt.Logger())"),
    Package("torch-tensorrt", "import torch_tensorrt"),
    Package("PyNvVideoCodec", "import PyNvVideoCodec"),
)


def probe(packages: Iterable[Package]) -> list[Outcome]:
    """Try all, a few at a time, in the given order."""
    with ThreadPoolExecutor(PARALLEL) as pool:
        return list(pool.map(_probe, packages))


def probe_gpu() -> Outcome:
    """Ask the CUDA driver itself, so that no library has to be there."""
    works, note = run_code(CUDA)
    return Outcome("GPU", None, works, note)


def run_code(code: str, timeout_s: float = TIMEOUT_S) -> tuple[bool, str]:
    """(whether it went through, its last line of output or of its traceback)."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False, f"gave no answer within {timeout_s:g} s"
    if done.returncode < 0:
        return False, f"crashed: killed by signal {-done.returncode}"
    said = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    return done.returncode == 0, said[-1].strip() if said else ""


def _probe(package: Package) -> Outcome:
    name = package.distribution
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Outcome(name, None, False, "not installed", package.required)
    works, note = run_code(package.code)
    return Outcome(name, version, works, note, package.required)
