"""The compact model put together: features of three depths, heads, towers as the interface says."""

from __future__ import annotations

import pytest
import torch

from operators.nn.vlm.compact import (
    LOCAL_WIDTH,
    POOLED_WIDTH,
    CompactConfig,
    CompactHeads,
    CompactVlm,
    Standardise,
    depth_features,
    token_batch,
)
from operators.nn.vlm.efficientnet import EfficientNetLite0, FeatureMaps
from operators.nn.vlm.interface import ImageTower, TextTower, Vlm
from operators.nn.vlm.minilm import MiniLm, MiniLmConfig

CONFIG = CompactConfig(size_px=64, dim=16, hidden=8, text_width=24)
TEXT = MiniLmConfig(
    vocabulary=50, width=24, layers=1, heads=3, inner=40, positions=40, context_length=30
)


class Letters:
    """A tokenizer of one token per letter."""

    begin, end = 1, 2

    def encode(self, text: str) -> list[int]:
        return [3 + ord(letter) % 40 for letter in text]


@pytest.fixture
def vlm() -> CompactVlm:
    torch.manual_seed(4)
    return CompactVlm(
        EfficientNetLite0().eval(), CompactHeads(CONFIG), (MiniLm(TEXT).eval(), Letters())
    )


def random_maps(side: int = 2) -> FeatureMaps:
    torch.manual_seed(5)
    return FeatureMaps(
        torch.randn(3, 40, 4 * side, 4 * side),
        torch.randn(3, 112, 2 * side, 2 * side),
        torch.rand(3, 1280, side, side),
    )


def test_depths_are_mean_and_deviation_of_each_map() -> None:
    maps = random_maps()
    depths = depth_features(maps)
    assert depths.pooled.shape == (3, POOLED_WIDTH) == (3, 2864)
    start = 0
    for part in maps:
        mean, deviation = part.mean((2, 3)), part.var((2, 3), unbiased=False).sqrt()
        count = part.shape[1]
        torch.testing.assert_close(depths.pooled[:, start : start + count], mean)
        torch.testing.assert_close(
            depths.pooled[:, start + count : start + 2 * count], deviation, atol=1e-3, rtol=1e-3
        )
        start += 2 * count


def test_a_patch_tells_of_its_own_cell_alone() -> None:
    maps = random_maps(side=3)
    before = depth_features(maps).local
    assert before.shape == (3, 9, LOCAL_WIDTH) == (3, 9, 1584)
    row, column = 1, 2
    torch.testing.assert_close(before[:, 5, -1280:], maps.stride32[:, :, row, column])
    torch.testing.assert_close(before[:, 5, :40], maps.stride8[:, :, 4:8, 8:12].mean((2, 3)))
    maps.stride8[:, :, 4:8, 8:12] += torch.randn(4, 4)
    maps.stride16[:, :, 2:4, 4:6] *= 2
    changed = (depth_features(maps).local - before).abs().amax((0, 2))
    assert changed[5] > 0.1
    assert changed[[0, 1, 2, 3, 4, 6, 7, 8]].max() < 1e-5  # rounding


def test_spread_inside_a_cell_is_exact_also_on_a_bright_background() -> None:
    maps = random_maps()
    lifted = maps._replace(stride8=0.01 * maps.stride8 + 50)
    cells = lifted.stride8.double().unflatten(3, (2, 4)).unflatten(2, (2, 4))
    variance = cells.var((3, 5), unbiased=False).flatten(2).transpose(1, 2)
    wanted = torch.sqrt(variance + 1e-5).float()
    torch.testing.assert_close(depth_features(lifted).local[:, :, 40:80], wanted, atol=1e-4, rtol=0)


def test_texture_of_the_same_mean_is_told_apart() -> None:
    """A grid that a mean cannot see: this is what the deviations are for."""
    flat = FeatureMaps(torch.ones(1, 40, 8, 8), torch.ones(1, 112, 4, 4), torch.ones(1, 1280, 2, 2))
    grid = flat.stride8.clone()
    grid[..., ::2] += 1
    grid[..., 1::2] -= 1
    one, other = depth_features(flat), depth_features(flat._replace(stride8=grid))
    assert torch.equal(one.pooled[:, :40], other.pooled[:, :40])
    assert (other.pooled[:, 40:80] - one.pooled[:, 40:80]).min() > 0.9
    assert (other.local - one.local).abs().amax((0, 2)).min() > 0.9


def test_a_flat_image_has_a_finite_gradient() -> None:
    maps = [torch.zeros_like(part, requires_grad=True) for part in random_maps()]
    depths = depth_features(FeatureMaps(*maps))
    (depths.pooled.sum() + depths.local.sum()).backward()
    assert all(bool(torch.isfinite(part.grad).all()) for part in maps if part.grad is not None)
    assert all(part.grad is not None for part in maps)


def test_it_is_what_prompt_methods_need(vlm: CompactVlm) -> None:
    seen: Vlm = vlm.view("ab" * 32, "compact")
    tower: ImageTower = seen.image
    text: TextTower | None = seen.text
    assert text is not None
    with torch.inference_mode():
        found = tower(torch.randn(2, 3, 64, 64))
        sentence = text(text.embed(torch.tensor([[1, 9, 2]])), torch.tensor([2]))
    assert found.pooled.shape == (2, 16)
    assert found.patches.shape == found.patches_value.shape == (2, 4, 16)
    assert sentence.shape == (1, 16)
    assert (text.width, text.context_length, tower.size_px) == (24, 30, 64)
    assert seen.logit_scale == pytest.approx(1 / 0.07, rel=1e-5)
    assert (seen.dim, seen.backbone_sha, seen.name) == (16, "ab" * 32, "compact")


