"""What computes the pictures of `Dream`: torch, an engine that was built, a GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.errors import CompileError
from engine.testing import HarnessContext, run_operator
from operators.generate import network as module
from operators.generate.dream import Dream, DreamConfig
from operators.generate.network import ar_diffusion_decoder, decoder_network
from operators.nn.ar_diffusion.files import load_system
from tests.operators.models import random_ar_diffusion


@pytest.fixture(autouse=True)
def engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of compiled models of its own."""
    monkeypatch.setenv("FRAMELOOM_ENGINES", str(tmp_path / "engines"))


def film(ctx: HarnessContext, **settings: str) -> list[np.ndarray]:
    config = DreamConfig(
        checkpoint=str(random_ar_diffusion()), frames=6, realtime=False, prompt="pan", **settings
    )  # type: ignore[arg-type]
    return [result.frames.data for result in run_operator(Dream(config), ctx=ctx)]


def test_the_decoder_is_offered_as_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHIPPED", random_ar_diffusion())
    network = ar_diffusion_decoder()
    (tokens,) = network.example
    assert tokens.shape == (1, 4, 4)
    assert torch.allclose(tokens.norm(dim=-1), torch.ones(1, 4))
    system = load_system(random_ar_diffusion())
    with torch.inference_mode():
        assert torch.equal(network.module(*network.example), system.vae.decode(tokens))
    again = decoder_network(system.vae.decoder, system.config.vae)
    assert torch.equal(again.example[0], tokens), "one engine serves builder and node"


def test_without_an_engine_torch_does_it_and_says_so() -> None:
    ctx = HarnessContext()
    film(ctx)
    assert ctx.reports == [
        (
            "ENGINE",
            "decoder by torch eager in fp32: no engine was built for this machine;"
            " `engine: auto` measures what is faster",
        )
    ]
    by_name = HarnessContext()
    film(by_name, engine="eager")
    assert by_name.reports == [("ENGINE", "decoder by torch eager in fp32")]


@pytest.mark.slow
def test_an_engine_makes_the_same_pictures() -> None:
    plain, ctx = film(HarnessContext()), HarnessContext()
    compiled = film(ctx, engine="onnxruntime")
    assert ctx.reports == [("ENGINE", "decoder by onnxruntime in fp32")]
    for one, other in zip(plain, compiled, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1


def test_an_engine_that_cannot_be_had_is_an_error() -> None:
    with pytest.raises(CompileError):
        film(HarnessContext(), engine="tensorrt")


@pytest.mark.needs_cuda
def test_a_gpu_makes_the_same_pictures() -> None:
    ctx = HarnessContext()
    ctx.device = "cuda:0"
    made, plain = film(ctx), film(HarnessContext())
    assert ctx.reports[0][1].startswith("decoder by torch eager in fp32 on cuda:0")
    for one, other in zip(plain, made, strict=True):
        assert np.abs(one.astype(int) - other).mean() < 2
