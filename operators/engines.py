"""What computes a network of a node: an engine that was built ahead, or torch; the node says which.

Engines are built ahead (`frameloom engines build`), because the first time takes half a minute on a
processor and minutes on a GPU: a door must not wait for that.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from engine import OpContext

if TYPE_CHECKING:
    from engine.device.networks import Network

Engine = Literal[
    "ready", "auto", "eager", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx", "aot",
    "inductor",
]  # fmt: skip
ENGINE = (
    "what computes the network. ready: what `frameloom engines build` chose for this machine "
    "(fp32 on a CPU; on a GPU with --device cuda, there fp16 may be used), else torch eager in "
    "fp32; auto: chooses now, which takes half a minute to minutes the first time; the others by "
    "name, in fp32 on a CPU and fp16 on a GPU"
)
Run = Callable[[Any], Any]


def open_engine(network: Network, what: str, engine: Engine, ctx: OpContext, build: str) -> Run:
    """What takes a network's input on the node's device and gives its output there.

    `what` and `build` are for people: whose network it is, and what builds an engine for it.
    CompileError for an engine that was named and cannot be had.
    """
    if engine == "eager":
        return _eager(network, what, ctx, "")
    from engine.device.compile import compile_chosen, compile_module
    from engine.device.networks import asked_precision

    given = network.module, network.example
    options: dict[str, Any] = {
        "dynamic": network.dynamic,
        "tolerance": network.tolerance,
        "device": ctx.device,
        "precision": asked_precision(ctx.device),
    }
    compiled = (
        compile_chosen(*given, **options)
        if engine == "ready"
        else compile_module(*given, backend=engine, **options)
    )
    if compiled is None:
        return _eager(network, what, ctx, f": no engine was built for this machine; {build}")
    report = compiled.report
    ctx.report("ENGINE", f"{what} by {report.backend} in {report.precision}{_where(ctx)}")
    return compiled


def _eager(network: Network, what: str, ctx: OpContext, because: str) -> Run:
    import torch

    ctx.report("ENGINE", f"{what} by torch eager in fp32{_where(ctx)}{because}")
    module = network.module
    if ctx.device != "cpu":
        module = copy.deepcopy(module).to(ctx.device)

    def run(given: torch.Tensor) -> Any:
        with torch.inference_mode():
            return module(given)

    return run


def _where(ctx: OpContext) -> str:
    return "" if ctx.device == "cpu" else f" on {ctx.device}"
