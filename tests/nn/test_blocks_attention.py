"""Attention, rotary positions, the ViT block and the adaLN-zero block."""

from __future__ import annotations

import pytest
import torch

from operators.nn.blocks.adaln import AdaLnBlock
from operators.nn.blocks.attention import Attention, CrossAttention, KeyValue
from operators.nn.blocks.rotary import Rotation, rotate, rotation
from operators.nn.blocks.start import xavier
from operators.nn.blocks.transformer import Block


def by_hand(
    attention: Attention, x: torch.Tensor, mask: torch.Tensor | None, turns: Rotation | None
) -> torch.Tensor:
    """Softmax(q k / sqrt d) v, one head at a time."""
    width = x.shape[-1]
    size = width // attention.heads
    q, k, v = attention.qkv(x).split(width, dim=-1)
    heads = []
    for head in range(attention.heads):
        own = slice(head * size, (head + 1) * size)
        qh, kh = attention.q_norm(q[..., own]), attention.k_norm(k[..., own])
        if turns is not None:
            qh, kh = rotate(qh, turns), rotate(kh, turns)
        scores = qh @ kh.transpose(1, 2) / size**0.5
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        heads.append(scores.softmax(-1) @ v[..., own])
    y: torch.Tensor = attention.out(torch.cat(heads, dim=-1))
    return y


@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("turned", [False, True])
def test_attention_is_what_its_formula_says(qk_norm: bool, masked: bool, turned: bool) -> None:
    attention, x = Attention(12, 3, qk_norm), torch.randn(2, 5, 12)
    mask = torch.ones(5, 5, dtype=torch.bool).tril() if masked else None
    turns = rotation(torch.arange(5), 4) if turned else None
    torch.testing.assert_close(attention(x, mask, turns), by_hand(attention, x, mask, turns))


def test_attention_continued_from_kept_keys_is_attention_over_all() -> None:
    attention, x = Attention(16, 2, qk_norm=True), torch.randn(1, 7, 16)
    mask, turns = torch.ones(7, 7, dtype=torch.bool).tril(), rotation(torch.arange(7), 8)
    whole = attention(x, mask, turns)
    past: KeyValue | None = None
    parts = []
    for start, end in ((0, 3), (3, 4), (4, 7)):
        so_far = Rotation(turns.cos[:end], turns.sin[:end])
        y, new = attention.extend(x[:, start:end], past, mask[start:end, :end], so_far)
        past = new if past is None else past.then(new)
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)


def test_kept_keys_can_be_cut() -> None:
    kept = KeyValue(torch.arange(6.0).view(1, 1, 6, 1), -torch.arange(6.0).view(1, 1, 6, 1))
    assert kept.without(1, 2).k.flatten().tolist() == [0, 3, 4, 5]
    assert kept.head(2).v.flatten().tolist() == [0, -1]
    assert kept.head(1).then(kept.without(0, 5)).k.flatten().tolist() == [0, 5]


def test_scores_under_rotary_positions_depend_on_differences_alone() -> None:
    q, k = torch.randn(1, 8), torch.randn(1, 8)

    def score(at: int, other: int) -> torch.Tensor:
        turns = rotation(torch.tensor([at, other]), 8)
        a, b = (Rotation(turns.cos[i : i + 1], turns.sin[i : i + 1]) for i in (0, 1))
        return (rotate(q, a) * rotate(k, b)).sum()

    torch.testing.assert_close(score(3, 1), score(102, 100))
    assert (score(3, 1) - score(3, 2)).abs() > 1e-3
    torch.testing.assert_close(rotate(q, rotation(torch.tensor([5]), 8)).norm(), q.norm())


def test_cross_attention_sees_what_its_mask_lets_it_see() -> None:
    cross, x, y = CrossAttention(8, 2), torch.randn(1, 2, 8), torch.randn(1, 3, 8)
    mask = torch.tensor([[True, False, False], [True, True, True]])
    before = cross(x, y, y, mask)
    y[:, 1:] += 1
    after = cross(x, y, y, mask)
    assert torch.equal(before[:, 0], after[:, 0])
    assert not torch.allclose(before[:, 1], after[:, 1])
    assert before.shape == x.shape


def test_cross_attention_continued_from_kept_keys_equals_the_whole() -> None:
    cross, x, y = CrossAttention(8, 2), torch.randn(2, 6, 8), torch.randn(2, 6, 8)
    mask = torch.ones(6, 6).tril().bool()
    whole = cross(x, y, -y, mask)
    past: KeyValue | None = None
    parts = []
    for start, end in ((0, 2), (2, 3), (3, 6)):
        new = y[:, start:end]
        part, kept = cross.extend(x[:, start:end], new, -new, past, mask[start:end, :end])
        past = kept if past is None else past.then(kept)
        parts.append(part)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)


@pytest.mark.parametrize("made", [lambda: Attention(10, 3), lambda: CrossAttention(10, 3)])
def test_heads_that_do_not_divide_the_width_are_refused(made: object) -> None:
    assert callable(made)
    with pytest.raises(ValueError, match="width of 10 cannot be split into 3 heads"):
        made()


def test_the_vit_block_is_two_residuals() -> None:
    block, x = Block(8, 2), torch.randn(2, 4, 8)
    middle = x + block.attention(block.norm1(x))
    torch.testing.assert_close(block(x), middle + block.mlp(block.norm2(middle)))


def test_a_fresh_adaln_block_passes_conditioned_tokens_and_works_on_free_ones() -> None:
    block, x = AdaLnBlock(8, 2), torch.randn(2, 7, 8)
    y = block(x, torch.randn(2, 3, 8), free=1)
    assert torch.equal(y[:, 1:], x[:, 1:])
    assert not torch.allclose(y[:, :1], x[:, :1])


@pytest.mark.parametrize("share_norm", [False, True])
def test_adaln_modulates_each_group_by_its_own_condition(share_norm: bool) -> None:
    block, x, c = (
        AdaLnBlock(8, 2, share_norm=share_norm),
        torch.randn(1, 7, 8),
        torch.randn(1, 3, 8),
    )
    torch.nn.init.normal_(block.modulation.weight, std=0.3)
    tokens = block.modulation(torch.nn.functional.silu(c)).repeat_interleave(2, dim=1)
    zero, one = torch.zeros(1, 1, 8), torch.ones(1, 1, 8)
    free = torch.cat([zero, zero, one, zero, zero, one], dim=-1)
    m = torch.cat([free, tokens], dim=1).chunk(6, dim=-1)
    h = block.norm1(x)
    y = (h if share_norm else x) + m[2] * block.attention(h * (1 + m[1]) + m[0])
    h = block.norm2(y)
    y = (h if share_norm else y) + m[5] * block.mlp(h * (1 + m[4]) + m[3])
    torch.testing.assert_close(block(x, c, free=1), y)


def test_xavier_fills_matrices_and_patch_convolutions_and_zeroes_biases() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(300, 500), torch.nn.Conv2d(3, 64, 8, 8))
    kept = torch.nn.Conv2d(3, 8, 3)
    before = kept.weight.clone()
    net.apply(xavier)
    kept.apply(xavier)
    linear, patches = net
    assert linear.weight.std().item() == pytest.approx((2 / 800) ** 0.5, rel=0.02)
    assert patches.weight.std().item() == pytest.approx((2 / (192 + 64)) ** 0.5, rel=0.05)
    assert not linear.bias.any()
    assert not patches.bias.any()
    assert torch.equal(before, kept.weight)
