"""Timesteps of an endless stream: what can come, and that all of it does."""

from __future__ import annotations

import torch

from operators.nn.ar_diffusion.diffusion import FINISHED
from operators.nn.ar_diffusion.rolling import Rolling, shaken
from tests.nn.ar_models import unit

FRAMES, TIMESTEPS = 6, 100


def drawn(batch: int = 20_000) -> torch.Tensor:
    return Rolling(FRAMES, TIMESTEPS).sample(batch, torch.Generator().manual_seed(3))


def test_samples_never_fall_and_the_last_frame_moves() -> None:
    t = drawn()
    assert t.dtype == torch.int64
    assert bool((t.diff(dim=1) >= 0).all())
    assert bool((t[:, -1] > FINISHED).all())
    assert int(t.max()) == TIMESTEPS - 1


def test_every_number_of_done_frames_comes_none_five_times_as_often_as_one() -> None:
    done = (drawn() == FINISHED).sum(dim=1).bincount(minlength=FRAMES) / 20_000
    shares = torch.tensor([4, 1, 1, 1, 1, 1]) / 9
    torch.testing.assert_close(done, shares, atol=0.01, rtol=0)


def test_moving_frames_are_a_staircase_up_to_noise() -> None:
    t = drawn().double()
    moving = (t > FINISHED + 1) & (t < TIMESTEPS - 1)
    both = moving[:, 1:] & moving[:, :-1]
    steps = t.diff(dim=1)
    lowest = torch.where(both, steps, torch.inf).amin(dim=1)
    highest = torch.where(both, steps, -torch.inf).amax(dim=1)
    several = both.sum(dim=1) > 1
    assert bool((highest - lowest)[several].le(1).all())  # one step throughout, but for rounding
    assert float(highest[both.any(dim=1)].min()) == 0  # all at once
    assert float(steps[both].max()) > 0.7 * TIMESTEPS  # nearly one after the other


def test_only_done_frames_are_shaken_and_stay_unit_tokens() -> None:
    tokens = unit(50, 6, 4, 8)
    done = torch.rand(50, 6) < 0.5
    made = shaken(tokens, done, 0.2, torch.Generator().manual_seed(1))
    assert torch.equal(made[~done], tokens[~done])
    assert bool((made[done] != tokens[done]).any())
    torch.testing.assert_close(made.norm(dim=-1), torch.ones(50, 6, 4))
    off = (made - tokens).norm(dim=-1).mean(dim=(1, 2))
    assert float(off.max()) > 3 * float(off.min())  # each clip has a deviation of its own
    same = shaken(tokens, done, 0.0, torch.Generator().manual_seed(1))
    torch.testing.assert_close(same, tokens)
