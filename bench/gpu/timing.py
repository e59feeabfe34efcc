"""Time on the device: between two events of a stream, the median of many. And who waits for it."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

WARM_UP = 5
# What blocks the host until a stream or the device has done all it was given.
BLOCKING = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaCtxSynchronize", "cudaMemcpy")


class Waits(NamedTuple):
    """How often the host waited for the device."""

    blocking: int  # for all that a stream or the device was given
    events: int  # for one point in a stream: a copy that is done


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


def host_waits(work: Callable[[], Any]) -> Waits:
    """What the profiler saw while `work` ran, less what it causes itself."""
    idle, busy = _calls(lambda: None), _calls(work)
    busy.subtract(idle)
    return Waits(sum(busy[name] for name in BLOCKING), busy["cudaEventSynchronize"])


def _calls(work: Callable[[], Any]) -> Counter[str]:
    """Calls of the CUDA runtime by name."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        work()
    return Counter({event.key: event.count for event in seen.key_averages()})
