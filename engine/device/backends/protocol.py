"""What `compile_module` asks of a backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Protocol, TypeAlias

from engine.device.report import Precision

if TYPE_CHECKING:
    import torch

    from engine.device.job import Job

CUDA_ONLY = "it makes engines for NVIDIA GPUs only: device cuda"
Run: TypeAlias = "Callable[[Sequence[torch.Tensor]], Sequence[torch.Tensor]]"


class Backend(Protocol):
    """Builds an engine from a job, as bytes, and makes a callable from the bytes.

    `build` and `load` may raise anything; the caller turns it into a CompileError.
    """

    name: str
    keeps: bool  # whether `build` gives bytes worth keeping; else they are empty
    needs_device: bool  # whether `build` needs the device, too, not only `load`

    def why_not(self, device: str, precision: Precision) -> str | None:
        """Why it cannot be had on `cpu` or `cuda[:N]`, and what to do; None if it can.

        May import the backend's packages. Whether there is such a device was asked before.
        """

    def why_not_auto(self, device: str) -> str | None:
        """Why `auto` passes it by although it can be had; None if it does not."""

    def versions(self) -> Mapping[str, str]:
        """Of all packages that an engine depends on."""

    def build(self, job: Job) -> bytes:
        """An engine that `load` reads in any process on the same machine."""

    def load(self, payload: bytes | memoryview, job: Job) -> Run:
        """A callable: contiguous tensors like the job's inputs, on its device, in; all outputs of
        `Lowered` in order out, in memory that later calls leave alone.
        """


def versions_of(*distributions: str) -> dict[str, str]:
    """Installed versions by distribution. PackageNotFoundError if one is not installed."""
    return {name: metadata.version(name) for name in distributions}


def missing(*distributions: str, extra: str) -> str | None:
    """Which packages are not installed, and how to get them; None if all are there."""
    absent = []
    for name in distributions:
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            absent.append(name)
    if not absent:
        return None
    return f"{' and '.join(absent)} not installed: pip install 'frameloom[{extra}]'"


def cpu_only(device: str) -> str | None:
    return None if device == "cpu" else "it is used on processors only"


def cuda_only(device: str) -> str | None:
    return CUDA_ONLY if device == "cpu" else None
