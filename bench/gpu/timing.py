"""Time on the device: between two events of a stream, the median of many."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch

WARM_UP = 5


def device_ms(work: Callable[[], Any], rounds: int = 50) -> float:
    """Milliseconds that `work`, given to the current stream, takes there: the median."""
    for _ in range(WARM_UP):
        work()
    pairs = []
    for _ in range(rounds):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        work()
        end.record()
        pairs.append((begin, end))
    torch.cuda.synchronize()
    return statistics.median(begin.elapsed_time(end) for begin, end in pairs)


def gigabytes_per_second(nbytes: int, milliseconds: float) -> float:
    return nbytes / milliseconds / 1e6


def copy_bandwidth(nbytes: int = 1 << 28) -> float:
    """GB/s of a copy within the device, bytes read and bytes written both counted."""
    source = torch.zeros(nbytes, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return gigabytes_per_second(2 * nbytes, device_ms(lambda: target.copy_(source)))
