"""Embeddings, the noise schedule, DDIM steps and keyed noise."""

from __future__ import annotations

import math

import pytest
import torch

from operators.nn.blocks.ddpm import (
    corrupt,
    ddim_step,
    eps_of,
    linear_alpha_bar,
    uniform_timesteps,
    x0_of,
)
from operators.nn.blocks.embedding import TimestepEmbedding, place_table, sinusoid
from operators.nn.blocks.noise import keyed_generator, keyed_normal


def test_a_sinusoid_holds_cosines_then_sines() -> None:
    found = sinusoid(torch.tensor([[0, 7]]), 6)
    rates = [10_000 ** (-i / 3) for i in range(3)]
    assert found.shape == (1, 2, 6)
    assert found[0, 0].tolist() == [1, 1, 1, 0, 0, 0]
    wanted = [math.cos(7 * r) for r in rates] + [math.sin(7 * r) for r in rates]
    torch.testing.assert_close(found[0, 1], torch.tensor(wanted))


def test_places_hold_sines_first_and_are_all_different() -> None:
    table = place_table(512, 64)
    assert table[0].tolist() == [0.0] * 32 + [1.0] * 32
    assert torch.cdist(table, table).fill_diagonal_(9).min() > 0.1


def test_timesteps_are_embedded_one_by_one() -> None:
    net, t = TimestepEmbedding(16), torch.tensor([[0, 999], [5, 5]])
    found = net(t)
    assert found.shape == (2, 2, 16)
    torch.testing.assert_close(found[1, 0], found[1, 1])
    torch.testing.assert_close(found[0, 1], net(torch.tensor(999)))


def test_the_published_schedule_ends_where_it_should() -> None:
    abar = linear_alpha_bar(1000)
    assert abar.dtype == torch.float64
    assert abar[0].item() == pytest.approx(1 - 1e-4)
    assert abar[999].item() == pytest.approx(7.33e-4, abs=5e-7)
    assert bool((abar.diff() < 0).all())


def test_noise_and_clean_are_found_again() -> None:
    x0, eps = torch.randn(2, 3, 4, dtype=torch.float64), torch.randn(2, 3, 4, dtype=torch.float64)
    abar = linear_alpha_bar(1000)[torch.tensor([[0, 500, 999]])][..., None]
    x = corrupt(x0, eps, abar)
    torch.testing.assert_close(eps_of(x, x0, abar), eps)
    torch.testing.assert_close(x0_of(x, eps, abar), x0)


def test_a_ddim_step_with_the_true_x0_stays_on_the_same_noise() -> None:
    x0, eps = torch.randn(5, 4), torch.randn(5, 4)
    abar = linear_alpha_bar(1000).float()
    here, there = abar[torch.tensor([999, 700, 400, 90, 1])], abar[torch.tensor([800, 0, 3, 89, 0])]
    moved = ddim_step(corrupt(x0, eps, here[:, None]), x0, here[:, None], there[:, None])
    torch.testing.assert_close(moved, corrupt(x0, eps, there[:, None]), atol=2e-4, rtol=1e-4)


def test_fifty_steps_visit_the_published_timesteps() -> None:
    assert uniform_timesteps(50, 1000).tolist() == list(range(1, 1000, 20))
    assert uniform_timesteps(10, 1000, trailing=True).tolist() == list(range(99, 1000, 100))
    assert uniform_timesteps(3, 1000, trailing=True).tolist() == [333, 666, 999]
    for steps in (1, 7, 12, 333, 999):
        t = uniform_timesteps(steps, 1000)
        assert len(set(t.tolist())) == steps
        assert t.min() == 1
        assert t.max() <= 999
    for steps in (0, 1000):
        with pytest.raises(ValueError, match=f"{steps} inference steps of 1000"):
            uniform_timesteps(steps, 1000)


def test_keyed_noise_depends_on_its_whole_key_and_on_nothing_else() -> None:
    first = keyed_normal((4, 3), 7, 1)
    torch.randn(100)
    assert torch.equal(first, keyed_normal((4, 3), 7, 1))
    for other in ((7, 2), (8, 1), (71,), (1, 7), (7,)):
        assert not torch.equal(first, keyed_normal((4, 3), *other))
    many = keyed_normal((20_000,), 3)
    assert abs(many.mean().item()) < 0.03
    assert abs(many.std().item() - 1) < 0.03
    assert keyed_generator(-5).initial_seed() >= 0
