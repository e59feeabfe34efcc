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

# Each raises where it cannot be had, and prints what is worth knowing.
DRIVER = """
from engine.device.driver import ask_driver
driver = ask_driver()
gpus = [
    f"cuda:{gpu.index} {gpu.name}, compute capability {gpu.capability[0]}.{gpu.capability[1]},"
    f" {gpu.memory_bytes >> 30} GiB" for gpu in driver.gpus
]
print(f"{'; '.join(gpus)}; driver for CUDA {driver.cuda[0]}.{driver.cuda[1]}")
"""
DECODE = """
import ctypes
ctypes.CDLL("libnvcuvid.so.1")
from av.codec.hwaccel import hwdevices_available
ways = hwdevices_available()
assert "cuda" in ways, f"the driver decodes, but this FFmpeg knows {', '.join(ways) or 'no way'}"
print("by the driver, through FFmpeg")
"""
ENCODE = """
import ctypes
ctypes.CDLL("libnvidia-encode.so.1")
import av
wanted = ("h264_nvenc", "hevc_nvenc", "av1_nvenc")
there = [name for name in wanted if name in av.codecs_available]
assert there, "the driver encodes, but this FFmpeg was built without NVENC"
print(", ".join(there) + "; not every GPU has the unit, H100 and H200 have none")
"""
CODECS = """
import av
names = ("h264", "hevc", "vp9", "av1", "aac", "opus")
def can(name, mode):
    try:
        av.codec.Codec(name, mode)
    except Exception:
        return False
    return True
writes = [name for name in names if can(name, "w")]
print("reads " + ", ".join(n for n in names if can(n, "r")) + "; writes " + ", ".join(writes))
"""
COMPILER = """
import os, shutil, subprocess
from engine.device.backends.inductor import why_no_compiler
why_not = why_no_compiler("cpu")
assert why_not is None, why_not
named = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
done = subprocess.run([named, "--version"], capture_output=True, text=True, check=True)
print(done.stdout.splitlines()[0] + "; for the backends aot and inductor")
"""
DEVICES = (
    ("GPU", DRIVER), ("GPU decoding", DECODE), ("GPU encoding", ENCODE), ("codecs", CODECS),
    ("C++ compiler", COMPILER),
)  # fmt: skip


@dataclass(frozen=True)
class Package:
    """Something to try."""

    distribution: str  # as pip calls it
    code: str  # raises where it cannot be used; may print what is worth knowing
    required: bool = False
    where: str = ""  # what it is tried for, if it may be of use elsewhere


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    name: str
    version: str | None  # None: not installed
    works: bool
    note: str  # what it printed, or why it cannot be used
    required: bool = False
    where: str = ""


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
RTX = "import tensorrt_rtx_bindings as trt; trt.Builder(trt.Logger())"
OPTIONAL = (
    Package("starlette", "import starlette"),
    Package("uvicorn", "import uvicorn"),
    Package("onnx", "import onnx"),
    Package("onnxscript", "import onnxscript"),
    Package(
        "openvino",
        "from engine.device.backends.openvino import BACKEND as b; "
        "assert not (why := b.why_not('cpu', 'fp32')), why",
    ),
    Package("cupy-cuda13x", "import cupy; cupy.zeros(8).sum().item()"),
    Package("torch", "import torch; torch.zeros(8, device='cuda').sum().item()", where=" on a GPU"),
    Package("tensorrt", "import tensorrt; tensorrt.Builder(tensorrt.Logger())"),
    Package("torch-tensorrt", "import torch_tensorrt"),
    Package("tensorrt-rtx-cu13-libs", RTX),
    Package("tensorrt-rtx-cu13-bindings", RTX),
    Package("PyNvVideoCodec", "import PyNvVideoCodec"),
)


def probe(packages: Iterable[Package]) -> list[Outcome]:
    """Try all, a few at a time, in the given order."""
    with ThreadPoolExecutor(PARALLEL) as pool:
        return list(pool.map(_probe, packages))


def probe_gpu() -> list[Outcome]:
    """What the CUDA driver has, asked without any library, what FFmpeg can do, and a compiler."""
    with ThreadPoolExecutor(PARALLEL) as pool:
        told = list(pool.map(lambda asked: run_code(asked[1]), DEVICES))
    return [
        Outcome(name, None, works, note if works else last_words(note))
        for (name, _), (works, note) in zip(DEVICES, told, strict=True)
    ]


def last_words(trace: str) -> str:
    """What an exception said, without the name of its class."""
    kind, colon, words = trace.partition(": ")
    return words if colon and " " not in kind else trace


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
    return Outcome(name, version, works, note, package.required, package.where)
