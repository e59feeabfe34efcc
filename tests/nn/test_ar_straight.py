"""The linear way past both networks: a bijection, principal components, and a head start."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from operators.nn.ar_diffusion.straight import (
    CellsIn,
    CellsOut,
    fit_components,
    from_sphere,
    onto_sphere,
)
from operators.nn.ar_diffusion.vae import Vae
from tests.nn.ar_models import VAE

STRAIGHT = dataclasses.replace(VAE, anchored=True, straight=True, channels=6)


def pictures(count: int = 200) -> torch.Tensor:
    """Soft pictures: far fewer than 192 numbers in a cell of 8x8 pixels."""
    colours = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(8))
    return torch.nn.functional.interpolate(colours, size=16, mode="bilinear")


def test_the_sphere_and_back() -> None:
    y = torch.randn(50, 7)
    z = onto_sphere(y)
    torch.testing.assert_close(z.norm(dim=-1), torch.ones(50))
    torch.testing.assert_close(from_sphere(z), y, rtol=1e-4, atol=1e-5)
    assert onto_sphere(torch.zeros(7)).tolist() == [0] * 7 + [-1]
    assert onto_sphere(torch.tensor([0.6, 0.8]))[-1].abs() < 1e-6
    pole = torch.tensor([0.0, 0.0, 1.0])
    assert bool(from_sphere(pole).isfinite().all())
    assert from_sphere(onto_sphere(torch.tensor([1e6, 0.0]))).norm() <= 20


def test_first_weights_are_what_no_other_linear_map_of_so_few_numbers_beats() -> None:
    into, out, frames = CellsIn(STRAIGHT), CellsOut(STRAIGHT), pictures()
    fit_components(into, out, frames, torch.ones(200, 1, 16, 16))
    y = into(frames)
    assert y.shape == (200, 4, 5)
    cells = torch.nn.functional.pixel_unshuffle(frames, 8).movedim(1, -1).flatten(0, 2)
    spread = torch.linalg.svdvals(cells - cells.mean(dim=0))
    least = spread[5:].square().sum() / frames.numel()  # Eckart and Young
    found = (out(y) - frames).square().mean()
    assert found.item() == pytest.approx(least.item(), rel=1e-3)
    assert y.square().sum(dim=-1).mean().item() == pytest.approx(1, rel=1e-4)
    amplitude = y.flatten(0, 1).std(dim=0, correction=0)
    values = spread[:5] / 800**0.5
    torch.testing.assert_close(
        amplitude / amplitude[0], (values / values[0]).sqrt(), rtol=1e-3, atol=0
    )


def test_the_components_are_those_of_the_weighted_pixels() -> None:
    into, out, frames = CellsIn(STRAIGHT), CellsOut(STRAIGHT), pictures()
    weight = torch.full((200, 1, 16, 16), 1e-6)
    weight[:100] = 1
    fit_components(into, out, frames, weight)
    error = (out(into(frames)) - frames).square().mean(dim=(1, 2, 3))
    assert error[:100].mean() < error[100:].mean()


def test_a_fitted_vae_begins_at_the_linear_map() -> None:
    torch.manual_seed(1)
    vae, frames = Vae(STRAIGHT).eval(), pictures()
    into, out = vae.encoder.straight, vae.decoder.straight
    assert into is not None
    assert out is not None
    fit_components(into, out, frames, torch.ones(200, 1, 16, 16))
    torch.testing.assert_close(vae.decode(vae.encode(frames)), out(into(frames)), rtol=0, atol=1e-4)


def test_too_few_cells_and_free_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="give more frames"):
        fit_components(
            CellsIn(STRAIGHT), CellsOut(STRAIGHT), pictures(40), torch.ones(40, 1, 16, 16)
        )
    with pytest.raises(ValueError, match="only anchored tokens"):
        dataclasses.replace(VAE, straight=True)
