"""Which devices a plan asks for that are not on this computer, and why."""

from __future__ import annotations

import subprocess
import sys

import msgspec

from engine.device.driver import Driver
from engine.plan import Plan

TIMEOUT_S = 60.0  # a driver that initialises many GPUs


def absent_devices(plan: Plan) -> dict[str, str]:
    """The cause by device. The driver is asked only if the plan has a GPU in it.

    Not in this process: a driver that was initialised here would be broken in what it forks.
    """
    asked = sorted({node.device for node in plan.nodes.values() if node.device != "cpu"})
    if not asked:
        return {}
    command = [sys.executable, "-m", "engine.device.driver"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return dict.fromkeys(asked, f"the driver did not answer within {TIMEOUT_S:.0f} s")
    if done.returncode:
        return dict.fromkeys(asked, done.stderr.strip() or f"exit code {done.returncode}")
    gpus = msgspec.json.decode(done.stdout, type=Driver).gpus
    there = ", ".join(f"cuda:{gpu.index} ({gpu.name})" for gpu in gpus)
    return {
        device: f"there is {there} only"
        for device in asked
        if int(device.partition(":")[2] or 0) >= len(gpus)
    }
