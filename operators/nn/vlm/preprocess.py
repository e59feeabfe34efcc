"""Face crops to the batch an image tower wants.

Source: method specification, section 1.1, after Radford et al., ICML 2021 (arXiv:2103.00020): the
middle square is resized (bicubic, with a wider kernel when it shrinks, as Pillow does it), and each
colour loses its mean and is divided by its deviation. Squares are not stretched, because a face of
other proportions is a cue of its own.

Resizing works on bytes like the models' own training did, so values are rounded once before they
are normalised.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from operators.nn.vlm.errors import ImageError
from operators.nn.vlm.interface import ImageTower

MAX_RATIO = 4.0  # of the sides: a sliver has no middle worth looking at
MAX_SIDE_PX = 16384


def preprocess(crops: Sequence[NDArray[np.uint8]], tower: ImageTower) -> torch.Tensor:
    """Crops [H, W, 3] uint8 RGB, of any sizes, to [B, 3, size_px, size_px] float32, normalised.

    No crops give a batch of none. ImageError, which names the crop by its place, if one is empty,
    grey, not of 8 bits, has another number of channels, or has one side over four times the other.
    """
    size_px = tower.size_px
    batch = torch.empty(len(crops), 3, size_px, size_px)
    for place, crop in enumerate(crops):
        batch[place] = _square(_checked(crop, place), size_px)
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (tower.mean, tower.std))
    return batch.div_(255).sub_(mean).div_(std)


def _square(crop: NDArray[np.uint8], size_px: int) -> torch.Tensor:
    """[H, W, 3] uint8 to [3, size_px, size_px] uint8: the middle, resized."""
    height, width, _ = crop.shape
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    middle = crop[top : top + short, left : left + short].copy()  # torch wants it writable
    image = torch.from_numpy(middle).permute(2, 0, 1)[None]
    if short == size_px:
        return image[0]
    resized = functional.interpolate(
        image, size=(size_px, size_px), mode="bicubic", align_corners=False, antialias=True
    )
    return resized[0]


def _checked(crop: Any, place: int) -> NDArray[np.uint8]:
    problem = _problem(crop)
    if problem:
        raise ImageError(f"crop {place} {problem}; [H, W, 3] uint8 RGB is needed")
    checked: NDArray[np.uint8] = crop
    return checked


def _problem(crop: Any) -> str | None:
    """What is wrong with a crop, as the end of a sentence."""
    if not isinstance(crop, np.ndarray):
        return f"is a {type(crop).__name__}, no array"
    shape = crop.shape
    if crop.size == 0:
        return f"is empty, {shape}"
    if crop.ndim == 2 or (crop.ndim == 3 and shape[2] == 1):
        return f"is grey, {shape}"
    if crop.ndim != 3 or shape[2] != 3 or crop.dtype != np.uint8:
        return f"is {shape} {crop.dtype}"
    return _size_problem(shape[0], shape[1])


def _size_problem(height: int, width: int) -> str | None:
    if max(height, width) > MAX_SIDE_PX:
        return f"has {height} x {width} px, {MAX_SIDE_PX} are allowed"
    if max(height, width) > MAX_RATIO * min(height, width):
        return f"is a sliver of {height} x {width} px"
    return None
