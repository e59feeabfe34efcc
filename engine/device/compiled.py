"""A compiled model as something to call."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from engine.device.job import Job, describe
from engine.device.report import Report
from engine.errors import CompileError

if TYPE_CHECKING:
    from engine.device.backends.protocol import Run


class Compiled:
    """Called like the module's `forward`: same inputs, same structure of outputs.

    Inputs have the example's types and sizes (or sizes within `dynamic`) and are on the device;
    floating outputs are float32 on the device. One thread at a time.
    """

    def __init__(
        self, job: Job, run: Run, structure: pytree.TreeSpec, release: Callable[[], object]
    ) -> None:
        """`structure` is that of the module's outputs; `release` lets the engine's file go."""
        self.report: Report
        self._run = run
        self._structure = structure
        self._release = release
        self._signature = job.signature
        self._device = torch.device(job.place)
        self._wanted = tuple(
            (name, x.dtype, _ranges(x, job.dynamic.get(name, {})))
            for name, x in zip(job.names, job.example, strict=True)
        )

    def __call__(self, *inputs: torch.Tensor, **named: torch.Tensor) -> Any:
        """CompileError BAD_INPUT for inputs that the engine was not made for."""
        if named:
            inputs = self._in_order(inputs, named)
        with torch.inference_mode():
            found = self._run([x.contiguous() for x in self._checked(inputs)])
        return pytree.tree_unflatten(list(found), self._structure)

    def close(self) -> None:
        """The engine's file may be evicted from now on; not to be called after that."""
        self._release()

    def _in_order(
        self, inputs: tuple[torch.Tensor, ...], named: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, ...]:
        try:
            return self._signature.bind(*inputs, **named).args
        except TypeError as error:
            raise CompileError("BAD_INPUT", f"the inputs do not fit forward: {error}") from error

    def _checked(self, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        if len(inputs) != len(self._wanted):
            message = f"{len(inputs)} inputs came, {len(self._wanted)} are needed"
            raise CompileError("BAD_INPUT", message)
        for x, (name, dtype, ranges) in zip(inputs, self._wanted, strict=True):
            fits = len(x.shape) == len(ranges) and all(
                least <= size <= most for size, (least, most) in zip(x.shape, ranges, strict=True)
            )
            if not fits or x.dtype != dtype or x.device.type != self._device.type:
                message = (
                    f"{name} is {describe(x)} on {x.device}; the engine is made for "
                    f"{_spelled(dtype, ranges)} on {self._device}"
                )
                raise CompileError("BAD_INPUT", message)
        return inputs


def _ranges(x: torch.Tensor, dynamic: dict[int, tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    return tuple(dynamic.get(at, (size, size)) for at, size in enumerate(x.shape))


def _spelled(dtype: torch.dtype, ranges: tuple[tuple[int, int], ...]) -> str:
    sizes = (f"{least}" if least == most else f"{least}..{most}" for least, most in ranges)
    return f"{str(dtype).removeprefix('torch.')}[{','.join(sizes)}]"
