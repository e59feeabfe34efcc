"""The frame VAE and its temporal decoder: published sizes, shapes, and what depends on what."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from operators.nn.ar_diffusion.config import COMPACT, PAPER
from operators.nn.ar_diffusion.conv_decoder import ConvDecoder, ResBlock
from operators.nn.ar_diffusion.temporal import TemporalDecoder
from operators.nn.ar_diffusion.vae import Vae, unit_tokens
from tests.nn.ar_models import SYSTEM, VAE, unit


def count(module: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def test_the_published_vae_has_its_shapes_and_302_million_parameters_per_stack() -> None:
    with torch.device("meta"):
        vae = Vae(PAPER.vae)
        frames = torch.empty(2, 3, 256, 256)
        posterior = vae.encoder(frames)
        assert posterior.mean.shape == posterior.logvar.shape == (2, 32, 4)
        assert vae.encode(frames).shape == (2, 32, 4)
        assert vae.decode(torch.empty(2, 32, 4)).shape == (2, 3, 256, 256)
    assert count(vae.encoder.blocks) == pytest.approx(302e6, rel=0.002)
    assert count(vae.decoder.blocks) == pytest.approx(302e6, rel=0.002)
    assert vae.encoder.places.shape == (1, 257, 1024)
    assert vae.encoder.latents.shape == (1, 32, 1024)
    assert vae.decoder.codebook.weight.shape == (256, 1024)
    assert vae.decoder.pixels.layers[0].weight.shape == (512, 256, 3, 3)


def test_the_published_temporal_decoder_adds_201_million_parameters() -> None:
    with torch.device("meta"):
        temporal = TemporalDecoder(PAPER.vae, Vae(PAPER.vae).decoder)
    assert len(temporal.layers) == 24
    assert count(temporal.layers) == pytest.approx(201e6, rel=0.005)


def test_the_compact_vae_works_at_its_own_size() -> None:
    vae = Vae(COMPACT.vae).eval()
    z = vae.encode(torch.rand(2, 3, 64, 64))
    assert z.shape == (2, COMPACT.vae.tokens, COMPACT.vae.channels)
    assert vae.decode_uint8(z).shape == (2, 3, 64, 64)


def test_latents_are_unit_tokens_of_the_mean_and_each_frame_is_alone() -> None:
    vae, frames = Vae(VAE).eval(), torch.rand(3, 3, 16, 16)
    z = vae.encode(frames)
    torch.testing.assert_close(z.norm(dim=-1), torch.ones(3, 4))
    torch.testing.assert_close(z, unit_tokens(vae.encoder(frames).mean))
    torch.testing.assert_close(z[1:2], vae.encode(frames[1:2]))
    torch.testing.assert_close(vae.decode(z)[1:2], vae.decode(z[1:2]))


def test_every_token_reaches_the_picture_and_every_patch_reaches_the_tokens() -> None:
    vae = Vae(VAE).eval()
    torch.nn.init.normal_(vae.decoder.pixels.rgb.weight)
    z, frames = unit(1, 4, 3).requires_grad_(), torch.rand(1, 3, 16, 16, requires_grad=True)
    (by_z,) = torch.autograd.grad(vae.decode(z).square().sum(), z)
    assert bool((by_z.abs().amax(dim=-1) > 0).all())
    (by_pixel,) = torch.autograd.grad(vae.encoder(frames).mean.square().sum(), frames)
    assert bool((by_pixel != 0).all())


@pytest.mark.parametrize("changes", [{}, {"anchored": True, "centred": True}])
def test_a_fresh_decoder_shows_grey_and_all_its_parameters_can_learn(
    changes: dict[str, bool],
) -> None:
    vae = Vae(dataclasses.replace(VAE, **changes))
    frames = torch.rand(2, 3, 16, 16)
    assert bool((vae.decode(vae.encode(frames)) == 0.5).all())
    torch.nn.init.normal_(vae.decoder.pixels.rgb.weight)
    posterior = vae.encoder(frames)
    loss = vae.decode(unit_tokens(posterior.mean)).square().mean() + posterior.logvar.mean()
    loss.backward()
    for name, weight in vae.named_parameters():
        assert weight.grad is not None, name
        assert bool(weight.grad.any()), name


def test_uint8_frames_are_rounded_and_clamped(monkeypatch: pytest.MonkeyPatch) -> None:
    vae = Vae(VAE)
    values = torch.tensor([-1.0, 0.0, 0.4999 / 255, 0.501 / 255, 1.0, 2.0]).view(1, 1, 1, 6)
    monkeypatch.setattr(vae, "decode", lambda z: values)
    found = vae.decode_uint8(torch.empty(1, 4, 3))
    assert found.dtype == torch.uint8
    assert found.flatten().tolist() == [0, 0, 0, 1, 255, 255]


@pytest.mark.parametrize("quirk", [False, True])
def test_the_shortcut_of_a_residual_block_is_taken_where_it_should_be(quirk: bool) -> None:
    block, x = ResBlock(4, 6, 2, quirk), torch.randn(1, 4, 5, 5)
    torch.nn.init.zeros_(block.conv2.weight)
    assert bool((block(x) == 0).all()) == quirk  # the branch is silent: only x could be heard
    same = ResBlock(4, 4, 2, quirk)
    torch.nn.init.zeros_(same.conv2.weight)
    assert torch.equal(same(x), x)


def test_convolutions_go_from_the_grid_to_pixels() -> None:
    assert ConvDecoder(VAE)(torch.randn(2, 8, 4, 4)).shape == (2, 3, 16, 16)


def clip_decoder() -> TemporalDecoder:
    torch.manual_seed(4)
    decoder = Vae(VAE).eval().decoder
    torch.nn.init.normal_(decoder.pixels.rgb.weight, std=0.3)
    return TemporalDecoder(VAE, decoder)


def test_a_fresh_temporal_decoder_decodes_frame_by_frame() -> None:
    temporal, z = clip_decoder(), unit(2, 3, 4, 3)
    single = temporal.decoder(z.flatten(0, 1)).view(2, 3, 3, 16, 16)
    torch.testing.assert_close(temporal(z), single)


@pytest.mark.parametrize("part", ["fine", "coarse"])
def test_a_temporal_decoder_looks_back_and_never_ahead(part: str) -> None:
    temporal = clip_decoder()
    for layer in temporal.layers:
        torch.nn.init.normal_(getattr(layer, part).out.weight, std=0.3)
    z = unit(1, 4, 4, 3)
    before = temporal(z)
    z[:, 2] = unit(1, 4, 3)
    change = (temporal(z) - before).abs().amax(dim=(0, 2, 3, 4))
    assert change[:2].max() < 1e-6
    assert bool((change[2:] > 1e-5).all())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"patch_px": 5}, "patches or heads"),
        ({"heads": 3}, "patches or heads"),
        ({"conv_multipliers": (1, 2, 2)}, "from patches to pixels"),
        ({"shuffle": 1}, "from patches to pixels"),
        ({"conv_groups": 3}, "group norms"),
        ({"channels": 1}, "channels must be"),
        ({"width": 100_000}, "width must be"),
        ({"anchored": True, "tokens": 3}, "no square"),
    ],
)
def test_sizes_that_cannot_be_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(VAE, **wrong)


def test_parts_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(ValueError, match="latents differ"):
        dataclasses.replace(SYSTEM, vae=dataclasses.replace(VAE, channels=2))
    with pytest.raises(ValueError, match="steps or lag"):
        dataclasses.replace(SYSTEM, lag=7)
    with pytest.raises(ValueError, match="timesteps must be"):
        dataclasses.replace(SYSTEM.diffusion, timesteps=1)
    with pytest.raises(ValueError, match="betas or scale"):
        dataclasses.replace(SYSTEM.diffusion, first_beta=0.5)
