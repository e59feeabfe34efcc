"""How often the host waits for the device while an operator works, as the profiler sees it.

Bars: nobody waits for all that a stream or the device was given. What makes records of a network's
output waits for one event a frame, the copy of a few kilobytes that it asked for; what only draws
waits for none. The frames lie on the device before.
"""

from __future__ import annotations

from typing import Any

from bench.gpu.operators import cases, frame_on, given, open_on
from bench.gpu.timing import host_waits
from bench.result import Bar, exactly
from engine.contract import Operator
from engine.device.opening import Devices
from engine.device.scope import DeviceScope
from engine.device.staging import StagingRing

WARM_UP, ROUNDS = 5, 20
EVENTS = {"face_detect": 1, "face_encode": 1, "overlay": 0, "mark": 0}  # waited for, per frame


def run() -> tuple[dict[str, float], tuple[Bar, ...]]:
    bars: list[Bar] = []
    devices, operators = Devices(), cases()
    for name, wanted in EVENTS.items():
        with devices.scope("cuda:0", 0) as scope:
            waits = host_waits(_prepared(operators[name], scope))
        bars.append(exactly(f"{name}_blocking_waits", 0, waits.blocking / ROUNDS))
        bars.append(exactly(f"{name}_event_waits", wanted, waits.events / ROUNDS))
    return {bar.key: bar.got for bar in bars}, tuple(bars)


def _prepared(operator: Operator[Any], scope: DeviceScope) -> Any:
    """What processes the frames, warm."""
    open_on(operator, scope)
    ring = StagingRing(scope.device)
    frames = [frame_on(seq, operator, ring, scope) for seq in range(WARM_UP + ROUNDS)]

    def process(frames: list[Any]) -> None:
        for one in frames:
            scope.call(lambda one=one: operator.process(given(operator, one)), [one])

    process(frames[:WARM_UP])
    scope.device.synchronize()
    return lambda: process(frames[WARM_UP:])
