"""Patches back into a frame: moved to the colours of what they cover, blended by a mask.

Colour transfer: per channel, mean and spread of the patch become those of what it replaces, both
under the mask (Reinhard et al., Color Transfer between Images, IEEE CG&A 2001, equations 10 and 11;
in RGB, because only light differs between a patch and its place, not the scene).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from operators.kernels.launching import On, launch, sent

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
U8 = npt.NDArray[np.uint8]
LEAST_SPREAD = 1.0  # levels: a flat patch is shifted, not stretched


@dataclass(frozen=True)
class Places:
    """Where n patches [n, S, S, 3] go in frames of one size. ValueError for what cannot be.

    matrices [n, 2, 3]: frame pixels -> patch pixels, whole numbers are centres. The boxes in which
    patches lie must not overlap.
    """

    width: int
    height: int
    size_px: int
    matrices: F64

    def __post_init__(self) -> None:
        if self.matrices.shape[1:] != (2, 3):
            raise ValueError(f"matrices of shape {self.matrices.shape}, not [n, 2, 3]")
        boxes = self.boxes
        for one in range(len(boxes)):
            for other in range(one):
                if _overlap(boxes[one], boxes[other]):
                    raise ValueError(f"patches {other} and {one} overlap; paste them in turn")

    @property
    def boxes(self) -> I32:
        """[n, 4] left, top, width, height: the least that hold the patches, cut at the frame."""
        end = self.size_px - 1
        corners = np.array([(0, 0), (end, 0), (0, end), (end, end)], float)
        found = []
        for matrix in self.matrices:
            back = np.linalg.inv(np.vstack([matrix, (0, 0, 1)]))[:2]
            there = corners @ back[:, :2].T + back[:, 2]
            low = np.maximum(np.floor(there.min(axis=0)), 0)
            high = np.minimum(np.ceil(there.max(axis=0)) + 1, (self.width, self.height))
            found.append((*low, *np.maximum(high - low, 0)))
        return np.array(found, np.int32).reshape(-1, 4)

    def bytes_moved(self) -> int:
        """Read and written: the frame's boxes twice, patches and masks once."""
        area = int((self.boxes[:, 2] * self.boxes[:, 3]).sum())
        return 2 * 3 * area + len(self.matrices) * 4 * self.size_px**2


def colour_transfer(patch: U8, mask: U8, under: U8) -> F32:
    """[6]: gain and offset per channel that move `patch` to the colours of `under`, both [S, S, 3],
    as the mask [S, S] weighs them. 1 and 0 where the mask is empty.
    """
    weight = mask.astype(np.float64)
    total = weight.sum()
    if total == 0:
        return np.tile(np.array([1, 0], np.float32), 3)

    def moments(image: U8) -> tuple[F64, F64]:
        mean = np.einsum("hwc,hw->c", image.astype(np.float64), weight) / total
        square = np.einsum("hwc,hw->c", (image - mean) ** 2, weight) / total
        return mean, np.sqrt(square)

    (here, spread), (there, wanted) = moments(patch), moments(under)
    gain = np.where(spread < LEAST_SPREAD, 1.0, wanted / np.maximum(spread, LEAST_SPREAD))
    return np.stack([gain, there - gain * here], axis=1).ravel().astype(np.float32)


def paste(frame: Any, patches: Any, masks: Any, places: Places, colours: Any, on: On) -> None:
    """Changes `frame` [H, W, 3] uint8 in place. patches [n, S, S, 3] and masks [n, S, S] uint8,
    colours [n, 6] float32: contiguous tensors on the device, given to the stream.
    """
    boxes = places.boxes
    if len(boxes) == 0:
        return
    maps = places.matrices.reshape(-1, 6).astype(np.float32)
    launch(
        "paste",
        (int(boxes[:, 2].max()), int(boxes[:, 3].max()), len(boxes)),
        (
            frame, patches, masks, sent(boxes, frame, on), sent(maps, frame, on), colours,
            places.width, places.height, places.size_px,
        ),
        on,
    )  # fmt: skip


def paste_twin(frame: U8, patches: U8, masks: U8, places: Places, colours: F32) -> U8:
    """The frame with the patches in. Within 2 levels of the kernel's, 1 for nearly all pixels:
    OpenCV places samples in steps of 1/32 pixel.
    """
    made = frame.astype(np.float32)
    for patch, mask, matrix, box, colour in zip(
        patches, masks, places.matrices, places.boxes, colours, strict=True
    ):
        left, top, width, height = (int(value) for value in box)
        if not width or not height:
            continue
        shift = matrix[:, 2] + matrix[:, :2] @ (left, top)
        back = np.column_stack([matrix[:, :2], shift])
        how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        moved = np.clip(patch.astype(np.float32) * colour[::2] + colour[1::2], -1e4, 1e4)
        found = cv2.warpAffine(moved, back, (width, height), flags=how)
        x, y = np.meshgrid(np.arange(width), np.arange(height))
        px = back[0, 0] * x + back[0, 1] * y + back[0, 2]
        py = back[1, 0] * x + back[1, 1] * y + back[1, 2]
        end = places.size_px - 1
        is_in = (px >= 0) & (py >= 0) & (px <= end) & (py <= end)
        cover = cv2.warpAffine(mask.astype(np.float32), back, (width, height), flags=how) / 255
        cover = np.where(is_in, cover, 0)[..., None]
        part = made[top : top + height, left : left + width]
        part += cover * (np.clip(found, 0, 255) - part)
    return np.asarray(np.rint(made), np.uint8)


def _overlap(one: I32, other: I32) -> bool:
    apart = (
        one[0] >= other[0] + other[2], other[0] >= one[0] + one[2],
        one[1] >= other[1] + other[3], other[1] >= one[1] + one[3],
    )  # fmt: skip
    return not any(apart)
