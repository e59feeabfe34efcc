"""Every network that comes along on the GPU: eager beside every backend, in half precision.

Bar: the chosen one at least 1.5 times as fast as eager fp32, each network. Engines of this bench
live in a folder of their own, so that every build is one.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench.common import say, significant
from bench.result import Bar, at_least
from engine.device.compile import compile_module
from engine.device.networks import networks
from engine.errors import CompileError


def run() -> tuple[dict[str, float], tuple[Bar, ...]]:
    figures: dict[str, float] = {}
    bars: list[Bar] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, make in networks().items():
            network, key = make(), name.replace("-", "_")
            precision = "fp16" if "fp16" in network.precisions else network.precisions[0]
            try:
                compiled = compile_module(
                    network.module,
                    network.example,
                    precision=precision,
                    dynamic=network.dynamic,
                    device="cuda:0",
                    cache=Path(folder),
                    tolerance=network.tolerance,
                )
            except CompileError as error:
                say(f"{name}: {error}")
                bars.append(at_least(f"{key}_speedup", 1.5, 0.0))
                continue
            report = compiled.report
            times = {}
            for one in report.candidates:
                say(f"{name}: {one.backend} {one.precision} {one.ms} ms {one.why_not}")
                if one.ms is not None:
                    times[one.backend, one.precision] = one.ms
                    figures[f"{key}_{one.backend}_{one.precision}_ms"] = significant(one.ms)
            chosen, eager = times[report.backend, report.precision], times["eager", "fp32"]
            bars.append(at_least(f"{key}_speedup", 1.5, significant(eager / chosen, 3)))
            compiled.close()
    return figures, tuple(bars)
