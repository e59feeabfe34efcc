"""Single operators of TFLite against LiteRT, SAME padding against loops, and files gone wrong."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.face.weights import load_weights
from operators.nn.static_graph import ModelFileError
from operators.nn.tflite.network import load_tflite
from tests.nn.networks import NEAR, deviation, run_tflite
from tests.nn.tflite_files import File, options, sizes

SIDES, KERNELS, STRIDES = st.integers(3, 11), st.integers(1, 3), st.integers(1, 3)
SMALL = "blazeface_short_range.tflite"


def agree(file: File, seed: int = 0) -> None:
    """The module gives what LiteRT gives for the file, on numbers of both signs."""
    content = file.content()
    _, height, width, channels = file.graph.tensors[0].shape
    x = torch.from_numpy(
        np.random.default_rng(seed).normal(size=(1, channels, height, width)).astype(np.float32) * 3
    )
    (found,), (wanted,) = load_tflite(content)(x), run_tflite(content)(x)
    assert deviation(found, wanted) < NEAR


def conv_file(
    shape: tuple[int, int, int], kernel: tuple[int, int], stride: int, **fields: object
) -> File:
    """CONV_2D to 4 channels with a bias; `same=False` is VALID."""
    same = bool(fields.pop("same", True))
    (height, width, channels), rng = shape, np.random.default_rng(2)
    file = File((1, *shape))
    weight = file.constant(rng.normal(size=(4, *kernel, channels)).astype(np.float32))
    bias = file.constant(rng.normal(size=4).astype(np.float32))
    given = options("Conv2D", padding=int(not same), strideH=stride, strideW=stride, **fields)
    dilation = given.dilationHFactor
    spans = [(k - 1) * dilation + 1 for k in kernel]
    out = [sizes(*axis, stride, same=same) for axis in zip((height, width), spans, strict=True)]
    file.call("CONV_2D", [0, weight, bias], (1, *out, 4), given)
    return file


@settings(max_examples=40)
@given(SIDES, SIDES, KERNELS, KERNELS, STRIDES, st.booleans())
def test_convolutions(
    height: int, width: int, high: int, wide: int, stride: int, same: bool
) -> None:
    agree(conv_file((height, width, 3), (high, wide), stride, same=same))


@settings(max_examples=25)
@given(SIDES, SIDES, KERNELS, STRIDES, st.booleans(), st.integers(1, 2))
def test_depthwise_convolutions(
    height: int, width: int, kernel: int, stride: int, same: bool, multiplier: int
) -> None:
    rng, file = np.random.default_rng(3), File((1, height, width, 3))
    out = 3 * multiplier
    weight = file.constant(rng.normal(size=(1, kernel, kernel, out)).astype(np.float32))
    bias = file.constant(rng.normal(size=out).astype(np.float32))
    made = options(
        "DepthwiseConv2D",
        padding=int(not same),
        strideH=stride,
        strideW=stride,
        depthMultiplier=multiplier,
    )
    sides = [sizes(side, kernel, stride, same=same) for side in (height, width)]
    file.call("DEPTHWISE_CONV_2D", [0, weight, bias], (1, *sides, out), made)
    agree(file)


@settings(max_examples=25)
@given(SIDES, SIDES, KERNELS, STRIDES, st.booleans())
def test_pools(height: int, width: int, kernel: int, stride: int, same: bool) -> None:
    """Zeros around the map would win over its negative numbers."""
    file = File((1, height, width, 2))
    made = options(
        "Pool2D",
        padding=int(not same),
        strideH=stride,
        strideW=stride,
        filterHeight=kernel,
        filterWidth=kernel,
    )
    sides = [sizes(side, kernel, stride, same=same) for side in (height, width)]
    file.call("MAX_POOL_2D", [0], (1, *sides, 2), made)
    agree(file)


@settings(max_examples=40)
@given(st.integers(1, 10), st.integers(1, 10), st.integers(1, 5), st.sampled_from([1, 2]))
def test_same_padding_is_that_of_the_definition(
    height: int, width: int, kernel: int, stride: int
) -> None:
    """Output i is the sum over x[i s - before + k], `before` half of what is missing, down."""
    file = conv_file((height, width, 2), (kernel, kernel), stride)
    weight, bias = (
        np.frombuffer(bytes(buffer.data), np.float32) for buffer in file.model.buffers[1:]
    )
    weight = weight.reshape(4, kernel, kernel, 2)
    x = np.random.default_rng(5).normal(size=(height, width, 2)).astype(np.float32)
    out = [-(-side // stride) for side in (height, width)]
    before = [
        max((many - 1) * stride + kernel - side, 0) // 2
        for many, side in zip(out, (height, width), strict=True)
    ]
    expected = np.tile(bias, (1, *out, 1)).astype(np.float64)
    for i, j, a, b in np.ndindex(*out, kernel, kernel):
        row, column = i * stride - before[0] + a, j * stride - before[1] + b
        if 0 <= row < height and 0 <= column < width:
            expected[0, i, j] += weight[:, a, b] @ x[row, column]
    (found,) = load_tflite(file.content())(torch.from_numpy(x).permute(2, 0, 1)[None])
    assert deviation(found, expected) < NEAR


@pytest.mark.parametrize("activation", [0, 1, 3])
def test_fused_activations(activation: int) -> None:
    agree(conv_file((6, 5, 2), (3, 3), 1, fusedActivationFunction=activation))
    file = File((1, 4, 4, 2))
    made = options("Add", fusedActivationFunction=activation)
    file.call("ADD", [0, 0], (1, 4, 4, 2), made)
    agree(file)


def test_dilated_and_grouped_convolutions() -> None:
    agree(conv_file((9, 8, 2), (3, 3), 1, dilationHFactor=2, dilationWFactor=2))
    file, rng = File((1, 5, 5, 4)), np.random.default_rng(6)
    weight = file.constant(rng.normal(size=(6, 3, 3, 2)).astype(np.float32))
    bias = file.constant(rng.normal(size=6).astype(np.float32))
    file.call("CONV_2D", [0, weight, bias], (1, 5, 5, 6), options("Conv2D"))
    agree(file)


def test_the_other_operators() -> None:
    file = File((1, 4, 6, 2))
    pads = file.constant(np.array([[0, 0], [1, 2], [0, 3], [0, 2]], np.int32))
    wider = file.call("PAD", [0, pads], (1, 7, 9, 4))
    half = file.constant(np.array([0.5, -0.25, 1 / 3, 2], np.float16)[None, None])
    slope = file.call("DEQUANTIZE", [half], (1, 1, 4), options("Dequantize"))
    sloped = file.call("PRELU", [wider, slope], (1, 7, 9, 4))
    size = file.constant(np.array([10, 5], np.int32))
    made = options("ResizeBilinear", halfPixelCenters=True, alignCorners=False)
    small = file.call("RESIZE_BILINEAR", [sloped, size], (1, 10, 5, 4), made)
    file.call("RELU6", [file.call("RELU", [small], (1, 10, 5, 4))], (1, 10, 5, 4))
    agree(file)


@pytest.mark.parametrize("axis", [1, 2, 3, -1])
def test_maps_are_put_together_along_the_files_axis(axis: int) -> None:
    file = File((1, 3, 4, 2))
    shape = [1, 3, 4, 2]
    shape[axis] *= 2
    made = options("Concatenation", axis=axis)
    other = file.call("RELU", [0], (1, 3, 4, 2))
    file.call("CONCATENATION", [0, other], tuple(shape), made)
    agree(file)


@pytest.mark.parametrize("spelling", ["option", "input"])
def test_a_reshape_keeps_the_files_order(spelling: str) -> None:
    file = File((1, 3, 4, 4))
    if spelling == "option":
        file.call("RESHAPE", [0], (1, 24, 2), options("Reshape", newShape=[1, -1, 2]))
    else:
        shape = file.constant(np.array([1, 24, 2], np.int32))
        file.call("RESHAPE", [0, shape], (1, 24, 2), options("Reshape"))
    agree(file)


# ---- files gone wrong


@pytest.mark.parametrize("share", [0, 1e-5, 0.001, 0.1, 0.5, 0.9, 0.9999])
def test_a_file_cut_off(share: float) -> None:
    content = load_weights(SMALL)
    with pytest.raises(ModelFileError, match=r"cut off|another format"):
        load_tflite(content[: int(len(content) * share)])


@pytest.mark.parametrize("content", [b"", b"\0" * 64, b"PK\3\4" * 40, b"\x08\x08\x12\x07pytorch"])
def test_another_format(content: bytes) -> None:
    with pytest.raises(ValueError, match="another format"):
        load_tflite(content)


def test_another_version() -> None:
    file = conv_file((4, 4, 2), (1, 1), 1)
    file.model.version = 2
    with pytest.raises(ModelFileError, match="schema version 2; version 3 can be read"):
        load_tflite(file.content())


@pytest.mark.parametrize("operator", ["FLOOR", "LOGISTIC", "HARD_SWISH", "GELU"])
def test_an_unknown_operator_is_named(operator: str) -> None:
    file = File((1, 4, 4, 2))
    file.call(operator, [file.call("RELU", [0], (1, 4, 4, 2))], (1, 4, 4, 2))
    named = operator if operator in ("FLOOR", "LOGISTIC") else r"number \d+"
    with pytest.raises(ModelFileError, match=f"operator 1 of 2: operator {named} is not known"):
        load_tflite(file.content())


def constant(file: File, *values: object, dtype: type = np.int32) -> int:
    return file.constant(np.array(values, dtype))


# Well made files that ask for what no layer does, or contradict themselves.
WRONG: dict[str, Callable[[File], object]] = {
    "2 subgraphs": lambda file: file.model.subgraphs.append(file.graph),
    "type 3": lambda file: constant(file, 0, dtype=np.uint8),
    "half_pixel_centers": lambda file: file.call(
        "RESIZE_BILINEAR", [0, constant(file, 8, 8)], (1, 8, 8, 2), options("ResizeBilinear")
    ),
    "axis 0 of 4": lambda file: file.call(
        "CONCATENATION", [0, 0], (2, 4, 4, 2), options("Concatenation", axis=0)
    ),
    "ADD with activation 4": lambda file: file.call(
        "ADD", [0, 0], (1, 4, 4, 2), options("Add", fusedActivationFunction=4)
    ),
    "the file says": lambda file: file.call("RELU", [0], (1, 4, 4, 3)),
    "no operator before gives it": lambda file: file.call(
        "RELU", [file.value((1, 4, 4, 2))], (1, 4, 4, 2)
    ),
    "has 12 bytes, its shape needs 16": lambda file: setattr(
        file.graph.tensors[constant(file, 1, 2, 3)], "shape", [4]
    ),
    "PAD with pads": lambda file: file.call(
        "PAD", [0, constant(file, (0, 0), (0, 2**30), (0, 0), (0, 0))], (1, 4, 4, 2)
    ),
    r"not \[1, H, W, C\]": lambda file: setattr(file.graph.tensors[0], "shape", [1, 8]),
    "numbers are taken": lambda file: setattr(file.graph.tensors[0], "shape", [1, 2**30, 9, 9]),
    "CONV_2D with computed weights": lambda file: file.call(
        "CONV_2D", [0, 0, -1], (1, 4, 4, 1), options("Conv2D")
    ),
    "do not fit each other": lambda file: file.call(
        "PRELU", [0, constant(file, 1, 2, 3, dtype=np.float32)], (1, 4, 4, 2)
    ),
    "DEQUANTIZE of anything but half": lambda file: file.call("DEQUANTIZE", [0], (1, 4, 4, 2)),
}


@pytest.mark.parametrize("told", WRONG)
def test_what_is_not_known_is_refused(told: str) -> None:
    file = File((1, 4, 4, 2))
    WRONG[told](file)
    with pytest.raises(ModelFileError, match=told):
        load_tflite(file.content())


def test_damage_is_found_or_harmless() -> None:
    """Any byte may be another: a ModelFileError, or a network; nothing else."""
    content = conv_file((5, 5, 2), (3, 3), 2).content()
    draw = random.Random(7)
    refused = 0
    for _ in range(400):
        damaged = bytearray(content)
        for _ in range(draw.choice((1, 1, 4))):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        try:
            load_tflite(bytes(damaged))
        except ModelFileError:
            refused += 1
    assert refused > 40
