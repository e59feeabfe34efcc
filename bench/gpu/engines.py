"""Every network that comes along on the GPU: eager beside every backend, in half precision.

Bar: the chosen one at least 1.5 times as fast as eager in *fp32*, each network; a part of that may
be half precision itself, see the figure of eager in fp16. Engines of this bench live in a folder of
their own, so that every build is one.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench.common import say, significant
from bench.result import Bar, at_least
from engine.device.compile import compile_module
from engine.device.networks import networks
from engine.device.report import Report
from engine.errors import CompileError

BAR = 1.5


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
                bars.append(at_least(f"{key}_over_eager_fp32", BAR, 0.0))
                continue
            told, bar = judged(key, compiled.report)
            figures |= told
            bars.append(bar)
            compiled.close()
    return figures, tuple(bars)


def judged(key: str, report: Report) -> tuple[dict[str, float], Bar]:
    """Milliseconds of all candidates; the bar is missed where eager fp32 could not be measured."""
    times: dict[tuple[str, str], float] = {}
    for one in report.candidates:
        say(f"{key}: {one.backend} {one.precision} {one.ms} ms {one.why_not}")
        if one.ms is not None:
            times[one.backend, one.precision] = one.ms
    eager, chosen = times.get(("eager", "fp32")), times[report.backend, report.precision]
    ratio = significant(eager / chosen, 3) if eager else 0.0
    figures = {f"{key}_{name}_{kind}_ms": significant(ms) for (name, kind), ms in times.items()}
    return figures, at_least(f"{key}_over_eager_fp32", BAR, ratio)
