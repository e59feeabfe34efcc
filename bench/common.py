"""Statistics, rounds and counters that every bench uses."""

from __future__ import annotations

import math
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path


def median(values: Sequence[float]) -> float:
    return float(statistics.median(values))


def quantile(values: Iterable[float], percent: float) -> float:
    """The value below which `percent` of them lie, linear between neighbours."""
    ordered = sorted(values)
    if not ordered:
        message = "no values to take a quantile of"
        raise ValueError(message)
    place = (len(ordered) - 1) * percent / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return float(ordered[low] + (ordered[high] - ordered[low]) * (place - low))


def iqr(values: Sequence[float]) -> float:
    """From the first to the third quartile: the spread that one odd round does not move."""
    return quantile(values, 75) - quantile(values, 25)


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """Round by round: what slows a whole round down slows both, and falls out."""
    return [a / b for a, b in zip(numerators, denominators, strict=True)]


def put(figures: dict[str, float], key: str, values: Sequence[float]) -> None:
    """Median and spread of the rounds as `key` and `key_iqr`."""
    figures[key] = significant(median(values))
    figures[f"{key}_iqr"] = significant(iqr(values))


def significant(value: float, digits: int = 4) -> float:
    return float(f"{value:.{digits}g}")


def interleave(
    cases: Mapping[str, Callable[[], float]],
    rounds: int,
    *,
    warm_up: int = 1,
    budget_s: float = math.inf,
) -> dict[str, list[float]]:
    """Run all cases in turn, `rounds` times over, every second time backwards.

    A machine that grows slower while the bench runs then hits all cases alike. The first `warm_up`
    passes are not counted. No round begins when `budget_s` is used up, but one is always made.
    """
    measured: dict[str, list[float]] = {name: [] for name in cases}
    begin = time.monotonic()
    for turn in range(warm_up + rounds):
        if turn > warm_up and time.monotonic() - begin > budget_s:
            say(f"no time for more than {turn - warm_up} of {rounds} rounds")
            break
        order = list(cases) if turn % 2 == 0 else list(cases)[::-1]
        for name in order:
            value = cases[name]()
            if turn >= warm_up:
                measured[name].append(value)
    return measured


class Neighbours:
    """How much of the machine others use meanwhile: their CPU time by the time that passed."""

    def __init__(self) -> None:
        self._begin = time.monotonic()
        self._busy_s = _others_busy_s()

    def cores(self) -> float:
        """Cores kept busy by others since this was made, once our own children have ended."""
        passed = time.monotonic() - self._begin
        return max(0.0, (_others_busy_s() - self._busy_s) / passed)


def _others_busy_s() -> float:
    """CPU seconds of the whole machine (user, nice, system, interrupts, stolen) less our own."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(field) for field in fields)
    busy_s = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    own = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return busy_s - sum(usage.ru_utime + usage.ru_stime for usage in own)


def say(text: str) -> None:
    """Progress goes to stderr: stdout belongs to the result."""
    print(text, file=sys.stderr, flush=True)


class Deadline:
    """A moment after which waiting has failed."""

    def __init__(self, seconds: float, what: str) -> None:
        self._end = time.monotonic() + seconds
        self._what = what

    def poll(self, step_s: float = 0.02) -> None:
        """Sleep a little; raise TimeoutError when the moment has come."""
        if time.monotonic() > self._end:
            raise TimeoutError(self._what)
        time.sleep(step_s)


def shm_entries() -> int:
    """How many files lie in shared memory."""
    folder = Path("/dev/shm")
    return len(os.listdir(folder)) if folder.exists() else 0  # noqa: PTH208  names are enough
