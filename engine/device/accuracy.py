"""Whether a compiled model still is the model: compared with eager fp32, output by output."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from engine.device.job import Job, describe
from engine.device.report import TOLERANCES, Deviation
from engine.errors import CompileError


def sizes_to_check(job: Job) -> list[tuple[torch.Tensor, ...]]:
    """The example, and for ranges also the least and the most sizes, filled by repeating it."""
    found = [job.inputs()]
    for end in (0, 1) if job.dynamic else ():
        tensors = []
        for name, x in zip(job.names, job.inputs(), strict=True):
            for at, sizes in job.dynamic.get(name, {}).items():
                places = torch.arange(sizes[end], device=x.device) % x.shape[at]
                x = x.index_select(at, places)
            tensors.append(x.contiguous())
        found.append(tuple(tensors))
    return found


def named_outputs(structure: Any) -> dict[str, Any]:
    """Each leaf of what a module returns, by its place: `pooled`, `[0]`, `["mask"]`."""
    if isinstance(structure, torch.Tensor):
        return {"output": structure}
    leaves, _ = pytree.tree_flatten_with_path(structure)
    return {pytree.keystr(path).removeprefix("."): leaf for path, leaf in leaves}


def steady_reference(job: Job) -> Any:
    """What the module gives for the example in eager fp32. CompileError BAD_INPUT if a second call
    gives something else: then there is nothing to compare an engine with.
    """
    found = job.reference(job.inputs())
    kept = pytree.tree_map(lambda y: y.clone() if isinstance(y, torch.Tensor) else y, found)
    again = pytree.tree_leaves(job.reference(job.inputs()))
    try:
        worst_deviation(kept, again, TOLERANCES["fp32"], "a second call")
    except CompileError as error:
        if error.code != "INACCURATE":
            raise
        message = (
            f"{job.label} keeps state or draws random numbers, an engine does neither: "
            f"{error.message}"
        )
        raise CompileError("BAD_INPUT", message) from error
    return kept


def worst_deviation(
    reference: Any, found: Sequence[torch.Tensor], tolerance: float, what: str
) -> Deviation:
    """CompileError INACCURATE names the output that lies further off than the tolerance."""
    wanted = named_outputs(reference)
    strange = [name for name, leaf in wanted.items() if not isinstance(leaf, torch.Tensor)]
    if strange:
        raise CompileError("BAD_INPUT", f"the module's output {strange[0]} is no tensor")
    unreal = [name for name, leaf in wanted.items() if leaf.is_complex()]
    if unreal:
        message = f"the module's output '{unreal[0]}' is complex: give torch.view_as_real of it"
        raise CompileError("BAD_INPUT", message)
    if len(wanted) != len(found):
        message = f"{what} gives {len(found)} outputs, eager gives {len(wanted)}"
        raise CompileError("INACCURATE", message)
    worst = Deviation("", 0.0, 0.0)
    for (name, eager), other in zip(wanted.items(), found, strict=True):
        deviation = _deviation(name, eager, other, what)
        if not deviation.relative <= tolerance:
            message = (
                f"{what}: output '{name}' lies {deviation.absolute:.3g} from eager fp32, "
                f"{deviation.relative:.3g} of its largest value; {tolerance:g} is allowed"
            )
            raise CompileError("INACCURATE", message)
        if deviation.relative >= worst.relative:
            worst = deviation
    return worst


def _deviation(name: str, eager: torch.Tensor, found: torch.Tensor, what: str) -> Deviation:
    if eager.shape != found.shape:
        message = f"{what}: output '{name}' is {describe(found)}, eager gives {describe(eager)}"
        raise CompileError("INACCURATE", message)
    if eager.numel() == 0:
        return Deviation(name, 0.0, 0.0)
    if not eager.is_floating_point():
        if eager.dtype != found.dtype:
            message = f"{what}: output '{name}' is {found.dtype}, eager gives {eager.dtype}"
            raise CompileError("INACCURATE", message)
    elif not bool(torch.isfinite(eager).all()):
        message = f"eager fp32 gives output '{name}' that is not finite: take another example"
        raise CompileError("BAD_INPUT", message)
    absolute = float((found.double() - eager.double()).abs().max())
    absolute = math.inf if math.isnan(absolute) else absolute
    largest = float(eager.double().abs().max())
    relative = absolute / largest if largest else math.inf if absolute else 0.0
    return Deviation(name, absolute, relative)
