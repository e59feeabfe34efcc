"""How often images find captions that are true of them, beside what knowing nothing gives.

Where a caption class covers several image classes ("a spoof"), answering it always is better than
guessing, so the bar to be beaten is `constant`, not the chances.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn import functional

from operators.nn.vlm.align_data import AlignData, classes_in
from operators.nn.vlm.compact import CompactHeads


class Retrieval(NamedTuple):
    """Shares in [0, 1]; each image class counts the same, however many images it has."""

    class_accuracy: float  # the nearest caption class (mean of its captions) is true of the image
    patch_accuracy: float  # the same by the mean patch
    class_chance: float  # that a class drawn at random is true
    caption_accuracy: float  # the nearest single caption is true
    caption_chance: float  # that one drawn at random is
    constant: float  # the best that one and the same caption class for every image reaches


@torch.no_grad()
def retrieval(heads: CompactHeads, data: AlignData) -> Retrieval:
    """Measure on images, and if they can be had on wordings, that training never saw."""
    captions = functional.normalize(heads.text(data.sentences), dim=1)
    present = classes_in(data.caption_class)
    classes = torch.stack(
        [
            functional.normalize(captions[data.caption_class == number].mean(dim=0), dim=0)
            for number in present
        ]
    )
    # Of unit captions the cosine alone orders, and the image's length orders nothing.
    pooled, patch = heads.pooled(data.pooled.float()), heads.patch(data.local.float())
    fits_class = data.covers[present][:, data.image_class].T  # [N, classes]
    fits_caption = data.covers[data.caption_class][:, data.image_class].T  # [N, M]
    return Retrieval(
        _hits(pooled @ classes.T, fits_class, data.image_class),
        _hits(patch @ classes.T, fits_class, data.image_class),
        _balanced(fits_class.float().mean(dim=1), data.image_class),
        _hits(pooled @ captions.T, fits_caption, data.image_class),
        _balanced(fits_caption.float().mean(dim=1), data.image_class),
        max(_balanced(column, data.image_class) for column in fits_class.float().unbind(1)),
    )


def _hits(score: torch.Tensor, fits: torch.Tensor, image_class: torch.Tensor) -> float:
    nearest = score.argmax(dim=1, keepdim=True)
    return _balanced(fits.gather(1, nearest)[:, 0].float(), image_class)


def _balanced(value: torch.Tensor, image_class: torch.Tensor) -> float:
    """Mean over image classes of the mean over their images."""
    means = [value[image_class == number].mean() for number in classes_in(image_class)]
    return float(torch.stack(means).mean())
