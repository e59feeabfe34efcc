"""One module to be compiled: checked, copied, lowered to a precision, exported, told apart.

A backend gets all it needs from here, and what several of them need (an export, an ONNX model) is
made once.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils import _pytree as pytree

from engine.convert import nearest
from engine.device.machine import machine_of
from engine.device.noise import quiet
from engine.device.report import EngineKey, Precision, Ranges
from engine.device.state import what_outlasts
from engine.errors import CompileError

Made = TypeVar("Made")
DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


class Lowered(nn.Module):
    """A module that computes in one precision, with the same inputs and float32 outside.

    Floating inputs of any precision go in; all tensors that the module returns come out as one flat
    tuple, floating ones as float32.
    """

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.module = copy.deepcopy(module).to(dtype)
        self.dtype = dtype

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The module's inputs in order."""
        lowered = (x.to(self.dtype) if x.is_floating_point() else x for x in inputs)
        found = pytree.tree_leaves(self.module(*lowered))
        return tuple(y.float() if y.is_floating_point() else y for y in found)


class Job:
    """A module, an example of its inputs, and how it is to be compiled."""

    def __init__(
        self,
        module: nn.Module,
        example: torch.Tensor | Sequence[torch.Tensor],
        precision: Precision,
        dynamic: Mapping[str, Mapping[int, tuple[int, int]]] | None,
        device: str,
    ) -> None:
        """CompileError BAD_INPUT for an example or ranges that cannot be."""
        given = (example,) if isinstance(example, torch.Tensor) else tuple(example)
        self.label = str(getattr(module, "label", type(module).__name__))
        self.signature = inspect.signature(module.forward)
        self.names = _names(self.signature, given)
        self.dynamic = _checked_ranges(dynamic or {}, dict(zip(self.names, given, strict=True)))
        self.module = copy.deepcopy(module).cpu().eval().requires_grad_(False)
        self.example = tuple(x.detach().cpu().contiguous() for x in given)
        self.precision = precision
        self.device = device  # cpu | cuda | cuda:N
        self.threads = torch.get_num_threads() if device == "cpu" else 0
        self._made: dict[str, Any] = {}

    @property
    def place(self) -> str:
        """Where tensors are put: the device, or the processor where a GPU is only built for."""
        return self.device if self.device == "cpu" or torch.cuda.is_available() else "cpu"

    def at(self, precision: Precision) -> Job:
        """The same in another precision; what was made for one is shared."""
        other = copy.copy(self)
        other.precision = precision
        return other

    def inputs(self) -> tuple[torch.Tensor, ...]:
        """The example on the device."""
        return self._once("inputs", lambda: tuple(x.to(self.place) for x in self.example))

    def lowered(self, precision: Precision | None = None) -> Lowered:
        """The module on the device, computing in its precision."""
        chosen = precision or self.precision
        return self._once(
            f"lowered {chosen}", lambda: Lowered(self.module, DTYPES[chosen]).to(self.place)
        )

    def exported(self, precision: Precision | None = None) -> torch.export.ExportedProgram:
        """The lowered module as a graph. CompileError BUILD_FAILED if it cannot be traced,
        BAD_INPUT if a call changes the module or its inputs.
        """
        chosen = precision or self.precision
        return self._once(f"exported {chosen}", lambda: self._export(self.lowered(chosen)))

    def onnx(self, precision: Precision | None = None) -> bytes:
        """The lowered module as an ONNX model, weights inside."""
        chosen = precision or self.precision
        return self._once(f"onnx {chosen}", lambda: _to_onnx(self.exported(chosen)))

    def key(self, backend: str, versions: Mapping[str, str]) -> EngineKey:
        """What an engine of that backend depends on."""
        weights, graph = self._once("hashes", lambda: fingerprint(self.exported("fp32")))
        return EngineKey(
            weights=weights,
            graph=graph,
            backend=backend,
            versions=dict(sorted(versions.items())),
            device=self.device.partition(":")[0],
            machine=machine_of(self.device),
            threads=self.threads,
            precision=self.precision,
            inputs=self.shapes(),
            dynamic=self.dynamic,
        )

    def shapes(self) -> tuple[str, ...]:
        """Type and shape of each input, as `float32[4,3,192,192]`."""
        return tuple(describe(x) for x in self.example)

    def reference(self, inputs: tuple[torch.Tensor, ...]) -> Any:
        """What the module gives in eager float32, as it is structured; no TF32."""
        wide = [x.float() if x.is_floating_point() else x for x in inputs]
        module = self.lowered("fp32").module
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return module(*wide)

    def _export(self, module: Lowered) -> torch.export.ExportedProgram:
        named = (self._dims(self.dynamic.get(name, {})) for name in self.names)
        shapes = (tuple(named),) if self.dynamic else None
        try:
            with torch.no_grad(), quiet():
                program = torch.export.export(module, self.inputs(), dynamic_shapes=shapes)
                kept = what_outlasts(program, self.names)
        except Exception as error:  # whatever user code and tracing raise
            first = (str(error) or type(error).__name__).strip().splitlines()[0]
            message = (
                f"{self.label} cannot be exported as a graph: {first}; "
                'backend="eager" runs it as it is'
            )
            raise CompileError("BUILD_FAILED", message) from error
        if kept:
            raise CompileError("BAD_INPUT", f"{self.label}: {kept}")
        return program

    def _dims(self, ranges: Mapping[int, tuple[int, int]]) -> dict[int, Any] | None:
        dim = torch.export.Dim.DYNAMIC
        return {at: dim(min=least, max=most) for at, (least, most) in ranges.items()} or None

    def _once(self, name: str, make: Callable[[], Made]) -> Made:
        if name not in self._made:
            self._made[name] = make()
        made: Made = self._made[name]
        return made


