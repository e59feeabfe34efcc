"""What the tests of the detectors' torch twins share: pictures, the runtimes, how near is near."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import nn

from operators.face.weights import load_weights
from operators.nn.onnxnet.network import load_onnx
from operators.nn.tflite.network import load_tflite
from tests.operators.faces import astronaut

NEAR = 1e-5  # of an output's largest value, or of 1: single precision, added up in another order


class Network(NamedTuple):
    """A shipped file, the size to try it with and the range of its pixels."""

    file: str
    height: int
    width: int
    low: float
    high: float


NETWORKS = (
    Network("blazeface_short_range.tflite", 128, 128, -1, 1),
    Network("blazeface_full_range.tflite", 192, 192, -1, 1),
    Network("blazeface_back.tflite", 256, 256, -1, 1),
    Network("face_mesh.tflite", 192, 192, 0, 1),
    Network("centerface.onnx", 160, 224, 0, 255),
)
NAMES = [network.file for network in NETWORKS]


@cache
def twin(file: str) -> nn.Module:
    """The torch module of a shipped file."""
    load: Any = load_tflite if file.endswith(".tflite") else load_onnx
    return load(load_weights(file))


def runtime_of(file: str) -> Any:
    """[1, C, H, W] to the outputs of the runtime that the file is made for."""
    return run_tflite(load_weights(file)) if file.endswith(".tflite") else run_onnx(file)


def run_tflite(content: bytes) -> Any:
    """LiteRT on the reference kernels' side of the layout: maps go in as [1, H, W, C]."""
    from ai_edge_litert.interpreter import Interpreter

    net = Interpreter(model_content=content, num_threads=1)
    net.allocate_tensors()
    index = net.get_input_details()[0]["index"]

    def run(x: torch.Tensor) -> list[np.ndarray]:
        net.set_tensor(index, x.permute(0, 2, 3, 1).contiguous().numpy())
        net.invoke()
        return [net.get_tensor(output["index"]).copy() for output in net.get_output_details()]

    return run


def run_onnx(file: str | bytes) -> Any:
    """onnxruntime on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    content = file if isinstance(file, bytes) else load_weights(file)
    net = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    name = net.get_inputs()[0].name
    return lambda x: net.run(None, {name: x.contiguous().numpy()})


def pictures(network: Network) -> torch.Tensor:
    """[6, 3, H, W]: four views of a face, two of noise, in the network's range."""
    whole = astronaut()
    views = [whole, whole[:, ::-1], whole[20:220, 120:320], whole[40:200, 140:300]]
    size = (network.width, network.height)
    small = [cv2.resize(np.ascontiguousarray(view), size, interpolation=3) for view in views]
    shape = (2, network.height, network.width, 3)
    noise = np.random.default_rng(4).integers(0, 256, shape)
    stack = np.concatenate([np.stack(small), noise]).astype(np.float32) / 255
    scaled = stack * (network.high - network.low) + network.low
    return torch.from_numpy(scaled.astype(np.float32)).permute(0, 3, 1, 2)


def deviation(given: torch.Tensor, wanted: np.ndarray | torch.Tensor) -> float:
    """The largest difference, in units of the largest value or of 1."""
    expected = np.asarray(wanted)
    assert tuple(given.shape) == expected.shape
    largest = max(1.0, float(np.abs(expected).max()))
    return float(np.abs(given.detach().numpy() - expected).max()) / largest
