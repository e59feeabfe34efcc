"""Single operators of ONNX against onnxruntime, stored weights, and files gone wrong."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.face.weights import load_weights
from operators.nn.onnxnet.network import load_onnx
from operators.nn.onnxnet.wire import Message
from operators.nn.static_graph import ModelFileError
from tests.nn.networks import NEAR, deviation, run_onnx, twin
from tests.nn.onnx_files import field, file, message, node, tensor

RNG = np.random.default_rng(8)
WEIGHT = tensor("w", RNG.normal(size=(4, 2, 3, 3)).astype(np.float32))
BIAS = tensor("b", RNG.normal(size=4).astype(np.float32), raw=False)


def agree(content: bytes, channels: int = 2, sides: tuple[int, int] = (9, 7)) -> None:
    """The module gives what onnxruntime gives for the file, on numbers of both signs."""
    x = torch.from_numpy(RNG.normal(size=(1, channels, *sides)).astype(np.float32) * 3)
    (found,), (wanted,) = load_onnx(content)(x), run_onnx(content)(x)
    assert deviation(found, wanted) < NEAR


@settings(max_examples=30)
@given(st.tuples(*[st.integers(0, 2)] * 4), st.tuples(*[st.integers(1, 2)] * 2), st.integers(1, 2))
def test_convolutions(pads: tuple[int, ...], strides: tuple[int, ...], dilation: int) -> None:
    given_ = {"pads": pads, "strides": strides, "dilations": (dilation, dilation)}
    agree(file([node("Conv", ["x", "w", "b"], ["y"], **given_)], [WEIGHT, BIAS]))


def test_grouped_convolution_without_bias_by_defaults() -> None:
    weight = tensor("w", RNG.normal(size=(6, 1, 2, 3)).astype(np.float32))
    agree(file([node("Conv", ["x", "w"], ["y"], group=2)], [weight]))


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_transposed_convolutions(stride: int) -> None:
    weight = tensor("w", RNG.normal(size=(2, 4, 2, 2)).astype(np.float32))
    up = node("ConvTranspose", ["x", "w", "b"], ["y"], strides=(stride, stride))
    agree(file([up], [weight, BIAS]))


def test_the_other_operators() -> None:
    parts = [tensor(name, RNG.uniform(0.5, 2, 2).astype(np.float32)) for name in "gsmv"]
    nodes = [
        node("BatchNormalization", ["x", *"gsmv"], ["n"], epsilon=1e-3, momentum=0.9),
        node("Relu", ["n"], ["r"]),
        node("Add", ["r", "x"], ["a"]),
        node("Sigmoid", ["a"], ["y"]),
    ]
    agree(file(nodes, parts))


def test_weights_become_what_the_file_says() -> None:
    """Of 8 bits with a scale per output, and in half precision: exactly as onnxruntime has them."""
    small = RNG.integers(-128, 128, (4, 2, 3, 3)).astype(np.int8)
    scale = RNG.uniform(0.001, 0.1, (4, 1, 1, 1)).astype(np.float32)
    half = RNG.normal(size=4).astype(np.float16)
    nodes = [
        node("Cast", ["w8"], ["w32"], to=1),
        node("Mul", ["w32", "scale"], ["w"]),
        node("Cast", ["b16"], ["b"], to=1),
        node("Conv", ["x", "w", "b"], ["y"]),
    ]
    content = file(nodes, [tensor("w8", small), tensor("scale", scale), tensor("b16", half)])
    agree(content)
    weight, bias = load_onnx(content).parameters()
    assert np.array_equal(weight.numpy(), small.astype(np.float32) * scale)
    assert np.array_equal(bias.numpy(), half.astype(np.float32))


@pytest.mark.parametrize("sides", [(32, 32), (64, 96), (96, 32)])
def test_centerface_takes_any_size_in_steps(sides: tuple[int, int]) -> None:
    x = torch.from_numpy(RNG.uniform(0, 255, (1, 3, *sides)).astype(np.float32))
    run = run_onnx("centerface.onnx")
    for found, wanted in zip(twin("centerface.onnx")(x), run(x), strict=True):
        assert deviation(found, wanted) < NEAR


# ---- the wire format


@settings(max_examples=40)
@given(st.integers(-(2**63), 2**63 - 1), st.floats(width=32, allow_nan=False), st.text())
def test_what_is_written_is_read(number: int, real: float, text: str) -> None:
    read = Message(message({1: number, 2: real, 3: text, 4: [number, 7], 5: [text, "b"]}))
    assert read.integer(1) == number
    assert read.float32(2, 0.0) == real
    assert read.text(3) == text
    assert read.integers(4) == (number, 7)
    assert read.texts(5) == [text, "b"]
    assert (read.integer(9, 5), read.float32(9, 0.5), read.text(9)) == (5, 0.5, "")


def test_packed_numbers_are_read_too() -> None:
    assert Message(field(1, bytes([1, 0x80, 0x01, 5]))).integers(1) == (1, 128, 5)


# ---- files gone wrong


@pytest.mark.parametrize("share", [0, 1e-5, 0.001, 0.1, 0.5, 0.9, 0.99999])
def test_a_file_cut_off(share: float) -> None:
    content = load_weights("centerface.onnx")
    with pytest.raises(ModelFileError, match="cut off"):
        load_onnx(content[: int(len(content) * share)])


@pytest.mark.parametrize("content", [b"\0" * 64, b"PK\3\4" * 40, b"\xff" * 30])
def test_another_format(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"damaged|no ONNX file"):
        load_onnx(content)


@pytest.mark.parametrize("opset", [7, 12, 14, 22])
def test_another_opset(opset: int) -> None:
    content = file([node("Relu", ["x"], ["y"])], opset=opset)
    with pytest.raises(ModelFileError, match=rf"\{{'': {opset}\}}; version 13 can be read"):
        load_onnx(content)


RELU = node("Relu", ["x"], ["y"])
HALVES = tensor("w", np.zeros((4, 2, 3, 3), np.float16))
WRONG: dict[str, bytes] = {
    "operator 1 of 2: operator Selu is not known": file(
        [node("Relu", ["x"], ["a"]), node("Selu", ["a"], ["y"])]
    ),
    "operator com.other.Relu is not known": file([node("Relu", ["x"], ["y"], "com.other")]),
    r"Conv with the attributes \['auto_pad'\]": file(
        [node("Conv", ["x", "w"], ["y"], auto_pad="SAME_UPPER")], [WEIGHT]
    ),
    "Conv with another kernel_shape": file(
        [node("Conv", ["x", "w"], ["y"], kernel_shape=(1, 1))], [WEIGHT]
    ),
    "Conv with computed weights": file([node("Conv", ["x", "x"], ["y"])]),
    r"Conv with pads \(-1": file([node("Conv", ["x", "w"], ["y"], pads=(-1, 0, 0, 0))], [WEIGHT]),
    r"Conv with strides 2": file([node("Conv", ["x", "w"], ["y"], strides=2)], [WEIGHT]),
    r"Conv with group \(1,\)": file([node("Conv", ["x", "w"], ["y"], group=(1,))], [WEIGHT]),
    "ConvTranspose with groups": file(
        [node("ConvTranspose", ["x", "w"], ["y"], group=2)], [WEIGHT]
    ),
    "Relu gives 2 values": file([node("Relu", ["x"], ["y", "z"])]),
    "Add with a constant": file([node("Add", ["x", "w"], ["y"])], [WEIGHT]),
    "Cast of constants to type 10": file([node("Cast", ["w"], ["y"], to=10)], [WEIGHT]),
    "operator Relu of constants": file([node("Relu", ["w"], ["y"])], [WEIGHT]),
    "Mul of constants of two types": file([node("Mul", ["w", "b"], ["y"])], [HALVES, BIAS]),
    r"operator 0 of 1: The size of tensor": file([node("Mul", ["w", "b"], ["y"])], [WEIGHT, BIAS]),
    "no operator before gives it": file([node("Relu", ["z"], ["y"])]),
    "do not fit each other": file([node("Conv", ["x", "w"], ["y"])], [WEIGHT], sides=(1, 3, 8, 8)),
    r"fit each other: .*[tT]ype": file([node("Conv", ["x", "w"], ["y"])], [HALVES]),
    "input 'x' is not float32": file([RELU], kind=10),
    r"not \[1, C, H, W\]": file([RELU], sides=(2, 3, 8, 8)),
    "numbers are taken": file([RELU], sides=(1, 2**20, 2**20, 3)),
    "is of type 9 or": file([RELU], [message({1: [1], 2: 9, 8: "w", 9: b"1"})]),
    "has 2 bytes for shape": file([RELU], [message({1: [1], 2: 1, 8: "w", 9: b"12"})]),
    "attribute 'to' is of type 5": file(
        [message({1: ["x"], 2: ["y"], 4: "Relu", 5: message({1: "to", 20: 5})})]
    ),
    "without a graph": message({1: 8, 8: message({1: "", 2: 13})}),
}


@pytest.mark.parametrize("told", WRONG)
def test_what_is_not_known_is_refused(told: str) -> None:
    with pytest.raises(ModelFileError, match=told):
        load_onnx(WRONG[told])


def test_damage_is_found_or_harmless() -> None:
    """Any byte may be another: a ModelFileError, or a network; nothing else."""
    content = file([node("Conv", ["x", "w", "b"], ["y"], pads=(1, 1, 0, 0))], [WEIGHT, BIAS])
    draw = random.Random(7)
    refused = 0
    for _ in range(400):
        damaged = bytearray(content)
        for _ in range(draw.choice((1, 1, 4))):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        try:
            load_onnx(bytes(damaged))
        except ModelFileError:
            refused += 1
    assert refused > 40
