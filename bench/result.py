"""What a bench hands over: figures and bars, the machine they were taken on, one JSON object."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import msgspec
from msgspec import Struct, field

from engine.device.driver import ask_driver
from engine.errors import DeviceError

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results"
LIBRARIES = (
    "av",
    "ai-edge-litert",
    "imagezmq",
    "msgspec",
    "numpy",
    "onnxruntime",
    "opencv-python-headless",
    "pyzmq",
    "torch",
)


class Bar(Struct, frozen=True, forbid_unknown_fields=True):
    """One acceptance line: what was wanted, what came."""

    key: str
    want: str  # a comparison and a number: ">= 1.5"
    got: float
    ok: bool


class Machine(Struct, frozen=True, forbid_unknown_fields=True):
    """Where and with what the figures were taken."""

    cpu: str
    cores: int  # those this process may use
    memory_gib: float
    l3_mib: float  # as the machine says; 0 where it does not
    kernel: str
    python: str
    load_1m: float  # load average when the bench began
    others_cores: float  # cores that other programs kept busy while it ran: 0 on a quiet machine
    libraries: dict[str, str]
    gpu: str = ""  # the driver's name of the first; empty where there is none


class Result(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything one bench has to say. A key's unit is its suffix; `_iqr` is its spread."""

    name: str
    machine: Machine
    commit: str
    figures: dict[str, float]
    bars: tuple[Bar, ...] = field(default_factory=tuple)

    @property
    def ok(self) -> bool:
        return all(bar.ok for bar in self.bars)


def at_least(key: str, bound: float, got: float) -> Bar:
    return Bar(key, f">= {bound:g}", got, got >= bound)


def at_most(key: str, bound: float, got: float) -> Bar:
    return Bar(key, f"<= {bound:g}", got, got <= bound)


def exactly(key: str, value: float, got: float) -> Bar:
    return Bar(key, f"== {value:g}", got, got == value)


def machine_facts(load_1m: float, others_cores: float) -> Machine:
    """The machine; the two loads were taken before and while the bench ran."""
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    return Machine(
        cpu=_cpu_model(Path("/proc/cpuinfo")),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(os.sysconf("SC_PHYS_PAGES") * page_bytes / 2**30, 1),
        l3_mib=l3_bytes() / 2**20,
        kernel=platform.release(),
        python=platform.python_version(),
        load_1m=round(load_1m, 2),
        others_cores=round(others_cores, 2),
        libraries=_versions(LIBRARIES),
        gpu=_gpu(),
    )


def _gpu() -> str:
    try:
        return ask_driver().gpus[0].name
    except DeviceError:
        return ""


def l3_bytes(cpu: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> int:
    """The size of the largest cache; 0 where the system does not say."""
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    sizes = [size.read_text().strip() for size in cpu.glob("index*/size")]
    return max((int(text[:-1]) * units[text[-1]] for text in sizes if text), default=0)


def _cpu_model(cpuinfo: Path) -> str:
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _versions(names: Iterable[str]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def commit_id(root: Path = ROOT) -> str:
    """The short hash of the checkout, with `+` when tracked files differ from it."""
    try:
        head = _git(root, "rev-parse", "--short", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+" if changed else "")


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def encode(result: Result) -> bytes:
    return msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n"


def decode(payload: bytes) -> Result:
    """The result, validated: unknown or missing fields are refused."""
    return msgspec.json.decode(payload, type=Result)
