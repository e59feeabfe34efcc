"""What a start costs when the engine is on disk: reading it, and the whole call that does.

Each network that comes along: a TensorRT-RTX plan, which is built and read without a GPU, not run
(`build_engine`), and an OpenVINO engine (`compile_module`, loaded and compared with eager). The
call exports and hashes the module to find the engine, runs eager twice to compare with, and that
stays when building is saved. One process: what imports take is not counted.

Bar: a plan is read within 20 ms, one of 17 MB too (OpenVINO's time includes its loading).
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.common import median, significant
from bench.result import Bar, at_most
from engine.device.compile import build_engine, compile_module
from engine.device.engines import EngineStore
from engine.device.networks import Network, networks
from engine.device.report import EngineKey, Machine, Report

STARTS = 4  # after the first
QUICK = "blazeface-short"
LARGE_BYTES = 17 << 20
KEY = EngineKey(
    weights="", graph="", backend="none", versions={}, device="cpu", machine=Machine("", "", ""),
    threads=1, precision="fp32", inputs=(), dynamic={},
)  # fmt: skip


def run(quick: bool) -> tuple[dict[str, float], tuple[Bar, ...]]:
    large_ms = significant(_large_ms())
    figures = {"large_plan_read_ms": large_ms}
    bars = [at_most("large_plan_read_ms", 20, large_ms)]
    for name, make in networks().items():
        if quick and name != QUICK:
            continue
        for kind, start in (("plan", _plan), ("openvino", _openvino)):
            key = f"{name.replace('-', '_')}_{kind}"
            first_s, later_s, read_s = _starts(make, start)
            figures[f"{key}_first_ms"] = significant(1e3 * first_s)
            figures[f"{key}_second_ms"] = significant(1e3 * later_s)
            figures[f"{key}_read_ms"] = significant(1e3 * read_s)
            figures[f"{key}_first_by_second"] = significant(first_s / later_s, 3)
            if kind == "plan":
                bars.append(at_most(f"{key}_read_ms", 20, significant(1e3 * read_s)))
    return figures, tuple(bars)


def _starts(
    make: Callable[[], Network], start: Callable[[Network, Path], Report]
) -> tuple[float, float, float]:
    """Seconds of the first call, of a later one, and of reading the engine in a later one."""
    calls: list[float] = []
    reads: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(1 + STARTS):
            network = make()
            begin = time.perf_counter()
            report = start(network, Path(folder))
            calls.append(time.perf_counter() - begin)
            assert report.from_cache == (number > 0)
            reads.append(report.seconds)
    return calls[0], median(calls[1:]), median(reads[1:])


def _large_ms() -> float:
    """Milliseconds to read and check an engine as large as the largest plan there was."""
    times: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        store, payload = EngineStore(Path(folder)), os.urandom(LARGE_BYTES)
        for _ in range(1 + 2 * STARTS):
            begin = time.perf_counter()
            held = store.get(KEY, "large", lambda: payload)
            times.append(1e3 * (time.perf_counter() - begin))
            held.close()
    return median(times[1:])


def _plan(network: Network, folder: Path) -> Report:
    return build_engine(
        network.module, network.example, backend="tensorrt_rtx", precision="fp16",
        dynamic=network.dynamic, device="cuda", cache=folder,
    )  # fmt: skip


def _openvino(network: Network, folder: Path) -> Report:
    compiled = compile_module(
        network.module, network.example, backend="openvino", dynamic=network.dynamic,
        cache=folder, tolerance=network.tolerance,
    )  # fmt: skip
    compiled.close()
    return compiled.report
