"""Motion between two pictures, and pictures moved by it.

Source: Kroeger et al., Fast Optical Flow using Dense Inverse Search (DIS), ECCV 2016
(arXiv:1603.03590), in OpenCV's implementation. Ours: how fields are held and enlarged.

A field [h, w, 2] float32 looks back: pixel p of what comes out shows pixel p + field[p] of what
went in, x first, in pixels of the field's own size. So a field is applied by looking up.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]
Care = Literal["quick", "careful"]

LEAST_PX = 16  # DIS has patches of 8 px
_PRESETS = {
    "quick": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "careful": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}


def motion(later: U8, earlier: U8, care: Care = "careful") -> F32:
    """The field by which `later` is made of `earlier`, both [h, w] gray.

    240x135 on one core: careful 3.3 ms, quick 0.3 ms. ValueError for sides below 16 px, or two
    sizes.
    """
    if later.shape != earlier.shape or min(later.shape[:2]) < LEAST_PX or later.ndim != 2:
        told = f"{later.shape} and {earlier.shape}"
        raise ValueError(f"motion needs two gray pictures of one size, 16 px at least, not {told}")
    finder: Any = cv2.DISOpticalFlow.create(_PRESETS[care])
    return np.asarray(finder.calc(later, earlier, None), np.float32)


def enlarged(field: F32, size: tuple[int, int]) -> F32:
    """The same motion in pixels of (width, height)."""
    height, width = field.shape[:2]
    if (width, height) == size:
        return field
    scaled = field * np.array([size[0] / width, size[1] / height], np.float32)
    return np.asarray(cv2.resize(scaled, size, interpolation=cv2.INTER_LINEAR), np.float32)


def looked_up(picture: U8, field: F32, *, fine: bool = False) -> U8:
    """[h, w] or [h, w, C] moved by a field of its size; beyond its edge the edge goes on.

    Bilinear, or `fine`: bicubic, which keeps edges sharp and costs three times as much.
    """
    x, y = _grid(field.shape[1], field.shape[0])
    way = cv2.INTER_CUBIC if fine else cv2.INTER_LINEAR
    columns, rows = field[..., 0] + x, field[..., 1] + y
    moved = cv2.remap(picture, columns, rows, way, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.uint8)


def fitted(picture: U8, size: tuple[int, int]) -> U8:
    """[h, w] or [h, w, 3] scaled to (width, height); shrunk by averaging."""
    if (picture.shape[1], picture.shape[0]) == size:
        return picture
    shrinks = picture.shape[1] > size[0]
    way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, size, interpolation=way), np.uint8)


def working_size(width: int, height: int, most_px: int) -> tuple[int, int]:
    """The same shape, at most so wide and high; sides of at least 16 px."""
    scale = min(1.0, most_px / max(width, height))
    return max(round(width * scale), LEAST_PX), max(round(height * scale), LEAST_PX)


def to_gray(pictures: Sequence[U8] | U8) -> list[U8]:
    """[h, w, 3] RGB each -> [h, w]."""
    return [np.asarray(cv2.cvtColor(one, cv2.COLOR_RGB2GRAY), np.uint8) for one in pictures]


@lru_cache(maxsize=16)
def _grid(width: int, height: int) -> tuple[F32, F32]:
    """[1, W] and [H, 1]: the place of every pixel."""
    columns = np.arange(width, dtype=np.float32)[None]
    rows = np.arange(height, dtype=np.float32)[:, None]
    return columns, rows
