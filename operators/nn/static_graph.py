"""A network as a file lists it: layers in order, wired by the values they read and write.

What reads a file format (`operators.nn.tflite`, `operators.nn.onnxnet`) turns each operator into a
layer with torch's own meaning, [B, C, H, W]; from there on the module is like any other, in eager
use, under `torch.export` and for a compiler.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

LARGEST_PX = 4096  # of a side, a kernel, a step or a pad: no file may ask for all memory
LARGEST_INPUT = 3 * LARGEST_PX**2


class ModelFileError(ValueError):
    """A file that is not a network of the kind that was looked for, or asks for the unknown."""


class Step(NamedTuple):
    """A layer with the names of its arguments and of its result."""

    layer: nn.Module
    reads: tuple[Hashable, ...]
    writes: Hashable


class Entry(NamedTuple):
    """What goes in. A side of None is free; the batch always is, and is not listed."""

    name: Hashable
    shape: tuple[int | None, ...]


class StaticGraph(nn.Module):
    """Runs its layers in order. Inputs and outputs are those of the file, in the file's order."""

    def __init__(
        self, inputs: Sequence[Entry], steps: Sequence[Step], outputs: Sequence[Hashable]
    ) -> None:
        """ModelFileError where a step reads what nothing before it gave."""
        super().__init__()
        self.inputs = tuple(inputs)
        self.layers = nn.ModuleList(step.layer for step in steps)
        slots: dict[Hashable, int] = {}
        for name in (entry.name for entry in inputs):
            slots[name] = len(slots)
        self._wires: list[tuple[tuple[int, ...], int]] = []
        for step in steps:
            reads = tuple(_slot(slots, name) for name in step.reads)
            self._wires.append((reads, slots.setdefault(step.writes, len(slots))))
        self._outputs = tuple(_slot(slots, name) for name in outputs)
        self._dead = self._last_uses()

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Each input [B, ...] float as `inputs` says, to the outputs; ValueError for others."""
        for entry, given in zip(self.inputs, inputs, strict=True):
            _check(entry, given)
        values = dict(enumerate(inputs))
        for layer, (reads, writes), dead in zip(self.layers, self._wires, self._dead, strict=True):
            values[writes] = layer(*[values[slot] for slot in reads])
            for slot in dead:
                del values[slot]
        return tuple(values[slot] for slot in self._outputs)

    def _last_uses(self) -> list[tuple[int, ...]]:
        """Per layer the slots that nobody reads later: their memory is free again."""
        needed = set(self._outputs)
        dead = []
        for reads, writes in reversed(self._wires):
            dead.append(tuple(slot for slot in {*reads, writes} if slot not in needed))
            needed.update(reads)
        return dead[::-1]


class OnPictures(nn.Module):
    """A graph with one input under a name: what compilers of modules want."""

    def __init__(self, graph: StaticGraph, label: str) -> None:
        """`label`: what the network is called where engines are listed."""
        super().__init__()
        self.graph = graph
        self.label = label

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """[B, C, H, W] to the graph's outputs."""
        return self.graph(pictures)  # type: ignore[no-any-return]


def _slot(slots: dict[Hashable, int], name: Hashable) -> int:
    if name not in slots:
        raise ModelFileError(f"value {name!r} is used, but no operator before gives it")
    return slots[name]


def _check(entry: Entry, given: torch.Tensor) -> None:
    if given.dim() != len(entry.shape) + 1 or any(
        wanted is not None and side != wanted
        for wanted, side in zip(entry.shape, given.shape[1:], strict=True)
    ):
        raise ValueError(
            f"input {entry.name!r} has shape {list(given.shape)}, not {['B', *entry.shape]}"
        )


class Convolution(nn.Module):
    """A convolution with its own zeros on each side."""

    def __init__(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        *,
        stride: tuple[int, ...],
        pads: tuple[int, int, int, int],
        dilation: tuple[int, ...] = (1, 1),
        groups: int = 1,
    ) -> None:
        """`weight` [out, in / groups, kh, kw], `bias` [out], `pads` left, right, top, bottom."""
        super().__init__()
        self.weight = frozen(weight)
        self.bias = None if bias is None else frozen(bias)
        self.stride, self.dilation, self.groups = stride, dilation, groups
        left, right, top, bottom = pads
        even = (left, top) == (right, bottom)
        self.padding = (top, left) if even else (0, 0)
        self.pads = None if even else pads

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, in, H, W] to [B, out, ...]."""
        if self.pads is not None:
            x = functional.pad(x, self.pads)
        return functional.conv2d(
            x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )


class Add(nn.Module):
    """Element by element."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Both of the same shape."""
        return x + y


def frozen(values: torch.Tensor) -> nn.Parameter:
    """A weight that is used, never trained."""
    return nn.Parameter(values.contiguous(), requires_grad=False)


def prove(graph: StaticGraph, free_side: int = 64) -> tuple[tuple[int, ...], ...]:
    """Shapes of the outputs for one black picture; free sides get `free_side`.

    ModelFileError if the layers do not fit each other: found when loading, not in a stream.
    """
    sides = [tuple(side or free_side for side in entry.shape) for entry in graph.inputs]
    if sum(map(math.prod, sides)) > LARGEST_INPUT:
        raise ModelFileError(f"inputs of {sides}: at most {LARGEST_INPUT} numbers are taken")
    try:
        with torch.inference_mode():
            outputs = graph(*(torch.zeros(1, *shape) for shape in sides))
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise ModelFileError(f"the operators do not fit each other: {error}") from error
    return tuple(tuple(value.shape) for value in outputs)
