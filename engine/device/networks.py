"""The networks that come along, as `frameloom engines build` and `doctor` need them.

An installed package offers each through the entry point group `frameloom.networks`: a name, and
`module:function` that loads the weights and returns a `Network`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, NamedTuple

from engine.convert import nearest
from engine.device.report import Precision
from engine.errors import CompileError

if TYPE_CHECKING:
    import torch
    from torch import nn

GROUP = "frameloom.networks"


@dataclass(frozen=True)
class Network:
    """A module with its weights, and how it is compiled."""

    module: nn.Module
    example: tuple[torch.Tensor, ...]  # of the sizes and values that it meets in use
    precisions: tuple[Precision, ...] = ("fp32",)  # that it stands
    tolerance: float | None = None  # relative; None: the precision's own
    dynamic: Mapping[str, Mapping[int, tuple[int, int]]] = field(default_factory=dict)


class RunsBy(NamedTuple):
    """What runs a network in the operators that use it."""

    cpu: str = ""  # its file's own runtime; empty: an engine that was built, else torch
    on_gpu: bool = True  # by an engine that was built, else torch; False: nobody takes it there


def runs(by: RunsBy) -> Callable[[Callable[[], Network]], Callable[[], Network]]:
    """Decorates what makes a network, for `doctor`."""

    def told(make: Callable[[], Network]) -> Callable[[], Network]:
        vars(make)["runs_by"] = by
        return make

    return told


def runs_by(make: Callable[[], Network]) -> RunsBy:
    """What `runs` said, else engines everywhere."""
    by: RunsBy = vars(make).get("runs_by", RunsBy())
    return by


def asked_precision(device: str) -> Precision:
    """What nodes ask of the engines of their networks, `cpu` or `cuda[:N]`: half precision on a GPU
    only, where it is allowed, not demanded.
    """
    return "fp32" if device == "cpu" else "fp16"


def networks() -> dict[str, Callable[[], Network]]:
    """Every installed network by its name; calling one loads it, and needs torch."""
    return {entry.name: entry.load() for entry in network_entries()}


def network_entries() -> list[EntryPoint]:
    """The installed networks, none of them loaded."""
    return sorted(entry_points(group=GROUP), key=lambda entry: entry.name)


def network_named(name: str) -> Callable[[], Network]:
    """CompileError BAD_INPUT names those that there are."""
    found = networks()
    if name not in found:
        message = f"there is no network '{name}' ({nearest(name, found)})"
        raise CompileError("BAD_INPUT", message)
    return found[name]
