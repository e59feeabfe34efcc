"""How a shipped network is run: by the runtime its file is made for, or as a torch module.

The file's own runtime (LiteRT, onnxruntime) is the default and runs on the CPU. The torch module
is read from the same file and runs wherever torch does; what compiles modules takes `twin_of`,
and `TorchNet` takes what it gives back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from engine import DeviceError, OpContext, OperatorError
from operators.face.weights import load_weights

if TYPE_CHECKING:
    import torch

    from operators.nn.static_graph import StaticGraph

F32 = npt.NDArray[np.float32]
Runtime = Literal["auto", "native", "torch"]
RUNTIME = (
    "native: the file's own runtime, on the CPU; torch: on the node's device; auto: native on the "
    "CPU; on a GPU what `frameloom engines build --device cuda` chose, else torch"
)


class Net(Protocol):
    """A network without its decoding: arrays in, arrays out. One call at a time."""

    def __call__(self, pictures: F32) -> tuple[F32, ...]:
        """[B, ...] in the file's layout (TFLite [B, H, W, C], ONNX [B, C, H, W]) to its outputs.

        The outputs come in the file's order, each [B, ...]; they are the caller's.
        """


class Placement(NamedTuple):
    """Where a network runs, and by what."""

    runtime: Literal["native", "torch"] = "native"
    device: str = "cpu"  # cpu | cuda:N
    threads: int = 1  # on the CPU


def placed(runtime: Runtime, ctx: OpContext) -> Placement:
    """What a node's config and its device say."""
    if runtime == "auto":
        runtime = "native" if ctx.device == "cpu" else "torch"
    return Placement(runtime, ctx.device, ctx.threads)


def open_net(weights: str, place: Placement) -> Net:
    """The network of a file in `operators.face.weights`.

    DeviceError where the runtime cannot have the device, OperatorError where torch is not there.
    """
    if place.runtime == "torch":
        import_torch().set_num_threads(place.threads)
        return TorchNet(twin_of(weights), place.device, channels_last=_is_tflite(weights))
    if place.device != "cpu":
        message = f"{weights} was to run on {place.device}, and its own runtime knows the CPU only"
        raise DeviceError(f"{message}: `--set NODE.runtime=torch`, or NODE.device=cpu")
    return (LiteRtNet if _is_tflite(weights) else OnnxRuntimeNet)(weights, place.threads)


def twin_of(weights: str) -> StaticGraph:
    """The torch module of a file: [B, 3, H, W] float32 to its outputs; see `operators.nn`."""
    import_torch()
    from operators.nn.onnxnet.network import load_onnx
    from operators.nn.tflite.network import load_tflite

    return (load_tflite if _is_tflite(weights) else load_onnx)(load_weights(weights))


def import_torch() -> Any:
    """OperatorError says what to install."""
    try:
        import torch
    except ImportError as error:
        message = f"runtime torch needs torch ({error}): pip install 'frameloom[models]'"
        raise OperatorError("MISSING_PACKAGE", message) from error
    return torch


class LiteRtNet:
    """A TFLite file in LiteRT. Its batch is 1: several pictures go one after another."""

    def __init__(self, weights: str, threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        make: Any = Interpreter
        self._net: Any = make(model_content=load_weights(weights), num_threads=threads)
        self._net.allocate_tensors()
        self._input = self._net.get_input_details()[0]["index"]
        self._outputs = [output["index"] for output in self._net.get_output_details()]

    def __call__(self, pictures: F32) -> tuple[F32, ...]:
        return one_by_one(self._run, pictures)

    def _run(self, picture: F32) -> tuple[F32, ...]:
        self._net.set_tensor(self._input, picture)
        self._net.invoke()
        return tuple(self._net.get_tensor(index) for index in self._outputs)


class OnnxRuntimeNet:
    """An ONNX file in onnxruntime. Its batch is 1: several pictures go one after another."""

    def __init__(self, weights: str, threads: int) -> None:
        import onnxruntime

        runtime: Any = onnxruntime
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._net: Any = runtime.InferenceSession(
            load_weights(weights), options, providers=["CPUExecutionProvider"]
        )
        self._input = self._net.get_inputs()[0].name

    def __call__(self, pictures: F32) -> tuple[F32, ...]:
        return one_by_one(self._run, pictures)

    def _run(self, picture: F32) -> tuple[F32, ...]:
        return tuple(self._net.run(None, {self._input: picture}))


class TorchNet:
    """A torch module, eager or compiled, on the CPU or a GPU. All pictures go in one call.

    It is given [B, C, H, W] whose channels lie last in memory: compile it with such an example.
    """

    def __init__(
        self,
        module: Callable[[torch.Tensor], tuple[torch.Tensor, ...]],
        device: str,
        *,
        channels_last: bool,
    ) -> None:
        """`channels_last`: pictures come as [B, H, W, C]. A module is moved to the device."""
        self._torch = torch = import_torch()
        self._module, self._device, self._channels_last = module, device, channels_last
        if isinstance(module, torch.nn.Module):
            torch.nn.Module.to(module, device, memory_format=torch.channels_last)

    def __call__(self, pictures: F32) -> tuple[F32, ...]:
        given = self._torch.from_numpy(pictures)
        if self._channels_last:
            given = given.permute(0, 3, 1, 2)
        with self._torch.inference_mode():
            last = self._torch.channels_last
            outputs = self._module(given.to(self._device, memory_format=last))
        return tuple(output.cpu().numpy() for output in outputs)


def one_by_one(run: Callable[[F32], tuple[F32, ...]], pictures: F32) -> tuple[F32, ...]:
    """What `run` gives for each picture alone, put together."""
    if len(pictures) == 1:
        return run(pictures)
    alone = [run(pictures[n : n + 1]) for n in range(len(pictures))]
    return tuple(np.concatenate(parts) for parts in zip(*alone, strict=True))


def _is_tflite(weights: str) -> bool:
    return weights.endswith(".tflite")