def test_pixels_are_normalised_as_in_training(vlm: CompactVlm) -> None:
    for mean, std in zip(vlm.image.mean, vlm.image.std, strict=True):
        assert (100 / 255 - mean) / std == pytest.approx((100 - 127) / 128)


def test_the_mean_patch_under_the_head_is_the_mean_of_patches(vlm: CompactVlm) -> None:
    """Why the patch head may be trained on the mean patch alone."""
    vlm.heads.fit_standards(
        torch.randn(8, POOLED_WIDTH), torch.randn(8, LOCAL_WIDTH), torch.randn(8, 24)
    )
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        patches = vlm.image(images).patches
        mean = vlm.heads.patch(vlm.image.depths(images).local.mean(1))
    torch.testing.assert_close(patches.mean(1), mean, atol=1e-4, rtol=1e-4)


def test_towers_are_frozen_and_heads_are_not(vlm: CompactVlm) -> None:
    assert vlm.text is not None
    towers = [*vlm.image.backbone.parameters(), *vlm.text.minilm.parameters()]
    assert not any(weight.requires_grad for weight in towers)
    assert all(weight.requires_grad for weight in vlm.heads.parameters())
    free = CompactVlm(EfficientNetLite0(), CompactHeads(CONFIG), freeze_towers=False)
    assert all(weight.requires_grad for weight in free.image.backbone.parameters())


def test_prompt_vectors_get_a_gradient_through_the_frozen_text_tower(vlm: CompactVlm) -> None:
    assert vlm.text is not None
    learned = torch.randn(2, 5, 24, requires_grad=True)
    vlm.text(learned, torch.tensor([4, 4])).square().sum().backward()
    assert learned.grad is not None
    assert (learned.grad.abs().sum(-1) > 0).all()


def test_one_image_or_four_give_the_same(vlm: CompactVlm) -> None:
    images = torch.randn(4, 3, 64, 64)
    with torch.inference_mode():
        together, alone = vlm.image(images), vlm.image(images[2:3])
    torch.testing.assert_close(together.pooled[2:3], alone.pooled, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(together.patches[2:3], alone.patches, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 3, 64, 32), (1, 1, 64, 64), (1, 3, 96, 96)])
def test_images_of_another_shape_are_refused(vlm: CompactVlm, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\('B', 3, 64, 64\) are needed"):
        vlm.image(torch.zeros(shape))


@pytest.mark.parametrize(
    "wrong", [{"size_px": 100}, {"size_px": 0}, {"dim": 0}, {"hidden": -1}, {"text_width": 0}]
)
def test_sizes_that_cannot_be_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="needed"):
        CompactConfig(**wrong)


def test_a_text_tower_of_another_width_is_refused() -> None:
    heads = CompactHeads(CompactConfig(text_width=384))
    with pytest.raises(ValueError, match="24 wide, its head 384"):
        CompactVlm(EfficientNetLite0(), heads, (MiniLm(TEXT), Letters()))


def test_standards_are_those_of_the_data_and_outliers_are_clipped() -> None:
    data = torch.randn(1000, 3) * torch.tensor([2.0, 5.0, 1e-9]) + torch.tensor([1.0, -4.0, 3.0])
    layer = Standardise(3, limit=6.0)
    layer.fit(data)
    out = layer(data)
    assert out[:, :2].mean(0).abs().max() < 1e-4
    assert (out[:, :2].std(0) - 1).abs().max() < 1e-4
    assert out[:, 2].abs().max() < 1e-3  # a channel that does not move is not blown up
    assert layer(torch.full((1, 3), 1e6)).tolist() == [[6.0, 6.0, 6.0]]


def test_a_linear_pooled_head_can_be_had() -> None:
    heads = CompactHeads(CompactConfig(size_px=64, dim=16, hidden=0))
    assert sum(1 for part in heads.pooled if isinstance(part, torch.nn.Linear)) == 1
    assert heads.pooled(torch.randn(2, POOLED_WIDTH)).shape == (2, 16)


def test_the_logit_scale_ends_at_a_hundred() -> None:
    heads = CompactHeads(CONFIG)
    heads.log_scale.data.fill_(9.0)
    assert float(heads.scale().detach()) == pytest.approx(100, rel=1e-5)


def test_sentences_do_not_depend_on_their_neighbours(vlm: CompactVlm) -> None:
    texts = ["a", "a longer one", "", "mask"]
    together = vlm.sentences(texts, batch=3)
    assert together.shape == (4, 24)
    alone = torch.cat([vlm.sentences([text]) for text in texts])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_texts_are_framed_by_begin_and_end() -> None:
    tokens, end = token_batch(Letters(), ["ab", ""])
    assert tokens.tolist() == [[1, 3 + 97 % 40, 3 + 98 % 40, 2], [1, 2, 0, 0]]
    assert end.tolist() == [3, 1]


def test_without_a_text_tower_no_sentence_can_be_read() -> None:
    vlm = CompactVlm(EfficientNetLite0(), CompactHeads(CONFIG))
    assert vlm.view("", "").text is None
    with pytest.raises(ValueError, match="without its text tower"):
        vlm.sentences(["a"])
