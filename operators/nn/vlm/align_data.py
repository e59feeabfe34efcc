"""What alignment is measured on: features of pictures and captions, kept once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import torch

from operators.nn.vlm.compact import LOCAL_WIDTH, POOLED_WIDTH, CompactImageTower


class CachedImages(NamedTuple):
    """Of each image what heads need, in float16: 8.9 KB."""

    pooled: torch.Tensor  # [N, 2864]
    local: torch.Tensor  # [N, 1584], the mean over the image's patches


@torch.no_grad()
def cache_images(tower: CompactImageTower, batches: Iterable[torch.Tensor]) -> CachedImages:
    """One pass of the frozen tower; each batch [B, 3, size_px, size_px] normalised float32.

    The mean patch is all that a linear patch head can learn from. ValueError without any batch.
    """
    pooled, local = [], []
    for images in batches:
        depths = tower.depths(images)
        pooled.append(depths.pooled.half())
        local.append(depths.local.mean(dim=1).half())
    if not pooled:
        raise ValueError("no batch of images came")
    return CachedImages(torch.cat(pooled), torch.cat(local))


@dataclass(frozen=True)
class AlignData:
    """Images and captions of the frozen towers, with the class of each. Checked when made."""

    pooled: torch.Tensor  # [N, 2864] float16 or float32
    local: torch.Tensor  # [N, 1584]
    image_class: torch.Tensor  # [N] int64, from 0
    sentences: torch.Tensor  # [M, text_width] float32, see `CompactVlm.sentences`
    caption_class: torch.Tensor  # [M] int64, from 0
    covers: torch.Tensor  # [caption classes, image classes] bool: which caption is true of what

    def __post_init__(self) -> None:
        images, captions = len(self.image_class), len(self.caption_class)
        wanted = {
            "pooled": (images, POOLED_WIDTH),
            "local": (images, LOCAL_WIDTH),
            "sentences": (captions, self.sentences.shape[-1]),
        }
        for name, shape in wanted.items():
            value = getattr(self, name)
            if tuple(value.shape) != shape or not bool(torch.isfinite(value).all()):
                raise ValueError(f"{name} {tuple(value.shape)}: finite numbers {shape} are needed")
        if self.covers.ndim != 2 or self.covers.dtype != torch.bool:
            raise ValueError("covers must be a bool matrix of caption classes by image classes")
        for name, value, count in (
            ("image_class", self.image_class, self.covers.shape[1]),
            ("caption_class", self.caption_class, self.covers.shape[0]),
        ):
            if len(value) == 0 or int(value.min()) < 0 or int(value.max()) >= count:
                raise ValueError(f"{name} must hold numbers from 0 to {count - 1}")
        told = self.covers[classes_in(self.caption_class)].any(dim=0)
        untold = [number for number in classes_in(self.image_class) if not told[number]]
        if untold:
            raise ValueError(f"no caption is true of the images of class {untold[0]}")

    def fingerprint(self) -> str:
        """SHA-256 over everything: training goes on only with the data it began with."""
        digest = hashlib.sha256()
        for field in fields(self):
            value = getattr(self, field.name)
            digest.update(f"{field.name}|{value.dtype}|{list(value.shape)}|".encode())
            digest.update(value.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


def step_rng(seed: int, step: int) -> np.random.Generator:
    """The chance of one step: the same whether training was interrupted before it or not."""
    return np.random.default_rng([seed, step])


def classes_in(numbers: torch.Tensor) -> list[int]:
    """The class numbers that occur, in order."""
    return sorted(set(numbers.tolist()))
