"""FoPP against every sequence there is, and against chance at the published size."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest
import torch
from scipy import stats

from operators.nn.ar_diffusion.fopp import Fopp

SIZES = [(frames, timesteps) for frames in range(1, 6) for timesteps in range(1, 9)]


def every(frames: int, timesteps: int) -> list[tuple[int, ...]]:
    return list(itertools.combinations_with_replacement(range(timesteps), frames))


@pytest.mark.parametrize(("frames", "timesteps"), SIZES)
def test_counts_are_what_enumeration_counts(frames: int, timesteps: int) -> None:
    fopp, all_of_them = Fopp(frames, timesteps), every(frames, timesteps)
    assert fopp.compositions() == len(all_of_them)
    for f in range(frames):
        ending = Counter(head for head in {(t[: f + 1]) for t in all_of_them})
        ends = Counter(head[-1] for head in ending)
        starts = Counter(tail[0] for tail in {t[f:] for t in all_of_them})
        for t in range(timesteps):
            assert math.exp(fopp.log_ending(t, f)) == pytest.approx(ends[t])
            assert math.exp(fopp.log_starting(t, f)) == pytest.approx(starts[t])


@pytest.mark.parametrize(("frames", "timesteps"), SIZES)
def test_its_distribution_is_uniform_through_each_anchor(frames: int, timesteps: int) -> None:
    """Given (f*, t*), every sequence through it is equally likely; anchors are too."""
    fopp, all_of_them = Fopp(frames, timesteps), every(frames, timesteps)
    wanted: Counter[tuple[int, ...]] = Counter()
    for f, t in itertools.product(range(frames), range(timesteps)):
        through = [sequence for sequence in all_of_them if sequence[f] == t]
        for sequence in through:
            wanted[sequence] += 1 / (frames * timesteps * len(through))
    found = [fopp.probability(torch.tensor(sequence)) for sequence in all_of_them]
    assert found == pytest.approx([wanted[sequence] for sequence in all_of_them])
    assert sum(found) == pytest.approx(1)


@pytest.mark.parametrize(("frames", "timesteps"), SIZES)
def test_its_steps_away_from_the_anchor_are_those_of_enumeration(
    frames: int, timesteps: int
) -> None:
    """What `sample` draws from: a frame given its neighbour towards the anchor."""
    fopp, all_of_them = Fopp(frames, timesteps), every(frames, timesteps)
    for f, bound in itertools.product(range(frames - 1), range(timesteps)):
        heads = {t[: f + 2] for t in all_of_them if t[f + 1] == bound}
        wanted = Counter(head[f] for head in heads)
        found = fopp.backward_chances(f, bound).tolist()
        assert found == pytest.approx([wanted[t] / len(heads) for t in range(timesteps)])
        tails = {t[f:] for t in all_of_them if t[f] == bound}
        wanted = Counter(tail[1] for tail in tails)
        found = fopp.forward_chances(f + 1, bound).tolist()
        assert found == pytest.approx([wanted[t] / len(tails) for t in range(timesteps)])


@pytest.mark.slow
def test_samples_of_a_small_size_follow_the_distribution() -> None:
    fopp, count = Fopp(4, 6), 60_000
    drawn = Counter(map(tuple, fopp.sample(count, torch.Generator().manual_seed(1)).tolist()))
    all_of_them = every(4, 6)
    expected = [count * fopp.probability(torch.tensor(t)) for t in all_of_them]
    assert set(drawn) <= set(all_of_them)
    assert stats.chisquare([drawn[t] for t in all_of_them], expected).pvalue > 0.001
    even = [count / len(all_of_them)] * len(all_of_them)  # the test must tell it from another
    assert stats.chisquare([drawn[t] for t in all_of_them], even).pvalue < 1e-9


@pytest.mark.slow
def test_samples_of_the_published_size_have_the_marginals_of_the_notes() -> None:
    fopp, count = Fopp(16, 1000), 40_000
    t = fopp.sample(count, torch.Generator().manual_seed(2))
    assert t.dtype == torch.int64
    assert t.shape == (count, 16)
    assert bool((t.diff(dim=1) >= 0).all())
    assert int(t.min()) >= 0
    assert int(t.max()) < 1000
    means = t.double().mean(dim=0)
    assert means[[0, 7, 15]].tolist() == pytest.approx([105.5, 478.8, 893.5], abs=6)
    assert (t[:, 0] < 100).double().mean().item() == pytest.approx(0.716, abs=0.01)
    assert (t[:, 7] < 100).double().mean().item() == pytest.approx(0.092, abs=0.006)
    assert (t[:, 7] >= 900).double().mean().item() == pytest.approx(0.075, abs=0.006)
    mirrored = 999 - t.flip(1)
    for f in (0, 3, 7):
        assert stats.ks_2samp(t[::2, f], mirrored[1::2, f]).pvalue > 0.001


def test_a_frame_of_the_published_size_follows_its_exact_marginal() -> None:
    """Chi-square of frame 0, whose marginal sums P over all that may follow."""
    frames, timesteps, count = 16, 1000, 40_000
    fopp = Fopp(frames, timesteps)
    marginal = torch.zeros(timesteps, dtype=torch.float64)
    ending = torch.tensor([
        [math.comb(t + f, f) for t in range(timesteps)] for f in range(frames)
    ], dtype=torch.float64)  # fmt: skip
    for f in range(frames):  # P(t_0 | anchor), from the anchor down, frame by frame
        reach = torch.full((timesteps,), 1 / timesteps, dtype=torch.float64)
        for g in range(f - 1, -1, -1):
            reach = ending[g] * (reach / ending[g + 1]).flip(0).cumsum(0).flip(0)
        marginal += reach / frames
    assert marginal.sum().item() == pytest.approx(1)
    t = fopp.sample(count, torch.Generator().manual_seed(3))[:, 0]
    edges = [0, 1, 5, 20, 50, 100, 200, 300, 500, 700, 900, 1000]
    found = [int(((t >= a) & (t < b)).sum()) for a, b in itertools.pairwise(edges)]
    wanted = [count * marginal[a:b].sum().item() for a, b in itertools.pairwise(edges)]
    assert stats.chisquare(found, wanted, sum_check=False).pvalue > 0.001


def test_the_published_size_has_the_published_number_of_sequences() -> None:
    assert Fopp(16, 1000).compositions() == math.comb(1015, 16)
    assert Fopp(16, 1000).log_ending(999, 15) == pytest.approx(math.log(math.comb(1014, 15)))


def test_a_seed_gives_the_same_timesteps_and_falling_ones_have_no_chance() -> None:
    fopp = Fopp(5, 50)
    first, again = (fopp.sample(9, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(first, again)
    assert fopp.probability(torch.tensor([0, 0, 9, 8, 20])) == 0
    with pytest.raises(ValueError, match="0 frames"):
        Fopp(0, 9)
