"""From one operator of a TFLite file to the layer that does the same.

Source: tensorflow/lite/schema/schema.fbs for the options, and the reference kernels of TFLite for
what they mean. What a file asks for and no layer does is refused with its name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy.typing as npt
import torch
from torch import nn

from operators.nn.padding import same_padding
from operators.nn.static_graph import LARGEST_PX, Add, Convolution, ModelFileError
from operators.nn.tflite.layers import Activated, Concat, MaxPool, Pad, Pads, PRelu, Reshape, Resize
from operators.nn.tflite.schema import Call, Value

Constants = list[npt.NDArray[Any] | None]  # of a call's inputs; None is computed or left out
ACTIVATIONS: dict[int, type[nn.Module] | None] = {0: None, 1: nn.ReLU, 3: nn.ReLU6}
AXES = (0, 2, 3, 1)  # where the file's axes of a map, [N, H, W, C], are in [B, C, H, W]


def layer_of(call: Call, values: list[Value], constants: Constants) -> nn.Module:
    """The operator with its fused activation; ModelFileError names what is not known."""
    if call.operator not in _MAKERS:
        raise ModelFileError(f"operator {call.operator} is not known")
    make, field = _MAKERS[call.operator]
    options = Options(call)
    layer = make(options, [values[i] for i in call.reads if i >= 0], constants)
    kind = 0 if field is None else options.number(field, "b")
    options.require(kind in ACTIVATIONS, f"activation {kind}")
    activation = ACTIVATIONS[kind]
    return layer if activation is None else Activated(layer, activation())


class Options:
    """The options of a call; a file may leave all of them out."""

    def __init__(self, call: Call) -> None:
        self.operator = call.operator
        self._table = call.options

    def number(self, field: int, kind: str = "i", default: int = 0) -> int:
        return self._table.number(field, kind, default) if self._table else default

    def integers(self, field: int) -> tuple[int, ...]:
        return self._table.integers(field) if self._table else ()

    def pair(self, high: int, wide: int, default: int = 0) -> tuple[int, int]:
        """Two fields as (height, width); ModelFileError unless both are sizes."""
        found = self.number(high, default=default), self.number(wide, default=default)
        self.require(0 < min(found) <= max(found) <= LARGEST_PX, f"sizes of {found}")
        return found

    def require(self, holds: bool, what: str) -> None:
        if not holds:
            raise ModelFileError(f"{self.operator} with {what} is not known")


def _weights(options: Options, values: list[Value], constants: Constants) -> npt.NDArray[Any]:
    weight = constants[1]
    options.require(weight is not None and weight.ndim == 4, "computed weights")
    options.require(len(values[0].shape) == 4, f"an input of {len(values[0].shape)} axes")
    assert weight is not None
    return weight


def _bias(constants: Constants) -> torch.Tensor | None:
    bias = constants[2] if len(constants) > 2 else None
    return None if bias is None else torch.from_numpy(bias)


def _pads(options: Options, value: Value, kernel: tuple[int, int], stride: tuple[int, int]) -> Pads:
    """SAME (0) or VALID (1), always the first of the options."""
    kind = options.number(0, "b")
    options.require(kind in (0, 1), f"padding {kind}")
    if kind == 1:
        return 0, 0, 0, 0
    top, bottom = same_padding(value.shape[1], kernel[0], stride[0])
    left, right = same_padding(value.shape[2], kernel[1], stride[1])
    return left, right, top, bottom


def _span(kernel: tuple[int, ...], dilation: tuple[int, int]) -> tuple[int, int]:
    """How many pixels a dilated kernel reaches over."""
    return (kernel[0] - 1) * dilation[0] + 1, (kernel[1] - 1) * dilation[1] + 1


def _conv(options: Options, values: list[Value], constants: Constants) -> nn.Module:
    """Weights [out, kh, kw, in] in the file."""
    weight = _weights(options, values, constants)
    stride, dilation = options.pair(2, 1), options.pair(5, 4, 1)
    groups, rest = divmod(values[0].shape[3], weight.shape[3])
    options.require(groups > 0 and not rest, f"weights of shape {weight.shape}")
    return Convolution(
        torch.from_numpy(weight.transpose(0, 3, 1, 2)),
        _bias(constants),
        stride=stride,
        pads=_pads(options, values[0], _span(weight.shape[1:3], dilation), stride),
        dilation=dilation,
        groups=groups,
    )


def _depthwise(options: Options, values: list[Value], constants: Constants) -> nn.Module:
    """Weights [1, kh, kw, out] in the file, out a multiple of the channels that come in."""
    weight = _weights(options, values, constants)
    stride, dilation = options.pair(2, 1), options.pair(6, 5, 1)
    options.require(weight.shape[0] == 1, f"weights of shape {weight.shape}")
    return Convolution(
        torch.from_numpy(weight.transpose(3, 0, 1, 2)),
        _bias(constants),
        stride=stride,
        pads=_pads(options, values[0], _span(weight.shape[1:3], dilation), stride),
        dilation=dilation,
        groups=values[0].shape[3],
    )


def _max_pool(options: Options, values: list[Value], _: Constants) -> nn.Module:
    options.require(len(values[0].shape) == 4, f"an input of {len(values[0].shape)} axes")
    stride, kernel = options.pair(2, 1), options.pair(4, 3)
    return MaxPool(kernel, stride, _pads(options, values[0], kernel, stride))


def _add(options: Options, values: list[Value], constants: Constants) -> nn.Module:
    shapes = [value.shape for value in values]
    options.require(len(shapes) == 2 and shapes[0] == shapes[1], f"shapes {shapes}")
    options.require(all(part is None for part in constants), "a constant")
    return Add()


def _pad(options: Options, values: list[Value], constants: Constants) -> nn.Module:
    wanted = constants[1]
    options.require(wanted is not None and wanted.shape == (4, 2), "other than four axes")
    assert wanted is not None
    rows = wanted.tolist()
    options.require(
        rows[0] == [0, 0] and 0 <= wanted.min() <= wanted.max() <= LARGEST_PX, f"pads {rows}"
    )
    return Pad((*rows[2], *rows[1], *rows[3]))


def _prelu(options: Options, values: list[Value], constants: Constants) -> nn.Module:
    slope = constants[1]
    options.require(slope is not None and slope.ndim > 0, "a computed slope")
    assert slope is not None
    options.require(slope.size == slope.shape[-1], f"a slope of shape {slope.shape}")
    return PRelu(torch.from_numpy(slope.reshape(-1)))


def _resize(options: Options, values: list[Value], constants: Constants) -> nn.Module:
    size = constants[1]
    options.require(size is not None and size.shape == (2,), "a computed size")
    corners, halves = options.number(2, "b"), options.number(3, "b")
    options.require(
        not corners and bool(halves), f"align_corners {corners}, half_pixel_centers {halves}"
    )
    assert size is not None
    height, width = size.tolist()
    options.require(0 < min(height, width) <= LARGEST_PX >= max(height, width), f"size {size}")
    return Resize((height, width))


def _reshape(options: Options, values: list[Value], constants: Constants) -> nn.Module:
    given = constants[1] if len(constants) > 1 else None
    shape = options.integers(0) if given is None else tuple(given.tolist())
    options.require(bool(shape) and shape[0] == 1 and 0 < len(shape) != 4, f"shape {shape}")
    return Reshape(shape[1:])


def _concat(options: Options, values: list[Value], constants: Constants) -> nn.Module:
    axis, axes = options.number(0), len(values[0].shape)
    axis += axes if axis < 0 else 0
    options.require(0 < axis < axes, f"axis {axis} of {axes}")
    options.require(all(part is None for part in constants), "a constant")
    return Concat(AXES[axis] if axes == 4 else axis)


Maker = Callable[[Options, list[Value], Constants], nn.Module]
# Operator to what makes it, and the number of its option `fused_activation_function`.
_MAKERS: dict[str, tuple[Maker, int | None]] = {
    "ADD": (_add, 0),
    "CONCATENATION": (_concat, 1),
    "CONV_2D": (_conv, 3),
    "DEPTHWISE_CONV_2D": (_depthwise, 4),
    "MAX_POOL_2D": (_max_pool, 5),
    "PAD": (_pad, None),
    "PRELU": (_prelu, None),
    "RELU": (lambda *_: nn.ReLU(), None),
    "RELU6": (lambda *_: nn.ReLU6(), None),
    "RESHAPE": (_reshape, None),
    "RESIZE_BILINEAR": (_resize, None),
}
