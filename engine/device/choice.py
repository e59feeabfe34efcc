"""`auto`: the fastest of all backends that can be had and compute the same.

Measured once; the choice is kept beside the engines, under a key of its own.
"""

from __future__ import annotations

import statistics
import time

import msgspec
import torch

from engine.device.backends import NAMES, backend_named
from engine.device.backends.eager import why_no_bf16
from engine.device.compiled import Compiled
from engine.device.engines import EngineStore
from engine.device.job import Job
from engine.device.machine import machine_of
from engine.device.making import guarded, make, wanted
from engine.device.report import Candidate, Choice, EngineKey, Place, Precision
from engine.errors import CompileError

AUTO = "auto"
LEAST_RUNS, MOST_RUNS = 7, 100
MEASURE_S = 0.5  # per candidate, if that is more than LEAST_RUNS
WARM_UPS = 3


def place_of(device: str) -> Place:
    """The device and all backends that there are to choose from."""
    able: dict[str, str] = {}
    for name in NAMES:
        if backend_named(name).why_not(device, "fp32") is None:
            able |= backend_named(name).versions()
    return Place(machine_of(device), able)


def choice_key(job: Job, tolerance: float | None) -> EngineKey:
    """What a choice depends on: the job, and the place."""
    return msgspec.structs.replace(
        job.key(AUTO, place_of(job.device).versions), tolerance=tolerance
    )


def choose(job: Job, store: EngineStore, tolerance: float | None) -> Compiled:
    """The fastest candidate; measured now, or found in the cache."""
    key = choice_key(job, tolerance)
    measured: list[Compiled] = []

    def measure() -> bytes:
        choice, compiled = _measure_all(job, store, tolerance)
        measured.append(compiled)
        return msgspec.json.encode(choice)

    held = store.get(key, job.label, measure)
    choice = msgspec.json.decode(bytes(held.payload), type=Choice)
    notes = tuple(held.notes)
    held.close()
    if any(one.why_not.startswith("OUT_OF_MEMORY") for one in choice.candidates):
        store.remove(store.path_of(key))
        notes += ("memory ran out for a candidate: the next start measures again",)
    if measured:
        compiled = measured[0]
    else:
        found = job.at(choice.precision)
        compiled = make(found, wanted(choice.backend, found), store, tolerance)
        notes += ("the choice was made at an earlier start",)
    compiled.report = msgspec.structs.replace(
        compiled.report,
        candidates=choice.candidates,
        notes=tuple(dict.fromkeys((*notes, *compiled.report.notes))),
    )
    return compiled


def _measure_all(job: Job, store: EngineStore, tolerance: float | None) -> tuple[Choice, Compiled]:
    """Every candidate once; the fastest stays loaded."""
    tried: list[Candidate] = []
    best: tuple[float, Compiled] | None = None
    for name, precision in _candidates(job):
        candidate, compiled = _try(job.at(precision), name, store, tolerance)
        tried.append(candidate)
        if compiled is None or candidate.ms is None:
            continue
        if best is not None and candidate.ms >= best[0]:
            compiled.close()
            continue
        if best is not None:
            best[1].close()
        best = (candidate.ms, compiled)
    if best is None:
        causes = "; ".join(candidate.why_not for candidate in tried)
        raise CompileError("NO_BACKEND", f"{job.label} runs nowhere on {job.device}: {causes}")
    report = best[1].report
    chosen = (report.backend, report.precision)
    told = tuple(
        one
        if one.why_not or (one.backend, one.precision) == chosen
        else msgspec.structs.replace(one, why_not=f"slower than {report.backend}")
        for one in tried
    )
    return Choice(*chosen, told), best[1]


def _candidates(job: Job) -> list[tuple[str, Precision]]:
    """Each backend in the lowest precision that it has here; eager fp32 to compare speed with."""
    found: list[tuple[str, Precision]] = [("eager", "fp32")]
    for name in NAMES:
        able = backend_named(name).why_not(job.device, job.precision) is None
        if name == "eager" and why_no_bf16(job.device, job.precision):
            continue
        found.append((name, job.precision if able else "fp32"))
    return list(dict.fromkeys(found))


def _try(
    job: Job, name: str, store: EngineStore, tolerance: float | None
) -> tuple[Candidate, Compiled | None]:
    """One candidate built, compared and measured, or why it is out."""
    backend = backend_named(name)
    cause = backend.why_not(job.device, job.precision) or backend.why_not_auto(job.device)
    if cause:
        return Candidate(name, job.precision, why_not=cause), None
    try:
        compiled = make(job, backend, store, tolerance)
        ms = guarded(lambda: median_ms(compiled, job.inputs()), job, backend, "LOAD_FAILED")
    except CompileError as error:
        return Candidate(name, job.precision, why_not=str(error)), None
    report = compiled.report
    off = report.deviation.relative if report.deviation else None
    return Candidate(name, job.precision, ms, off, report.seconds), compiled


def median_ms(compiled: Compiled, inputs: tuple[torch.Tensor, ...]) -> float:
    """Milliseconds of a call: the median of at least seven, after a warm-up, with the threads that
    torch has been given.
    """
    on_gpu = inputs[0].device.type == "cuda"
    times_ns: list[int] = []
    deadline_ns = 0
    for index in range(WARM_UPS + MOST_RUNS):
        start_ns = time.perf_counter_ns()
        compiled(*inputs)
        if on_gpu:
            torch.cuda.synchronize(inputs[0].device)
        now_ns = time.perf_counter_ns()
        if index < WARM_UPS:
            deadline_ns = now_ns + int(MEASURE_S * 1e9)
            continue
        times_ns.append(now_ns - start_ns)
        if len(times_ns) >= LEAST_RUNS and now_ns > deadline_ns:
            break
    return statistics.median(times_ns) / 1e6
