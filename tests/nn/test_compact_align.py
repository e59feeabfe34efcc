"""What alignment is measured on, and by which figures."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from operators.nn.vlm.align_data import AlignData, cache_images
from operators.nn.vlm.compact import CompactConfig, CompactHeads, CompactVlm
from operators.nn.vlm.efficientnet import EfficientNetLite0
from operators.nn.vlm.retrieval import Retrieval, retrieval
from operators.nn.vlm.schedule import warm_cosine

SIZES = CompactConfig(size_px=64, dim=8, hidden=8, text_width=12)


def planted(seed: int, images: int = 40) -> AlignData:
    """Three classes that some channels tell; captions of each, and one true of the last two."""
    rng = torch.Generator().manual_seed(seed)
    image_class = torch.arange(images) % 3
    caption_class = torch.arange(16) % 4
    pooled = torch.randn(images, 2864, generator=rng) * 0.3
    local = torch.randn(images, 1584, generator=rng) * 0.3
    sentences = torch.randn(16, 12, generator=rng) * 0.1
    for number in range(3):
        pooled[image_class == number, number * 50 : number * 50 + 50] += 0.5
        local[image_class == number, number * 50 : number * 50 + 50] += 0.5
    for number in range(4):
        sentences[caption_class == number, number * 3 : number * 3 + 3] += 1
    covers = torch.tensor(
        [[True, False, False], [False, True, False], [False, False, True], [False, True, True]]
    )
    return AlignData(pooled.half(), local.half(), image_class, sentences, caption_class, covers)


@pytest.fixture
def data() -> AlignData:
    return planted(1)


def test_accuracy_counts_classes_alike_and_knows_the_right_answer() -> None:
    """Heads set by hand: images of class 0 find their captions, those of class 1 do not."""
    heads = CompactHeads(CompactConfig(size_px=64, dim=2, hidden=0, text_width=2))
    with torch.no_grad():
        for head in (heads.pooled, heads.patch, heads.text):
            head[1].weight.zero_()
            head[1].bias.zero_()
            head[1].weight[:, :2] = torch.eye(2)
    pooled, local = torch.zeros(4, 2864), torch.zeros(4, 1584)
    pooled[:, 0] = 1  # all look like class 0
    local[:, 1] = 1  # and their patches like class 1
    data = AlignData(
        pooled,
        local,
        torch.tensor([0, 0, 0, 1]),
        torch.eye(2),
        torch.tensor([0, 1]),
        torch.eye(2, dtype=torch.bool),
    )
    assert retrieval(heads, data) == Retrieval(0.5, 0.5, 0.5, 0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pooled": torch.zeros(40, 5)}, r"pooled \(40, 5\): finite numbers \(40, 2864\)"),
        ({"local": torch.full((40, 1584), torch.inf)}, "local .* finite"),
        ({"sentences": torch.zeros(3, 12)}, "sentences"),
        ({"image_class": torch.full((40,), 3)}, "image_class must hold numbers from 0 to 2"),
        ({"caption_class": torch.full((16,), -1)}, "caption_class must hold numbers from 0 to 3"),
        ({"caption_class": torch.zeros(16, dtype=torch.int64)}, "no caption is true of .* class 1"),
        ({"covers": torch.ones(4, 3)}, "covers must be a bool matrix"),
    ],
)
def test_data_that_does_not_fit_together_is_refused(
    data: AlignData, change: dict[str, torch.Tensor], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        replace(data, **change)


def test_images_are_kept_as_the_tower_tells_them() -> None:
    torch.manual_seed(8)
    tower = CompactVlm(EfficientNetLite0().eval(), CompactHeads(SIZES)).image
    batches = [torch.randn(2, 3, 64, 64), torch.randn(1, 3, 64, 64)]
    kept = cache_images(tower, batches)
    depths = tower.depths(batches[1])
    assert kept.pooled.shape == (3, 2864)
    torch.testing.assert_close(kept.pooled[2:], depths.pooled.half())
    torch.testing.assert_close(kept.local[2:], depths.local.mean(1).half())
    with pytest.raises(ValueError, match="no batch"):
        cache_images(tower, [])


def test_the_rate_rises_straight_and_falls_as_half_a_cosine() -> None:
    rates = [warm_cosine(step, 110, 10) for step in range(110)]
    assert rates[:10] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert rates[10] == 1
    assert rates[60] == pytest.approx(0.5)
    assert all(one > other for one, other in pairwise(rates[10:]))
    assert 0 < rates[-1] < 0.001
    assert warm_cosine(0, 1, 0) == 1
    assert warm_cosine(110, 110, 10) == pytest.approx(0)
