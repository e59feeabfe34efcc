"""From one operator of an ONNX file to the layer that does the same.

Source: onnx/docs/Operators.md, opset 13. What a file asks for and no layer does is refused.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from operators.nn.onnxnet.schema import DTYPES, FLOAT, Call
from operators.nn.static_graph import LARGEST_PX, Add, Convolution, ModelFileError, frozen

Constants = list[torch.Tensor | None]  # of a call's inputs; None is computed or left out


class UpConvolution(nn.Module):
    """A transposed convolution without zeros around it."""

    def __init__(
        self, weight: torch.Tensor, bias: torch.Tensor | None, stride: tuple[int, ...]
    ) -> None:
        """`weight` [in, out, kh, kw], `bias` [out]."""
        super().__init__()
        self.weight = frozen(weight)
        self.bias = None if bias is None else frozen(bias)
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, in, H, W] to [B, out, ...], as many times larger as the stride says."""
        return functional.conv_transpose2d(x, self.weight, self.bias, self.stride)


class Norm(nn.Module):
    """A batch norm with the averages of its training, which is a gain and a shift per channel."""

    def __init__(self, parts: list[torch.Tensor], epsilon: float) -> None:
        """`parts`: gain, shift, mean, variance, [C] each."""
        super().__init__()
        gain, shift, mean, variance = (part.double() for part in parts)
        scale = gain / torch.sqrt(variance + epsilon)
        self.gain = frozen(scale.float()[:, None, None])
        self.shift = frozen((shift - mean * scale).float()[:, None, None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W], the same shape."""
        return x * self.gain + self.shift


def fold(call: Call, constants: list[torch.Tensor]) -> torch.Tensor:
    """What the call gives for constants: how weights are stored smaller than they are used."""
    if call.operator == "Cast" and len(constants) == 1:
        to = call.attributes.get("to")
        if to == FLOAT:
            return constants[0].to(torch.float32)
        raise ModelFileError(f"Cast of constants to type {to} is not known, of {sorted(DTYPES)}")
    if call.operator == "Mul" and len(constants) == 2:
        if constants[0].dtype == constants[1].dtype:
            return constants[0] * constants[1]
        raise ModelFileError("Mul of constants of two types")
    raise ModelFileError(f"operator {call.operator} of constants is not known")


def layer_of(call: Call, constants: Constants) -> nn.Module:
    """ModelFileError names an operator or an attribute that is not known."""
    if call.operator not in _MAKERS:
        raise ModelFileError(f"operator {call.operator} is not known")
    make, known = _MAKERS[call.operator]
    more = sorted(set(call.attributes) - set(known.split()))
    if more:
        raise ModelFileError(f"{call.operator} with the attributes {more} is not known")
    return make(Attributes(call), constants)


class Attributes:
    """The attributes of a call, each with the default of the specification."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def sizes(self, name: str, default: tuple[int, ...], least: int = 1) -> tuple[int, ...]:
        """As many numbers as the default has."""
        found = self._call.attributes.get(name, default)
        if not isinstance(found, tuple) or len(found) != len(default):
            raise self._unknown(f"{name} {found}")
        self.require(all(least <= n <= LARGEST_PX for n in found), f"{name} {found}")
        return found

    def number(self, name: str, default: float) -> float:
        found = self._call.attributes.get(name, default)
        if not isinstance(found, int | float):
            raise self._unknown(f"{name} {found}")
        return found

    def require(self, holds: bool, what: str) -> None:
        if not holds:
            raise self._unknown(what)

    def _unknown(self, what: str) -> ModelFileError:
        return ModelFileError(f"{self._call.operator} with {what} is not known")


def _weights(
    attributes: Attributes, constants: Constants
) -> tuple[torch.Tensor, torch.Tensor | None]:
    weight = constants[1] if len(constants) > 1 else None
    attributes.require(weight is not None and weight.dim() == 4, "computed weights")
    assert weight is not None
    kernel = tuple(weight.shape[2:])
    attributes.require(attributes.sizes("kernel_shape", kernel) == kernel, "another kernel_shape")
    return weight, constants[2] if len(constants) > 2 else None


def _conv(attributes: Attributes, constants: Constants) -> nn.Module:
    weight, bias = _weights(attributes, constants)
    top, left, bottom, right = attributes.sizes("pads", (0, 0, 0, 0), 0)
    return Convolution(
        weight,
        bias,
        stride=attributes.sizes("strides", (1, 1)),
        pads=(left, right, top, bottom),
        dilation=attributes.sizes("dilations", (1, 1)),
        groups=int(attributes.number("group", 1)),
    )


def _up_conv(attributes: Attributes, constants: Constants) -> nn.Module:
    weight, bias = _weights(attributes, constants)
    plain = (
        attributes.number("group", 1) == 1
        and attributes.sizes("dilations", (1, 1)) == (1, 1)
        and not any(attributes.sizes("pads", (0, 0, 0, 0), 0))
    )
    attributes.require(plain, "groups, dilations or pads")
    return UpConvolution(weight, bias, attributes.sizes("strides", (1, 1)))


def _norm(attributes: Attributes, constants: Constants) -> nn.Module:
    parts = [part for part in constants[1:] if part is not None]
    attributes.require(len(parts) == 4, "computed parts")
    return Norm(parts, attributes.number("epsilon", 1e-5))


def _add(attributes: Attributes, constants: Constants) -> nn.Module:
    attributes.require(constants == [None, None], "a constant")
    return Add()


# Operator to what makes it, and the attributes that may be set.
_MAKERS: dict[str, tuple[Callable[[Attributes, Constants], nn.Module], str]] = {
    "Add": (_add, ""),
    "BatchNormalization": (_norm, "epsilon momentum"),
    "Conv": (_conv, "dilations group kernel_shape pads strides"),
    "ConvTranspose": (_up_conv, "dilations group kernel_shape pads strides"),
    "Relu": (lambda *_: nn.ReLU(), ""),
    "Sigmoid": (lambda *_: nn.Sigmoid(), ""),
}
