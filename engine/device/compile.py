"""One call from a torch module to the fastest engine that still computes the same.

`backend="auto"` builds every backend that can be had, compares each with eager fp32, measures those
that pass, and keeps the choice beside the engines: the next start reads it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import torch
from torch import nn

from engine.device.accuracy import steady_reference
from engine.device.backends import backend_named
from engine.device.choice import AUTO, choice_key, choose
from engine.device.compiled import Compiled
from engine.device.engines import EngineStore
from engine.device.job import Job
from engine.device.machine import why_no_cuda
from engine.device.making import make, obtain, report_on, wanted
from engine.device.report import TOLERANCES, Precision, Report
from engine.errors import CompileError

FP16_NOTE = "fp16 was asked for; processors compute it in software, so this is bf16"


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
    _require_tolerance(tolerance)
    job, notes = _job(module, example, precision, dynamic, device)
    if backend == AUTO:
        compiled = choose(job, store, tolerance)
    else:
        compiled = make(job, wanted(backend, job), store, tolerance)
    return _told(compiled, backend, precision, notes)


def compile_chosen(  # noqa: PLR0913  as above
    module: nn.Module,
    example: torch.Tensor | Sequence[torch.Tensor],
    *,
    precision: Precision = "fp32",
    dynamic: Mapping[str, Mapping[int, tuple[int, int]]] | None = None,
    device: str = "cpu",
    tolerance: float | None = None,
    cache: Path | None = None,
) -> Compiled | None:
    """What `auto` chose for this module here before: on this processor with as many threads, or on
    this GPU. None where it has not: nothing is measured.
    """
    store = EngineStore(cache)
    _require_device(device)
    _require_tolerance(tolerance)
    if not store.entries():
        return None  # without the export that a key takes
    job, notes = _job(module, example, precision, dynamic, device)
    if not store.path_of(choice_key(job, tolerance)).exists():
        return None
    return _told(choose(job, store, tolerance), AUTO, precision, notes)


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
    built_by = wanted(backend, job)
    steady_reference(job)
    held = obtain(job, built_by, EngineStore(cache))
    held.close()
    report = report_on(job, chosen, held, None, TOLERANCES[job.precision])
    return msgspec.structs.replace(report, asked_precision=precision, notes=(*notes, *report.notes))


def _told(
    compiled: Compiled, backend: str, precision: Precision, notes: tuple[str, ...]
) -> Compiled:
    """Its report says what was asked for, too."""
    compiled.report = msgspec.structs.replace(
        compiled.report,
        asked_backend=backend,
        asked_precision=precision,
        notes=(*notes, *compiled.report.notes),
    )
    return compiled


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


def _require_tolerance(tolerance: float | None) -> None:
    if tolerance is not None and not 0 <= tolerance < math.inf:
        message = f"a tolerance of {tolerance}: a share of the largest value, 0 or more"
        raise CompileError("BAD_INPUT", message)


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
