"""The AD schedule against its recursion, and what the network is shown."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from operators.nn.ar_diffusion.ad import (
    calls,
    check_lag,
    check_window,
    least_lag,
    states,
    window_ends,
)
from operators.nn.ar_diffusion.config import DiffusionConfig
from operators.nn.ar_diffusion.diffusion import FINISHED, Diffusion
from operators.nn.ar_diffusion.sampler import levels_of
from tests.nn.ar_models import unit


def recursion(frames: int, steps: int, lag: int) -> list[list[int]]:
    """As the method notes state it: call by call, until every frame is done."""
    rows = [[0] * frames]
    while rows[-1] != [steps] * frames:
        old, new = rows[-1], []
        for f in range(frames):
            if f == 0 or old[f - 1] == steps:
                new.append(min(old[f] + 1, steps))
            else:
                new.append(max(0, min(steps, new[f - 1] - lag)))
        rows.append(new)
    return rows


@pytest.mark.parametrize("frames", range(1, 9))
def test_states_are_those_of_the_recursion_and_calls_are_counted(frames: int) -> None:
    for steps in range(1, 13):
        for lag in range(steps + 1):
            p = states(frames, steps, lag)
            assert p.tolist() == recursion(frames, steps, lag)
            assert len(p) - 1 == calls(frames, steps, lag) == steps + (frames - 1) * lag
            assert bool((p.diff(dim=1) <= 0).all())  # so timesteps never fall along a clip
            moves = p.diff(dim=0)
            assert bool(((moves == 0) | (moves == 1)).all())
            assert moves.sum(dim=0).tolist() == [steps] * frames


def test_the_ends_of_the_lag_are_synchronous_and_auto_regressive() -> None:
    together = states(5, 4, 0)
    assert bool((together == together[:, :1]).all())
    alone = states(5, 4, 4)
    assert int(((alone > 0) & (alone < 4)).sum(dim=1).max()) == 1
    assert len(alone) - 1 == 5 * 4


def test_the_vector_of_the_method_notes() -> None:
    rows = ["".join(map(str, row)) for row in states(4, 4, 2)[1:].tolist()]
    assert rows == [
        "1000", "2000", "3100", "4200", "4310", "4420", "4431", "4442", "4443", "4444"
    ]  # fmt: skip
    counts = {(16, 50, s): n for s, n in ((0, 50), (5, 125), (10, 200), (25, 425), (50, 800))}
    for key, count in counts.items():
        assert calls(*key) == count
    assert calls(128, 50, 5) == 685


def test_known_frames_are_done_and_the_others_go_as_if_alone() -> None:
    p = states(6, 4, 2, known=2)
    assert bool((p[:, :2] == 4).all())
    assert torch.equal(p[:, 2:], states(4, 4, 2))
    with pytest.raises(ValueError, match="at least one must be left"):
        states(4, 4, 2, known=4)


@pytest.mark.parametrize("lag", [-1, 5])
def test_a_lag_out_of_range_is_refused(lag: int) -> None:
    with pytest.raises(ValueError, match=f"a lag of {lag} between frames of 4 steps"):
        check_lag(4, lag)


def lost(frames: int, window: int, steps: int, lag: int) -> int:
    """Updates that fall outside of a sliding window."""
    p = states(frames, steps, lag)
    count = 0
    for call, end in enumerate(window_ends(p, window)):
        moved = p[call + 1] > p[call]
        count += int(moved[: end - window].sum() + moved[end:].sum())
    return count


@pytest.mark.slow
def test_a_window_loses_updates_below_the_least_lag_and_none_from_it_on() -> None:
    """The figures of the method notes: F = 64, W = 16, S = 50."""
    assert least_lag(50, 16) == 4
    assert [lost(64, 16, 50, s) for s in range(7)] == [2400, 1632, 864, 96, 0, 0, 0]
    for window in (1, 2, 3, 5):
        for steps in range(1, 11):
            for lag in range(steps + 1):
                loses = lost(3 * window + 2, window, steps, lag) > 0
                assert loses == (lag < least_lag(steps, window))
                if loses:
                    with pytest.raises(ValueError, match="loses updates"):
                        check_window(steps, lag, window)
                else:
                    check_window(steps, lag, window)


@pytest.mark.parametrize("lag", range(11))
def test_every_state_is_shown_with_timesteps_that_never_fall(lag: int) -> None:
    diffusion = Diffusion(DiffusionConfig())
    p = states(7, 10, lag)
    for before, after in pairwise(p):
        t = diffusion.shown(levels_of(diffusion, before, 10)).masked_fill(after == 0, 999)
        assert bool((t.diff() >= 0).all())
        assert bool((t[before == 10] == 1).all())
        assert bool((t[after == 0] == 999).all())


def test_levels_go_down_the_grid_and_end_at_the_first_table_entry() -> None:
    diffusion = Diffusion(DiffusionConfig())
    levels = levels_of(diffusion, torch.arange(11), 10).tolist()
    assert levels == [901, 801, 701, 601, 501, 401, 301, 201, 101, 1, FINISHED]
    assert diffusion.waiting == 999


def test_a_step_moves_what_moves_and_leaves_the_rest_bit_for_bit() -> None:
    diffusion = Diffusion(DiffusionConfig())
    z, eps = unit(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    level = torch.tensor([[1, 501, 999], [FINISHED, 1, 901]])
    x = diffusion.corrupt(z, eps, level)
    to = torch.tensor([[FINISHED, 401, 999], [FINISHED, FINISHED, 801]])
    moved = diffusion.step(x, z, level, to)
    for b, f in ((0, 2), (1, 0)):
        assert torch.equal(moved[b, f], x[b, f])
    torch.testing.assert_close(moved, diffusion.corrupt(z, eps, to), atol=1e-3, rtol=1e-3)
    frozen = x[1, 0]
    for _ in range(40):
        step = diffusion.step(frozen[None, None], x[:1, :1], level[1:, :1], level[1:, :1])
        frozen = step[0, 0]
    assert torch.equal(frozen, x[1, 0])


def test_clean_latents_are_unit_tokens_in_the_denoisers_scale() -> None:
    diffusion = Diffusion(DiffusionConfig(latent_scale=2.0))
    assert torch.allclose(diffusion.clean(torch.randn(3, 4, 5)).norm(dim=-1), torch.tensor(2.0))
    z = unit(3, 4, 5)
    torch.testing.assert_close(diffusion.clean(diffusion.scaled(z)), diffusion.scaled(z))
