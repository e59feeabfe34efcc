"""Patches back into a frame: moved to the colours of their places, blended by a mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from operators.kernels.launching import On, check, launch, sent
from operators.kernels.sampling import between, on_it, places

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
U8 = npt.NDArray[np.uint8]


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

    @property
    def ways(self) -> F32:
        """[n, 6] the matrices as kernels read them."""
        return self.matrices.reshape(-1, 6).astype(np.float32)

    def check(self, frame: Any, patches: Any, masks: Any) -> None:
        """ValueError unless arrays on a device have these sizes."""
        count, size = len(self.matrices), self.size_px
        check("frame", frame, (self.height, self.width, 3), "uint8")
        check("patches", patches, (count, size, size, 3), "uint8")
        check("masks", masks, (count, size, size), "uint8")

    def bytes_moved(self) -> int:
        """Read and written: the frame's boxes twice, patches and masks once."""
        area = int((self.boxes[:, 2] * self.boxes[:, 3]).sum())
        return 2 * 3 * area + len(self.matrices) * 4 * self.size_px**2


def paste(frame: Any, patches: Any, masks: Any, where: Places, colours: Any, on: On) -> None:
    """Changes `frame` [H, W, 3] uint8 in place. patches [n, S, S, 3] and masks [n, S, S] uint8,
    colours [n, 6] float32, gain and offset per channel. Arrays as `memory_of` takes them.
    ValueError for others.
    """
    boxes = where.boxes
    where.check(frame, patches, masks)
    check("colours", colours, (len(boxes), 6), "float32")
    if len(boxes) == 0:
        return
    launch(
        "paste",
        (int(boxes[:, 2].max()), int(boxes[:, 3].max()), len(boxes)),
        (
            frame, patches, masks, sent(boxes, on), sent(where.ways, on), colours,
            where.width, where.height, where.size_px,
        ),
        on,
    )  # fmt: skip


def paste_twin(frame: U8, patches: U8, masks: U8, where: Places, colours: F32) -> U8:
    """The frame with the patches in. Within 1 level of the kernel's."""
    made = frame.copy()
    rows = zip(patches, masks, where.ways, where.boxes, colours, strict=True)
    for patch, mask, way, (left, top, width, height), colour in rows:
        y, x = np.mgrid[top : top + height, left : left + width]
        px, py = places(way, x, y)
        cover = between(mask, px, py) / np.float32(255)
        cover = np.where(on_it(px, py, *mask.shape), cover, np.float32(0))
        for c in range(3):
            part = made[top : top + height, left : left + width, c]
            moved = between(patch[..., c], px, py) * colour[2 * c] + colour[2 * c + 1]
            part[:] = np.rint(part * (1 - cover) + np.clip(moved, 0, 255) * cover)
    return made


def _overlap(one: I32, other: I32) -> bool:
    apart = (
        one[0] >= other[0] + other[2], other[0] >= one[0] + one[2],
        one[1] >= other[1] + other[3], other[1] >= one[1] + one[3],
    )  # fmt: skip
    return not any(apart)
