"""One call from a torch module to the fastest engine that still computes the same.

`backend="auto"` builds every backend that can be had, compares each with eager fp32, measures those
that pass, and keeps the choice beside the engines: the next start reads it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import torch
from torch import nn
from torch.utils import _pytree as pytree

from engine.device.accuracy import sizes_to_check, worst_deviation
from engine.device.backends import NAMES, backend_named
from engine.device.backends.eager import why_no_bf16
from engine.device.backends.protocol import Backend, Run
from engine.device.compiled import Compiled
from engine.device.engines import EngineStore, Held, digest_of
from engine.device.job import Job, describe
from engine.device.machine import machine_of, why_no_cuda
from engine.device.report import TOLERANCES, Candidate, Deviation, Precision, Report
from engine.errors import CompileError

AUTO = "auto"
LEAST_RUNS, MOST_RUNS = 7, 100
MEASURE_S = 0.5  # per candidate, if that is more than LEAST_RUNS
WARM_UPS = 3
FP16_NOTE = "fp16 was asked for; processors compute it in software, so this is bf16"
Result = TypeVar("Result")


class Choice(msgspec.Struct, frozen=True):
    """What `auto` found; kept as a file of its own."""

    backend: str
    precision: Precision
    candidates: tuple[Candidate, ...]


def compile_module(  # noqa: PLR0913  one parameter per decision
    module: nn.Module,
    example: torch.Tensor | Sequence[torch.Tensor],
    *,
    precision: Precision = "fp32",
    dynamic: Mapping[str, Mapping[int, tuple[int, int]]] | None = None,
    backend: str = AUTO,
    device: str = "cpu",
    cache: Path | None = None,
    tolerance: float | None = None,
) -> Compiled:
    """An engine for a module, from the cache if it was built before.

    Args:
        module: is copied, not changed; all its outputs are tensors, in any nesting.
        example: the inputs of `forward`, of typical sizes and values: speed and deviation are
            measured on them. Sizes are fixed but for those in `dynamic`.
        precision: the lowest that is allowed inside. `auto` may also take fp32 where that is
            faster or all that a backend can; a named backend computes in exactly this one.
            On processors fp16 means bf16, and the report says so.
        dynamic: by input's name and dimension the least and the most size.
        backend: `auto`, or one of `engine.device.backends.NAMES`.
        device: `cpu`, `cuda` or `cuda:N`.
        cache: folder of engines; None: see `engine.device.engines.default_folder`.
        tolerance: relative, see `TOLERANCES`; None takes the precision's.

    Raises CompileError (a DeviceError): nothing ever runs on another device or backend instead.
    """
    store = EngineStore(cache)
    _require_device(device)
    job, notes = _job(module, example, precision, dynamic, device)
    if backend == AUTO:
        compiled = _choose(job, store, tolerance)
    else:
        compiled = _make(job, _wanted(backend, job), store, tolerance)
    compiled.report = msgspec.structs.replace(
        compiled.report,
        asked_backend=backend,
        asked_precision=precision,
        notes=(*notes, *compiled.report.notes),
    )
    return compiled


def build_engine(  # noqa: PLR0913  as above
    module: nn.Module,
    example: torch.Tensor | Sequence[torch.Tensor],
    *,
    backend: str,
    precision: Precision = "fp32",
    dynamic: Mapping[str, Mapping[int, tuple[int, int]]] | None = None,
    device: str = "cpu",
    cache: Path | None = None,
) -> Report:
    """Build an engine into the cache without running it; its report has no deviation.

    TensorRT-RTX builds for `cuda` on a machine without a GPU, too.
    """
    job, notes = _job(module, example, precision, dynamic, device)
    chosen = backend_named(backend)
    if chosen.needs_device:
        _require_device(device)
    held = _obtain(job, _wanted(backend, job), EngineStore(cache))
    held.close()
    report = _report(job, chosen, held, None, TOLERANCES[job.precision])
    return msgspec.structs.replace(report, asked_precision=precision, notes=(*notes, *report.notes))


def _job(
    module: nn.Module,
    example: torch.Tensor | Sequence[torch.Tensor],
    precision: Precision,
    dynamic: Mapping[str, Mapping[int, tuple[int, int]]] | None,
    device: str,
) -> tuple[Job, tuple[str, ...]]:
    """The job, and what changed about it."""
    if precision not in TOLERANCES:
        known = ", ".join(TOLERANCES)
        raise CompileError("BAD_INPUT", f"there is no precision '{precision}', only {known}")
    if device == "cpu" and precision == "fp16":
        return Job(module, example, "bf16", dynamic, device), (FP16_NOTE,)
    return Job(module, example, precision, dynamic, device), ()


def _require_device(device: str) -> None:
    kind, colon, index = device.partition(":")
    if kind not in {"cpu", "cuda"} or (colon and (kind == "cpu" or not index.isdecimal())):
        raise CompileError("NO_DEVICE", f"there is no device '{device}': cpu, cuda or cuda:N")
    if kind == "cpu":
        return
    cause = why_no_cuda()
    if cause is None and int(index or 0) >= torch.cuda.device_count():
        cause = f"there are {torch.cuda.device_count()} GPUs"
    if cause:
        message = f"{device} cannot be had: {cause}; `frameloom doctor` tells more"
        raise CompileError("NO_DEVICE", message)


def _wanted(name: str, job: Job) -> Backend:
    backend = backend_named(name)
    cause = backend.why_not(job.device, job.precision)
    if cause:
        message = f"{name} cannot be had for {job.precision} on {job.device}: {cause}"
        raise CompileError("NO_BACKEND", message)
    return backend


def _choose(job: Job, store: EngineStore, tolerance: float | None) -> Compiled:
    """The fastest candidate; measured now, or found in the cache."""
    able: dict[str, str] = {}
    for name in NAMES:
        if backend_named(name).why_not(job.device, "fp32") is None:
            able |= backend_named(name).versions()
    key = job.key(AUTO, able)
    measured: list[Compiled] = []

    def measure() -> bytes:
        choice, compiled = _measure_all(job, store, tolerance)
        measured.append(compiled)
        return msgspec.json.encode(choice)

    held = store.get(key, job.label, measure)
    choice = msgspec.json.decode(bytes(held.payload), type=Choice)
    notes = tuple(held.notes)
    held.close()
    if measured:
        compiled = measured[0]
    else:
        found = job.at(choice.precision)
        compiled = _make(found, _wanted(choice.backend, found), store, tolerance)
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
        compiled = _make(job, backend, store, tolerance)
        ms = _guarded(lambda: median_ms(compiled, job.inputs()), job, backend, "LOAD_FAILED")
    except CompileError as error:
        return Candidate(name, job.precision, why_not=str(error)), None
    report = compiled.report
    off = report.deviation.relative if report.deviation else None
    return Candidate(name, job.precision, ms, off, report.seconds), compiled


def _make(job: Job, backend: Backend, store: EngineStore, tolerance: float | None) -> Compiled:
    """Built or read, loaded, and compared with eager fp32."""
    held = _obtain(job, backend, store)
    start = time.perf_counter()
    allowed = TOLERANCES[job.precision] if tolerance is None else tolerance
    what = f"{job.label} by {backend.name} in {job.precision}"
    try:
        run = _guarded(lambda: backend.load(held.payload, job), job, backend, "LOAD_FAILED")
        held.seconds += time.perf_counter() - start
        held.payload = b""

        def compare() -> tuple[Deviation, Any, Sequence[torch.Tensor]]:
            return _compare(job, run, allowed, what)

        worst, reference, found = _guarded(compare, job, backend, "LOAD_FAILED")
    except CompileError:
        held.close()
        raise
    _, structure = pytree.tree_flatten(reference)
    compiled = Compiled(job, run, structure, held.close)
    report = _report(job, backend, held, worst, allowed)
    outputs = tuple(describe(y) for y in found)
    compiled.report = msgspec.structs.replace(report, outputs=outputs)
    return compiled


def _compare(
    job: Job, run: Run, allowed: float, what: str
) -> tuple[Deviation, Any, Sequence[torch.Tensor]]:
    """The worst deviation at all sizes; what eager and the engine give for the example."""
    found: list[tuple[Deviation, Any, Sequence[torch.Tensor]]] = []
    for inputs in sizes_to_check(job):
        reference = job.reference(inputs)
        with torch.inference_mode():
            outputs = run(inputs)
        found.append((worst_deviation(reference, outputs, allowed, what), reference, outputs))
    worst = max((deviation for deviation, _, _ in found), key=lambda one: one.relative)
    return worst, *found[0][1:]


def _obtain(job: Job, backend: Backend, store: EngineStore) -> Held:
    """The engine's bytes, from the cache or built."""
    if not backend.keeps:
        return Held(b"", False, 0.0)
    key = job.key(backend.name, backend.versions())

    def build() -> bytes:
        return _guarded(lambda: backend.build(job), job, backend, "BUILD_FAILED")

    return store.get(key, job.label, build)


def _guarded(action: Callable[[], Result], job: Job, backend: Backend, code: str) -> Result:
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


def _report(
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
