"""Masking: counts against their formulas, draws against their chances, decoding step by step."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from operators.nn.blocks.masking import (
    DecodePlan,
    Parts,
    decode,
    gamma,
    hide,
    lowest,
    pick,
    still_hidden,
    training_counts,
    training_rates,
    uniform,
)

MASK, CODES = 7, 7


def chances(count: int, seed: int = 1) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed + i) for i in range(count)]


def by_hand(length: int, steps: int) -> list[int]:
    """clamp(floor(gamma((k + 1) / S) L), 1, masked - 1), as max(1, min(masked - 1, wanted))."""
    counts, masked = [], length
    for k in range(steps):
        wanted = math.floor(math.cos(math.pi / 2 * (k + 1) / steps) * length)
        masked = max(1, min(masked - 1, wanted))
        counts.append(masked)
    return counts


def test_the_schedule_goes_from_all_to_nothing() -> None:
    assert gamma(0) == 1
    assert gamma(0.5) == pytest.approx(0.5**0.5)
    assert gamma(1) == pytest.approx(0, abs=1e-12)
    shares = [gamma(k / 16) for k in range(17)]
    assert shares == sorted(shares, reverse=True)


@pytest.mark.parametrize("steps", [1, 2, 5, 8, 16])
def test_decoding_counts_are_the_formula_and_never_nothing(steps: int) -> None:
    start = torch.tensor([1, 2, 3, 7, 64, 256, 1024])
    hidden, counts = start, []
    for step in range(steps):
        hidden = still_hidden(step, steps, start, hidden)
        counts.append(hidden)
    for column, length in zip(torch.stack(counts, dim=1), start, strict=True):
        assert column.tolist() == by_hand(int(length), steps)
        assert int(column.min()) == 1
    assert still_hidden(0, steps, torch.tensor([0]), torch.tensor([0])).tolist() == [0]


@pytest.mark.parametrize("length", [2, 3, 64])
def test_training_hides_some_and_shows_some(length: int) -> None:
    rates = torch.linspace(0, 1, 101, dtype=torch.float64)
    counts = training_counts(rates, length)
    assert counts.tolist() == [
        min(max(int(rate * length), 1), length - 1) for rate in rates.tolist()
    ]
    with pytest.raises(ValueError, match="cannot be hidden"):
        training_counts(rates, 1)


def test_training_rates_are_gamma_of_a_uniform_number() -> None:
    rates = training_rates(4000, torch.Generator().manual_seed(5))
    assert bool(((rates >= 0) & (rates <= 1)).all())
    assert rates.mean().item() == pytest.approx(2 / math.pi, abs=0.01)
    assert (rates < gamma(0.5)).double().mean().item() == pytest.approx(0.5, abs=0.02)


def test_as_many_places_are_hidden_as_asked_and_each_as_often_as_any() -> None:
    counts = torch.tensor([[1], [5], [9]])
    hidden = hide((3, 400, 10), counts, torch.Generator().manual_seed(2))
    assert torch.equal(hidden.sum(dim=-1), counts.expand(3, 400))
    often = hidden.double().mean(dim=1)
    torch.testing.assert_close(often, (counts / 10).double().expand(3, 10), atol=0.09, rtol=0)


def test_of_equal_values_the_first_are_lowest() -> None:
    values = torch.tensor([[3.0, 1.0, 1.0, 1.0], [0.0, 0.0, -1.0, 0.0]])
    wanted = [[False, True, True, False], [True, False, True, False]]
    assert lowest(values, torch.tensor([2, 2])).tolist() == wanted


def test_tokens_are_picked_as_often_as_their_chance_says() -> None:
    logits = torch.tensor([0.0, 1.0, -torch.inf, 2.0, -torch.inf])
    u = torch.rand(20_000, generator=torch.Generator().manual_seed(4))
    for sharpness in (1.0, 2.0):
        drawn = pick(logits.expand(len(u), -1), u, sharpness)
        often = drawn.bincount(minlength=5) / len(u)
        torch.testing.assert_close(often, (logits * sharpness).softmax(-1), atol=0.012, rtol=0)
        assert often[2] == often[4] == 0
    ends = torch.tensor([0.0, 1 - 2**-24])
    assert pick(logits.expand(2, -1), ends).tolist() == [0, 3]
    assert pick(logits.expand(2, -1), ends, math.inf).tolist() == [3, 3]


def test_each_clip_draws_from_its_own_generator() -> None:
    both = uniform((2, 3, 4), chances(2))
    assert torch.equal(both[1:], uniform((1, 3, 4), chances(1, seed=2)))
    with pytest.raises(ValueError, match="2 clips need as many generators, not 1"):
        uniform((2, 3), chances(1))


class Recorder:
    """Logits that name the call: at call k all tokens are to be k, place i with sureness i."""

    def __init__(self, sureness: torch.Tensor) -> None:
        self.sureness, self.seen = sureness, list[list[torch.Tensor]]()

    def __call__(self, parts: Parts) -> Parts:
        call = len(self.seen)
        self.seen.append([part.clone() for part in parts])
        logits = []
        for part in parts:
            row = torch.zeros(*part.shape, CODES)
            row[..., call] = self.sureness[: part.shape[-1]]
            logits.append(row)
        return logits


def test_decoding_keeps_the_surest_and_gives_back_what_was_drawn_last() -> None:
    guess = Recorder(torch.arange(10) + 20.0)
    (tokens,) = decode([torch.full((1, 10), MASK)], MASK, guess, DecodePlan(4), chances(1))
    left = [10, *by_hand(10, 4)[:-1]]  # in front of each call
    wanted = torch.empty(10, dtype=torch.int64)
    for call, ((seen,), count) in enumerate(zip(guess.seen, left, strict=True)):
        assert (seen[0] == MASK).tolist() == [i < count for i in range(10)]  # the least sure
        wanted[:count] = call
    assert torch.equal(tokens[0], wanted)
    assert MASK not in tokens


def test_known_tokens_stay_and_each_row_counts_its_own() -> None:
    torch.manual_seed(8)
    start = torch.randint(CODES, (2, 3, 9))
    start[:, 0] = MASK
    start[:, 1, ::2] = MASK  # 5 of 9; the third row is known
    content = torch.full((2, 4), MASK)
    guess = Recorder(torch.rand(9) + 20)
    motion, own = decode([start, content], MASK, guess, DecodePlan(4, 2.0), chances(2))
    known = start != MASK
    assert torch.equal(motion[known], start[known])
    assert MASK not in motion
    assert MASK not in own
    for k, (seen, other) in enumerate(guess.seen[1:]):
        assert torch.equal(seen[known], start[known])
        for row, length in enumerate((9, 5)):
            assert (seen[:, row] == MASK).sum(-1).tolist() == [by_hand(length, 4)[k]] * 2
        assert (other == MASK).sum(-1).tolist() == [by_hand(4, 4)[k]] * 2
    hidden = [seen == MASK for seen, _ in guess.seen]
    for before, after in itertools.pairwise(hidden):
        assert bool((before | ~after).all())  # what was kept once stays


def test_nothing_to_fill_in_changes_nothing() -> None:
    start = torch.randint(CODES, (2, 5))
    (tokens,) = decode([start], MASK, Recorder(torch.ones(5)), DecodePlan(3), chances(2))
    assert torch.equal(tokens, start)


def guess_by_neighbours(parts: Parts) -> Parts:
    """Logits that depend on the tokens seen."""
    weights = torch.randn(MASK + 1, CODES, generator=torch.Generator().manual_seed(3)) * 2
    return [weights[part] + weights[part.roll(1, -1)] for part in parts]


def test_a_batch_is_its_clips_one_by_one() -> None:
    start, plan = torch.full((3, 2, 12), MASK), DecodePlan(5, temperature=1.5)
    (together,) = decode([start], MASK, guess_by_neighbours, plan, chances(3))
    for i in range(3):
        (alone,) = decode([start[:1]], MASK, guess_by_neighbours, plan, chances(1, seed=1 + i))
        assert torch.equal(alone[0], together[i])
    assert not torch.equal(together[0], together[1])


def test_temperature_changes_which_tokens_stay() -> None:
    sureness = torch.arange(10) + 20.0
    guess = Recorder(sureness)
    decode([torch.full((1, 10), MASK)], MASK, guess, DecodePlan(4, 1e3), chances(1))
    assert (guess.seen[1][0][0] == MASK).tolist() != [i < by_hand(10, 4)[0] for i in range(10)]


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"steps": 2, "temperature": -1.0}, {"steps": 2, "sharpness": 0.0},
              {"steps": 2, "temperature": math.inf}, {"steps": 2, "sharpness": math.nan}],
)  # fmt: skip
def test_a_plan_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="out of range"):
        DecodePlan(**wrong)  # type: ignore[arg-type]
