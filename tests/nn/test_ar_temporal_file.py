"""The file of the layers: what is written is what is read, for the decoder that it belongs to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import safetensors
import safetensors.torch
import torch

from operators.nn.ar_diffusion.temporal_file import load_layers, save_layers
from operators.nn.ar_diffusion.vae import Vae
from operators.nn.vlm.compact_file import tensor_digest
from tests.nn.ar_models import VAE, looking_back, unit

KEY = "frameloom.ar_temporal"
CARD = {"settings": {"temporal_steps": 5}}


def vae(seed: int = 2) -> Vae:
    torch.manual_seed(seed)
    made = Vae(VAE).eval().requires_grad_(False)
    torch.nn.init.normal_(made.decoder.pixels.rgb.weight, std=0.1)
    return made


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    save_layers(tmp_path / "layers.safetensors", looking_back(vae()), CARD)
    return tmp_path / "layers.safetensors"


def rewritten(path: Path, change: Any) -> Path:
    """A file whose digest is right, whatever else is not; `change` gets tensors and header."""
    with safetensors.safe_open(path, "pt") as file:
        header = msgspec.json.decode(file.metadata()[KEY])
    tensors = safetensors.torch.load_file(path)
    change(tensors, header)
    text = msgspec.json.encode(header | {"digest": tensor_digest(tensors)}).decode()
    path.write_bytes(safetensors.torch.save(tensors, {KEY: text}))
    return path


def test_a_round_trip_keeps_card_and_what_the_decoder_shows(tmp_path: Path) -> None:
    path, own = tmp_path / "x.safetensors", vae()
    temporal, z = looking_back(own), unit(2, 3, 4, 3)
    sha = save_layers(path, temporal, CARD)
    layers = load_layers(path, own)
    assert (layers.card, layers.sha) == (CARD, sha)
    assert layers.decoder.decoder is own.decoder
    assert not any(weight.requires_grad for weight in layers.decoder.parameters())
    torch.testing.assert_close(layers.decoder(z), temporal(z), atol=0.02, rtol=0)
    again = save_layers(tmp_path / "y.safetensors", layers.decoder, CARD)
    assert again == sha, "what was rounded once is saved without a loss"


def test_layers_of_another_decoder_are_refused(whole: Path) -> None:
    with pytest.raises(ValueError, match="belongs to another decoder"):
        load_layers(whole, vae(seed=3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors, header: header.update(version=2), "version 2, only 1"),
        (lambda tensors, header: header.update(more=1), "its header is wrong"),
        (lambda tensors, header: tensors.pop("0.fine_norm.bias"), "does not fit: .*fine_norm.bias"),
        (lambda tensors, header: tensors.update(x=torch.ones(1).half()), "does not fit: .*x"),
        (
            lambda tensors, header: tensors.update({"0.fine_norm.bias": torch.ones(3).half()}),
            "does not fit: .*fine_norm.bias",
        ),
        (
            lambda tensors, header: tensors.update({"0.fine_norm.bias": torch.ones(16)}),
            "does not fit: .*float32",
        ),
    ],
)
def test_what_does_not_fit_is_refused(whole: Path, change: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_layers(rewritten(whole, change), vae())


def test_what_is_no_such_file_is_refused(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_layers(tmp_path / "none", vae())
    data = whole.read_bytes()
    whole.write_bytes(data[:-4])
    with pytest.raises(ValueError, match="no whole safetensors file"):
        load_layers(whole, vae())
    whole.write_bytes(data[:-4] + bytes(a ^ 1 for a in data[-4:]))
    with pytest.raises(ValueError, match="damaged"):
        load_layers(whole, vae())
    whole.write_bytes(safetensors.torch.save({"x": torch.ones(1)}))
    with pytest.raises(ValueError, match="holds no layers that look back"):
        load_layers(whole, vae())


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    temporal = looking_back(vae())
    temporal.layers[0].get_parameter("fine.out.bias").data[0] = torch.inf
    with pytest.raises(ValueError, match=r"fine\.out\.bias cannot be saved"):
        save_layers(tmp_path / "x", temporal, CARD)
    assert not (tmp_path / "x").exists()
