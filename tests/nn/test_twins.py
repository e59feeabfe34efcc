"""The torch twins of the shipped detectors: what LiteRT and onnxruntime give, for any batch."""

from __future__ import annotations

import pytest
import torch

from operators.face.weights import load_weights
from operators.nn.onnxnet.network import load_onnx
from tests.nn.networks import NAMES, NEAR, NETWORKS, Network, deviation, pictures, runtime_of, twin

EVERY = pytest.mark.parametrize("network", NETWORKS, ids=NAMES)


def outputs_of(network: Network, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    with torch.inference_mode():
        return twin(network.file)(x)


@pytest.mark.slow
@EVERY
def test_every_output_is_the_runtimes(network: Network) -> None:
    run = runtime_of(network.file)
    for picture in pictures(network).split(1):
        found, wanted = outputs_of(network, picture), run(picture)
        assert len(found) == len(wanted)
        worst = max(deviation(*pair) for pair in zip(found, wanted, strict=True))
        assert worst < NEAR


@EVERY
def test_a_batch_gives_what_each_picture_gives_alone(network: Network) -> None:
    x = pictures(network)[:4]
    alone = [outputs_of(network, picture) for picture in x.split(1)]
    for n, together in enumerate(outputs_of(network, x)):
        assert deviation(together, torch.cat([outputs[n] for outputs in alone])) < NEAR


@EVERY
def test_channels_may_lie_last(network: Network) -> None:
    x = pictures(network)[2:3]
    first = outputs_of(network, x.contiguous())
    last = outputs_of(network, x.contiguous(memory_format=torch.channels_last))
    for a, b in zip(first, last, strict=True):
        assert deviation(a, b) < NEAR


@pytest.mark.slow
@EVERY
def test_it_can_be_exported_with_any_batch(network: Network) -> None:
    x = pictures(network)
    batch = torch.export.Dim("batch", min=1, max=16)
    program = torch.export.export(
        twin(network.file), (x[:2],), dynamic_shapes=(({0: batch},),), strict=False
    )
    for count in (1, 5):
        found = program.module()(x[:count])
        for a, b in zip(found, outputs_of(network, x[:count]), strict=True):
            assert deviation(a, b) < NEAR


@pytest.mark.slow
def test_centerface_can_be_exported_for_any_size() -> None:
    height, width = (torch.export.Dim(name, min=2, max=60) for name in ("height", "width"))
    shapes = (({0: torch.export.Dim("batch"), 2: 32 * height, 3: 32 * width},),)
    net = twin("centerface.onnx")
    program = torch.export.export(net, (torch.zeros(2, 3, 96, 128),), dynamic_shapes=shapes)
    x = torch.rand(3, 3, 160, 64) * 255
    for a, b in zip(program.module()(x), net(x), strict=True):
        assert deviation(a, b) < NEAR


@EVERY
def test_pictures_of_another_shape_are_refused(network: Network) -> None:
    x = pictures(network)[:1]
    for other in (x[0], x[:, :2], x.permute(0, 2, 3, 1)):
        with pytest.raises(ValueError, match="has shape"):
            twin(network.file)(other)
    if network.file.endswith(".tflite"):
        with pytest.raises(ValueError, match="has shape"):
            twin(network.file)(x[..., :-32])


@pytest.mark.parametrize("network", NETWORKS[:1] + NETWORKS[-1:], ids=lambda n: n.file)
def test_nothing_is_trained_or_random(network: Network) -> None:
    net = twin(network.file)
    assert not net.training
    assert not any(weight.requires_grad for weight in net.parameters())
    before = torch.get_rng_state()
    if network.file.endswith(".onnx"):
        again = load_onnx(load_weights(network.file))
        assert torch.equal(torch.get_rng_state(), before)
        for (name, a), b in zip(net.named_parameters(), again.parameters(), strict=True):
            assert torch.equal(a, b), name


@pytest.mark.needs_cuda
@EVERY
def test_on_a_gpu_it_is_the_same_network(network: Network) -> None:
    """TF32 off: what is compared is the arithmetic of the layers, not a shorter mantissa."""
    allowed = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    net = twin(network.file)
    x = pictures(network)
    try:
        with torch.inference_mode():
            found = net.to("cuda")(x.to("cuda"))
    finally:
        net.to("cpu")
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = allowed
    for a, b in zip(found, outputs_of(network, x), strict=True):
        assert deviation(a.cpu(), b) < 10 * NEAR
