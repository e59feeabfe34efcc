"""The codebook: nearest entries, straight-through gradients, averages by hand, first entries."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from operators.nn.blocks.vq import Codebook, CodebookConfig, perplexity

CONFIG = CodebookConfig(codes=5, width=3, decay=0.9, revive_every=1_000_000)


def chance(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_each_vector_gets_its_nearest_entry() -> None:
    book, x = Codebook(CONFIG), torch.randn(4, 7, 3)
    book.entries.normal_()
    found = book(x)
    wanted = torch.cdist(x.flatten(0, 1), book.entries).argmin(dim=1).view(4, 7)
    assert torch.equal(found.codes, wanted)
    torch.testing.assert_close(found.vectors, book.entries[wanted])
    assert torch.equal(book.lookup(found.codes), book.entries[wanted])
    error = (x - book.entries[wanted]).square().mean()
    torch.testing.assert_close(found.commitment, error)
    assert torch.equal(book.nearest(book.lookup(found.codes)), found.codes)


def test_gradients_go_straight_through_and_commitment_pulls_the_input_alone() -> None:
    book = Codebook(CONFIG)
    x = torch.randn(6, 3, requires_grad=True)
    slope = torch.randn(6, 3)
    (by_vectors,) = torch.autograd.grad((book(x).vectors * slope).sum(), x)
    assert torch.equal(by_vectors, slope)
    found = book(x)
    (by_commitment,) = torch.autograd.grad(found.commitment, x)
    torch.testing.assert_close(by_commitment, 2 * (x - book.entries[found.codes]).detach() / 18)
    assert not book.entries.requires_grad


def test_it_works_in_float32_under_autocast() -> None:
    book, x = Codebook(CONFIG), torch.randn(50, 3)
    with torch.autocast("cpu", torch.bfloat16):
        found = book(x)
    assert torch.equal(found.codes, book.nearest(x))
    assert found.vectors.dtype == found.commitment.dtype == torch.float32


def test_looking_up_changes_nothing() -> None:
    book = Codebook(CONFIG)
    before = {name: value.clone() for name, value in book.state_dict().items()}
    book.train()(torch.randn(9, 3))
    assert all(torch.equal(before[name], value) for name, value in book.state_dict().items())


def test_averages_by_hand() -> None:
    book = Codebook(CONFIG)
    first = book.entries.clone()
    batches = [torch.randn(8, 3), torch.randn(8, 3)]
    indices = [torch.tensor([0, 0, 0, 1, 1, 2, 2, 2]), torch.tensor([0, 1, 1, 1, 1, 1, 1, 1])]
    for x, index in zip(batches, indices, strict=True):
        book.learn(x, index)
    decay, mass = 0.9, 1 - 0.9**2
    share = [decay * (1 - decay) / mass, (1 - decay) / mass]  # debiased
    count, total = torch.zeros(5), torch.zeros(5, 3)
    for part, x, index in zip(share, batches, indices, strict=True):
        for row, code in zip(x, index, strict=True):
            count[code] += part
            total[code] += part * row
    smooth = (count + 1e-5) / (count.sum() + 5e-5) * count.sum()
    torch.testing.assert_close(book.entries[:3], total[:3] / smooth[:3, None])
    assert torch.equal(book.entries[3:], first[3:])  # never used: they keep their place
    assert count.sum().item() == pytest.approx(8)


def test_entries_come_to_rest_at_the_means_of_what_they_stand_for() -> None:
    book = Codebook(dataclasses.replace(CONFIG, codes=2))
    book.entries.copy_(torch.tensor([[-1.0, 0, 0], [1.0, 0, 0]]))
    x = torch.randn(200, 3, generator=chance())
    x[:, 0] = torch.where(torch.arange(200) % 2 == 0, -3.0, 3.0)
    for _ in range(120):
        book.learn(x, book.nearest(x))
    means = torch.stack([x[::2].mean(dim=0), x[1::2].mean(dim=0)])
    torch.testing.assert_close(book.entries, means, atol=1e-3, rtol=0)


def test_one_dead_entry_at_a_time_comes_back_as_the_mean_of_the_used() -> None:
    book = Codebook(dataclasses.replace(CONFIG, revive_every=2, idle=3))
    book.entries.copy_(torch.eye(5, 3) * 4)  # 3 and 4 are alike at 0; the first of equals is used
    x = torch.eye(3) * 4
    index = book.nearest(x)
    book.learn(x, index)
    assert torch.equal(book.entries[3:], torch.zeros(2, 3))
    book.learn(x, index)  # the second update: one of the two comes back
    torch.testing.assert_close(book.entries[3], book.entries[:3].mean(dim=0))
    assert torch.equal(book.entries[4], torch.zeros(3))
    book.learn(x, index)
    book.learn(x, index)
    torch.testing.assert_close(book.entries[4], book.entries[:4].mean(dim=0))
    book.entries[3] = 9  # without a use it stays there until it has waited for `idle` updates
    book.learn(x, index)
    assert torch.equal(book.entries[3], torch.full((3,), 9.0))
    book.learn(x, index)
    torch.testing.assert_close(book.entries[3], book.entries[[0, 1, 2, 4]].mean(dim=0))


def test_a_dead_entry_can_come_back_where_a_vector_is() -> None:
    def revived(seed: int) -> torch.Tensor:
        config = dataclasses.replace(CONFIG, revive_every=1, revive="sample")
        torch.manual_seed(1)
        book = Codebook(config)
        x = torch.randn(30, 3, generator=chance()) + 9
        book.learn(x, torch.zeros(30, dtype=torch.int64), chance(seed))
        assert bool((x == book.entries[1]).all(dim=1).any())
        return book.entries[1]

    assert torch.equal(revived(2), revived(2))
    assert not torch.equal(revived(2), revived(3))
    book = Codebook(dataclasses.replace(CONFIG, revive_every=1, revive="sample"))
    with pytest.raises(ValueError, match="a generator is needed"):
        book.learn(torch.randn(3, 3), torch.zeros(3, dtype=torch.int64))


def test_first_entries_find_clusters_and_are_as_if_learned() -> None:
    centres = torch.randn(5, 3, generator=chance()) * 10
    x = (centres[:, None] + 0.01 * torch.randn(5, 40, 3, generator=chance(4))).flatten(0, 1)
    book, other = Codebook(CONFIG), Codebook(CONFIG)
    book.fit(x, chance(7))
    other.fit(x, chance(7))
    assert torch.equal(book.entries, other.entries)
    assert torch.cdist(centres, book.entries).amin(dim=1).max() < 0.1
    assert perplexity(book.nearest(x), 5) == pytest.approx(5)
    before = book.entries.clone()
    book.learn(x, book.nearest(x))
    torch.testing.assert_close(book.entries, before, atol=1e-3, rtol=1e-3)
    with pytest.raises(ValueError, match="not vectors for 5 entries"):
        book.fit(x[:4], chance())


def test_all_of_its_state_is_saved() -> None:
    book, again = Codebook(CONFIG), Codebook(CONFIG)
    x = torch.randn(20, 3)
    for _ in range(3):
        book.learn(x, book.nearest(x))
    again.load_state_dict(book.state_dict())
    for each in (book, again):
        each.learn(x + 1, each.nearest(x + 1))
    assert torch.equal(book.entries, again.entries)
    assert not list(book.parameters())


def test_perplexity_counts_entries_by_their_share() -> None:
    assert perplexity(torch.zeros(4, dtype=torch.int64), 8) == pytest.approx(1)
    assert perplexity(torch.arange(8), 8) == pytest.approx(8)


@pytest.mark.parametrize(
    "wrong", [{"codes": 0}, {"decay": 1.0}, {"smoothing": -1.0}, {"revive": "never"}, {"idle": 0}]
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        dataclasses.replace(CONFIG, **wrong)
