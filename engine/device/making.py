"""One backend's engine for one job: built or read, loaded, compared with eager fp32."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
import torch
from torch.utils import _pytree as pytree

from engine.device.accuracy import sizes_to_check, steady_reference, worst_deviation
from engine.device.backends import backend_named
from engine.device.backends.protocol import Backend, Run
from engine.device.compiled import Compiled
from engine.device.engines import EngineStore, Held, digest_of
from engine.device.job import Job, describe
from engine.device.machine import machine_of
from engine.device.report import TOLERANCES, Deviation, Report
from engine.errors import CompileError

Result = TypeVar("Result")


def wanted(name: str, job: Job) -> Backend:
    backend = backend_named(name)
    cause = backend.why_not(job.device, job.precision)
    if cause:
        message = f"{name} cannot be had for {job.precision} on {job.device}: {cause}"
        raise CompileError("NO_BACKEND", message)
    return backend


def make(job: Job, backend: Backend, store: EngineStore, tolerance: float | None) -> Compiled:
    """Built or read, loaded, and compared with eager fp32."""
    held = obtain(job, backend, store)
    allowed = TOLERANCES[job.precision] if tolerance is None else tolerance
    what = f"{job.label} by {backend.name} in {job.precision}"
    try:
        reference = guarded(lambda: steady_reference(job), job, backend, "LOAD_FAILED")
        start = time.perf_counter()
        run = guarded(lambda: backend.load(held.payload, job), job, backend, "LOAD_FAILED")
        held.seconds += time.perf_counter() - start
        held.payload = b""

        def compare() -> tuple[Deviation, Sequence[torch.Tensor]]:
            return _compare(job, run, reference, allowed, what)

        worst, found = guarded(compare, job, backend, "LOAD_FAILED")
    except CompileError:
        held.close()
        raise
    _, structure = pytree.tree_flatten(reference)
    compiled = Compiled(job, run, structure, held.close)
    report = report_on(job, backend, held, worst, allowed)
    outputs = tuple(describe(y) for y in found)
    compiled.report = msgspec.structs.replace(report, outputs=outputs)
    return compiled


def obtain(job: Job, backend: Backend, store: EngineStore) -> Held:
    """The engine's bytes, from the cache or built."""
    if not backend.keeps:
        return Held(b"", False, 0.0)
    key = job.key(backend.name, backend.versions())

    def build() -> bytes:
        return guarded(lambda: backend.build(job), job, backend, "BUILD_FAILED")

    return store.get(key, job.label, build)


def report_on(
    job: Job, backend: Backend, held: Held, deviation: Deviation | None, tolerance: float
) -> Report:
    versions = dict(backend.versions())
    return Report(
        label=job.label,
        backend=backend.name,
        precision=job.precision,
        asked_backend=backend.name,
        asked_precision=job.precision,
        device=job.device,
        machine=machine_of(job.device),
        threads=job.threads,
        inputs=job.shapes(),
        outputs=(),
        dynamic=job.dynamic,
        versions=versions,
        seconds=held.seconds,
        from_cache=held.from_cache,
        key=digest_of(job.key(backend.name, versions)) if backend.keeps else "",
        deviation=deviation,
        tolerance=tolerance,
        notes=tuple(held.notes),
    )


def guarded(action: Callable[[], Result], job: Job, backend: Backend, code: str) -> Result:
    """Whatever a library raises becomes a CompileError that says what happened and what to do."""
    what = f"{job.label} by {backend.name} in {job.precision} on {job.device}"
    try:
        return action()
    except CompileError:
        raise
    except Exception as error:
        text = (str(error) or type(error).__name__).strip().splitlines()[0]
        if (
            isinstance(error, MemoryError | torch.OutOfMemoryError)
            or "out of memory" in text.lower()
        ):
            message = f"{what}: {text}; free memory on the device, or take a smaller example"
            raise CompileError("OUT_OF_MEMORY", message) from error
        raise CompileError(code, f"{what}: {text}; another backend may do") from error


def _compare(
    job: Job, run: Run, reference: Any, allowed: float, what: str
) -> tuple[Deviation, Sequence[torch.Tensor]]:
    """The worst deviation at all sizes; what the engine gives for the example, of which `reference`
    is eager's answer.
    """
    found: list[tuple[Deviation, Sequence[torch.Tensor]]] = []
    for inputs in sizes_to_check(job):
        wanted = job.reference(inputs) if found else reference
        with torch.inference_mode():
            outputs = run(inputs)
        found.append((worst_deviation(wanted, outputs, allowed, what), outputs))
    worst = max((deviation for deviation, _ in found), key=lambda one: one.relative)
    return worst, found[0][1]