def describe(tensor: torch.Tensor) -> str:
    """As `float32[4,3,192,192]`."""
    sizes = ",".join(map(str, tensor.shape))
    return f"{str(tensor.dtype).removeprefix('torch.')}[{sizes}]"


def fingerprint(program: torch.export.ExportedProgram) -> tuple[str, str]:
    """SHA-256 of all tensors with their names, and of the graph's text: equal in every process."""
    weights = hashlib.sha256()
    for name, value in sorted({**program.state_dict, **program.constants}.items()):
        if not isinstance(value, torch.Tensor):
            raise CompileError("BAD_INPUT", f"{name} is a {type(value).__name__}, no tensor")
        data = value.detach().cpu().contiguous()
        weights.update(f"{name} {describe(data)}\n".encode())
        weights.update(data.reshape(-1).view(torch.uint8).numpy().data)
    text = [str(program.graph_signature), str(program.call_spec.out_spec)]
    for name, part in program.graph_module.named_modules():
        if isinstance(part, torch.fx.GraphModule):
            text += [name, str(part.graph)]
    return weights.hexdigest(), hashlib.sha256("\n".join(text).encode()).hexdigest()


def _to_onnx(program: torch.export.ExportedProgram) -> bytes:
    with quiet():
        made = torch.onnx.export(program, dynamo=True, verbose=False)
    assert made is not None
    data: bytes = made.model_proto.SerializeToString()
    return data


def _names(signature: inspect.Signature, given: Sequence[Any]) -> tuple[str, ...]:
    """The names of the inputs, a repeated parameter numbered."""
    strange = [type(x).__name__ for x in given if not isinstance(x, torch.Tensor)]
    if strange or not given:
        what = f"a {strange[0]}" if strange else "nothing"
        raise CompileError("BAD_INPUT", f"the example holds {what}; tensors are needed")
    try:
        bound = signature.bind(*given)
    except TypeError as error:
        raise CompileError("BAD_INPUT", f"the example does not fit forward: {error}") from error
    names: list[str] = []
    for name, value in bound.arguments.items():
        several = isinstance(value, tuple)
        names += [f"{name}_{index}" for index in range(len(value))] if several else [name]
    return tuple(names)


def _checked_ranges(
    dynamic: Mapping[str, Mapping[int, tuple[int, int]]], example: Mapping[str, torch.Tensor]
) -> Ranges:
    for name, ranges in dynamic.items():
        if name not in example:
            hint = nearest(name, example)
            raise CompileError("BAD_INPUT", f"dynamic: there is no input '{name}' ({hint})")
        shape = example[name].shape
        for at, sizes in ranges.items():
            if not _fits(at, sizes, shape):
                message = (
                    f"dynamic: {name} {tuple(shape)} cannot have {sizes} at {at}: least and most "
                    "size, whole numbers with the example's between them"
                )
                raise CompileError("BAD_INPUT", message)
    return {name: dict(sorted(ranges.items())) for name, ranges in sorted(dynamic.items())}


def _fits(at: Any, sizes: Any, shape: torch.Size) -> bool:
    """Whether these can be the least and the most size of a dimension."""
    given = (at, *sizes) if isinstance(sizes, tuple | list) else ()
    if len(given) != 3 or not all(isinstance(number, int) for number in given):
        return False
    least, most = sizes
    return bool(0 <= at < len(shape) and 1 <= least <= shape[at] <= most and least < most)
