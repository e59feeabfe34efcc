"""The file of a system: what is written is what is read, and nothing else is."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import pytest
import safetensors
import safetensors.torch
import torch

from operators.nn.ar_diffusion.denoiser import Denoiser
from operators.nn.ar_diffusion.files import load_system, save_system
from operators.nn.ar_diffusion.vae import Vae
from operators.nn.packed import SCALE, pack, unpack
from operators.nn.vlm.compact_file import tensor_digest
from tests.nn.ar_models import SYSTEM, awake, unit

KEY = "frameloom.ar_diffusion"
CARD = {"steps": 5, "metrics": {"psnr_db": 21.5}}


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    path = tmp_path / "small.safetensors"
    torch.manual_seed(2)
    save_system(path, SYSTEM, Vae(SYSTEM.vae), awake(), CARD)
    return path


def parts(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    with safetensors.safe_open(path, "pt") as file:
        header = msgspec.json.decode(file.metadata()[KEY])
    return safetensors.torch.load_file(path), header


def rewritten(path: Path, tensors: dict[str, torch.Tensor], header: dict[str, Any]) -> Path:
    """A file whose digest is right, whatever else is not."""
    text = msgspec.json.encode(header | {"digest": tensor_digest(tensors)}).decode()
    path.write_bytes(safetensors.torch.save(tensors, {KEY: text}))
    return path


def off(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((found - exact).norm().detach() / exact.norm().detach())


def test_a_round_trip_keeps_sizes_card_and_what_the_networks_say(tmp_path: Path) -> None:
    torch.manual_seed(3)
    path, vae, denoiser = tmp_path / "x.safetensors", Vae(SYSTEM.vae).eval(), awake()
    torch.nn.init.normal_(vae.decoder.pixels.rgb.weight, std=0.1)
    sha = save_system(path, SYSTEM, vae, denoiser, CARD)
    system = load_system(path)
    assert system.config == SYSTEM
    assert system.card == CARD
    assert system.sha == sha
    frames, z = torch.rand(2, 3, 16, 16), unit(1, 4, 4, 3)
    t, labels = torch.tensor([[1, 5, 50, 99]]), torch.tensor([1])
    assert off(system.vae.encode(frames), vae.encode(frames)) < 0.02
    assert off(system.vae.decode(z[0]), vae.decode(z[0])) < 0.02
    assert off(system.denoiser(z, t, labels), denoiser(z, t, labels)) < 0.03
    for module, given in ((system.vae, vae), (system.denoiser, denoiser)):
        kept = unpack(pack(given.state_dict()))
        for name, value in module.state_dict().items():
            assert torch.equal(value, kept[name])
        assert not module.training
        assert not any(weight.requires_grad for weight in module.parameters())
    assert save_system(path, system.config, system.vae, system.denoiser, CARD) == sha


def test_large_matrices_are_int8_in_the_file_and_all_else_is_half(whole: Path) -> None:
    tensors, _ = parts(whole)
    assert {value.dtype for value in tensors.values()} == {torch.float16, torch.int8}
    assert tensors["denoiser.blocks.0.mlp.0.weight"].dtype == torch.int8
    for name in ("denoiser.contexts", "denoiser.places", "vae.encoder.places"):
        assert tensors[name].dtype == torch.float16
    told = sum(value.numel() * value.element_size() for value in tensors.values())
    assert whole.stat().st_size < told + 130 * len(tensors) + 2000


def test_every_cut_and_every_turned_byte_is_refused(whole: Path) -> None:
    data = whole.read_bytes()
    for length in (0, 7, 100, len(data) // 2, len(data) - 1):
        whole.write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"small\.safetensors is no whole safetensors file"):
            load_system(whole)
    for place in (len(data) // 2, len(data) - 1):
        whole.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(ValueError, match="is damaged"):
            load_system(whole)


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    safetensors.torch.save_file({"x": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="is no AR-Diffusion system"):
        load_system(path)
    with pytest.raises(FileNotFoundError):
        load_system(tmp_path / "none.safetensors")


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("version",), 1, "version 1, only 2"),
        (("card",), 3, "its header is wrong"),
        (("config", "name"), 5, "its sizes are wrong"),
        (("config", "vae", "width"), "wide", "its sizes are wrong"),
        (("config", "vae", "width"), 10**9, "its sizes are wrong"),
        (("config", "vae", "more"), 1, "its sizes are wrong"),
        (("config", "denoiser", "mask"), "causal", "its sizes are wrong"),
        (("config", "denoiser", "width"), 48, "does not fit"),
        (("config", "denoiser", "depth"), 2, "does not fit"),
    ],
)
def test_a_header_that_tells_something_else_is_refused(
    whole: Path, place: tuple[str, ...], value: object, message: str
) -> None:
    tensors, header = parts(whole)
    inner = header
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    with pytest.raises(ValueError, match=message) as caught:
        load_system(rewritten(whole, tensors, header))
    assert "small.safetensors" in str(caught.value)


def test_tensors_that_are_missing_strange_or_of_another_shape_are_refused(whole: Path) -> None:
    tensors, header = parts(whole)
    name, matrix = "denoiser.latent_out.bias", "denoiser.blocks.0.mlp.0.weight"
    for wrong in (
        {k: v for k, v in tensors.items() if k != name},
        tensors | {"denoiser.more": torch.zeros(1, dtype=torch.float16)},
        tensors | {"more": torch.zeros(1, dtype=torch.float16)},
        tensors | {name: tensors[name].float()},
        tensors | {name: torch.zeros(2, dtype=torch.float16)},
        tensors | {matrix: tensors[matrix].T.contiguous()},
        tensors | {matrix: tensors[matrix][:, 1:].contiguous()},
        {k: v for k, v in tensors.items() if k != matrix + SCALE},
    ):
        with pytest.raises(ValueError, match=r"small\.safetensors does not fit"):
            load_system(rewritten(whole, wrong, header))


def test_what_cannot_be_kept_is_not_saved(tmp_path: Path) -> None:
    path, vae, denoiser = tmp_path / "x.safetensors", Vae(SYSTEM.vae), Denoiser(SYSTEM.denoiser)
    for value in (torch.nan, 1e6):
        vae.encoder.moments.bias.data[0] = value
        with pytest.raises(ValueError, match=r"vae\.encoder\.moments\.bias cannot be saved"):
            save_system(path, SYSTEM, vae, denoiser, {})
    other = dataclasses.replace(SYSTEM, denoiser=dataclasses.replace(SYSTEM.denoiser, depth=1))
    with pytest.raises(ValueError, match="not of the config small"):
        save_system(path, other, Vae(SYSTEM.vae), denoiser, {})
    assert not path.exists()
