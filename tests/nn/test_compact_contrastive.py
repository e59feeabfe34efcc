"""Properties of the contrastive loss with several captions per image."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from operators.nn.vlm.contrastive import contrastive_loss, fitting

IMAGE_CLASS = torch.tensor([0, 1, 1, 2])
CAPTION_CLASS = torch.tensor([0, 0, 1, 2, 2, 2, 3])


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(4, 8), torch.randn(7, 8)


def test_the_value_is_that_of_the_formula(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    images, captions = pair
    fits = fitting(IMAGE_CLASS, CAPTION_CLASS)
    s = 5.0
    z = s * functional.normalize(images, dim=1) @ functional.normalize(captions, dim=1).T

    def side(z: torch.Tensor, fits: torch.Tensor) -> list[float]:
        rows = []
        for row, fit in zip(z.tolist(), fits.tolist(), strict=True):
            others = sum(math.exp(v) for v, true in zip(row, fit, strict=True) if not true)
            own = [math.exp(v) for v, true in zip(row, fit, strict=True) if true]
            if own:
                rows.append(-sum(math.log(v / (v + others)) for v in own) / len(own))
        return rows

    one, other = side(z, fits), side(z.T, fits.T)
    assert (len(one), len(other)) == (4, 6)  # nobody is told by the last caption
    expected = (sum(one) / 4 + sum(other) / 6) / 2
    assert float(contrastive_loss(images, captions, fits, s)) == pytest.approx(expected, rel=1e-5)


def test_with_one_caption_each_it_is_clips_loss(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    images, captions = pair[0], pair[1][:4]
    z = 3 * functional.normalize(images, dim=1) @ functional.normalize(captions, dim=1).T
    truth = torch.arange(4)
    clip = (functional.cross_entropy(z, truth) + functional.cross_entropy(z.T, truth)) / 2
    got = contrastive_loss(images, captions, torch.eye(4, dtype=torch.bool), 3.0)
    torch.testing.assert_close(got, clip)


def test_order_does_not_matter(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    images, captions = pair
    rows, columns = torch.randperm(4), torch.randperm(7)
    fits = fitting(IMAGE_CLASS, CAPTION_CLASS)
    shuffled = fitting(IMAGE_CLASS[rows], CAPTION_CLASS[columns])
    torch.testing.assert_close(
        contrastive_loss(images, captions, fits, 7.0),
        contrastive_loss(images[rows], captions[columns], shuffled, 7.0),
    )


def test_captions_of_one_class_do_not_push_each_other_away() -> None:
    """Two wordings of the right thing, one of them nearer: the other's gradient only pulls."""
    images = torch.tensor([[1.0, 0.0, 0.0]])
    captions = torch.tensor([[1.0, 0.1, 0.0], [1.0, 0.5, 0.0], [0.0, 0.0, 1.0]])
    captions.requires_grad_()
    fits = torch.tensor([[True, True, False]])
    contrastive_loss(images, captions, fits, 5.0).backward()
    assert captions.grad is not None
    moved = functional.normalize(captions.detach() - 0.05 * captions.grad, dim=1)
    gain = (moved - functional.normalize(captions.detach(), dim=1)) @ images[0]
    assert gain[0] > 0
    assert gain[1] > 0


def test_images_of_one_class_are_not_negatives_of_each_other() -> None:
    """A second image of the same class leaves the first one's terms as they were."""
    images = torch.eye(3)
    captions = torch.eye(3)[:2]
    alone = contrastive_loss(images[:2], captions, torch.eye(2, dtype=torch.bool), 4.0)
    doubled = torch.cat([images[:2], images[:1]])
    fits = torch.tensor([[True, False], [False, True], [True, False]])
    with_a_twin = contrastive_loss(doubled, captions, fits, 4.0)
    # caption 1 has two negatives now; caption 0 and the images have as many as before
    e = math.exp(4)
    first, more = math.log1p(1 / e), math.log1p(2 / e)
    assert float(alone) == pytest.approx(first, rel=1e-5)
    assert float(with_a_twin) == pytest.approx((first + (first + more) / 2) / 2, rel=1e-5)


def test_it_reaches_zero_with_several_captions_per_image() -> None:
    images = torch.eye(2).repeat_interleave(2, dim=0)
    captions = torch.eye(2).repeat_interleave(3, dim=0)
    fits = fitting(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 0, 1, 1, 1]))
    assert float(contrastive_loss(images, captions, fits, 100.0)) < 1e-6


def test_where_everything_fits_there_is_nothing_to_learn() -> None:
    images = torch.randn(2, 4, requires_grad=True)
    loss = contrastive_loss(images, torch.randn(3, 4), torch.ones(2, 3, dtype=torch.bool), 9.0)
    loss.backward()
    assert float(loss.detach()) == 0
    assert images.grad is not None
    assert torch.equal(images.grad, torch.zeros(2, 4))


def test_lengths_do_not_matter(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    images, captions = pair
    fits = fitting(IMAGE_CLASS, CAPTION_CLASS)
    torch.testing.assert_close(
        contrastive_loss(images, captions, fits, 7.0),
        contrastive_loss(images * 9, captions * 0.1, fits, 7.0),
    )


def test_a_wide_caption_covers_several_classes() -> None:
    covers = torch.tensor([[True, False, False], [False, True, True], [False, False, True]])
    got = fitting(torch.tensor([0, 1, 2]), torch.tensor([1, 0, 2]), covers)
    assert got.tolist() == [[False, True, False], [True, False, False], [True, False, True]]


def test_an_image_without_a_caption_is_refused() -> None:
    with pytest.raises(ValueError, match="no caption fits image 1"):
        contrastive_loss(
            torch.ones(2, 3), torch.ones(2, 3), torch.tensor([[True, True], [False, False]]), 1.0
        )


@pytest.mark.parametrize("fits", [torch.ones(3, 2, dtype=torch.bool), torch.ones(2, 3)])
def test_another_matrix_is_refused(fits: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="a bool matrix of images by captions"):
        contrastive_loss(torch.ones(2, 4), torch.ones(3, 4), fits, 1.0)
