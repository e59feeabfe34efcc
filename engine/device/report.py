"""What is told about a compiled model: plain frozen data that goes into JSON."""

from __future__ import annotations

from typing import Literal

import msgspec

Precision = Literal["fp32", "bf16", "fp16"]
Ranges = dict[str, dict[int, tuple[int, int]]]  # input, dimension: least and most size

# The worst |compiled - eager| that is let through, by the largest |eager| of the same output.
# fp32 leaves room for TF32 convolutions, the others for the rounding of some fifty layers.
TOLERANCES: dict[Precision, float] = {"fp32": 2e-3, "fp16": 2e-2, "bf16": 1e-1}


class Machine(msgspec.Struct, frozen=True):
    """What an engine is made for."""

    name: str  # of the GPU, or the processor's model
    capability: str  # compute capability "9.0", or a digest of the processor's flags
    driver: str  # version of the GPU's driver; empty for processors


class Place(msgspec.Struct, frozen=True):
    """What a choice depends on besides the network and what is asked of it."""

    machine: Machine
    versions: dict[str, str]  # of the packages of all backends that there are to choose from


class EngineKey(msgspec.Struct, frozen=True):
    """Everything that an engine depends on. Two equal keys may share one file."""

    weights: str  # SHA-256 of all tensors with their names
    graph: str  # SHA-256 of the exported graph's text
    backend: str  # or "auto": then the file holds a choice
    versions: dict[str, str]  # of the packages that build and run it
    device: str  # cpu | cuda
    machine: Machine
    threads: int  # that a processor's engine is made for; 0 on a GPU
    precision: Precision
    inputs: tuple[str, ...]  # as `float32[4,3,192,192]`
    dynamic: Ranges
    tolerance: float | None = None  # that a choice was made under; None: the precision's own
    format: int = 1


class Deviation(msgspec.Struct, frozen=True):
    """How far an output lies from eager fp32, at worst."""

    output: str  # its place in what the module returns, as `pooled` or `[0]`
    absolute: float
    relative: float  # by the largest magnitude of the eager output


class Candidate(msgspec.Struct, frozen=True):
    """What came of one backend."""

    backend: str
    precision: Precision
    ms: float | None = None  # median of a call; None: never ran
    relative_deviation: float | None = None
    seconds: float | None = None  # to build, or to load from the cache
    why_not: str = ""  # why it was not taken; empty for the one that was


class Choice(msgspec.Struct, frozen=True):
    """What `auto` found; kept as a file of its own."""

    backend: str
    precision: Precision
    candidates: tuple[Candidate, ...]


class Report(msgspec.Struct, frozen=True):
    """Which engine runs, and why this one."""

    label: str  # class of the module
    backend: str
    precision: Precision  # that it computes in
    asked_backend: str
    asked_precision: Precision
    device: str
    machine: Machine
    threads: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]  # empty if it was only built, never run
    dynamic: Ranges
    versions: dict[str, str]
    seconds: float  # to build it, or to load it
    from_cache: bool
    key: str  # SHA-256; empty for backends that keep nothing
    deviation: Deviation | None  # None: only built
    tolerance: float  # relative
    candidates: tuple[Candidate, ...] = ()  # all that were measured, by `auto` only
    notes: tuple[str, ...] = ()  # what a person should know: fp16 became bf16, no cache, ...
