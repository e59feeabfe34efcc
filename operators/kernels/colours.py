"""How patches must change to have the colours of what they will cover.

Per channel, mean and spread of the patch become those of what it replaces, both under the mask
(Reinhard et al., Color Transfer between Images, IEEE CG&A 2001, equations 10 and 11; in RGB: only
light differs between a patch and its place, not the scene).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from operators.kernels.crop import maps_of
from operators.kernels.launching import On, check, constant, launch, room, sent
from operators.kernels.paste import Places
from operators.kernels.sampling import between, on_it, places

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
U8 = npt.NDArray[np.uint8]
LEAST_SPREAD = 1.0  # levels: a flat patch is shifted, not stretched
STRIP = 32  # rows of a patch that a thread adds up
SUMS = 14  # per patch: see colours.cu


class ColoursKernel:
    """The kernel, with room for `most` patches at a time. One stream at a time."""

    def __init__(self, most: int, device: int = 0) -> None:
        self._most = most
        self._device = device
        self._sums = constant(np.zeros((most, SUMS), np.int64), device)

    def __call__(
        self, frame: Any, patches: Any, masks: Any, where: Places, colours: Any, stream: int
    ) -> Any:
        """frame [H, W, 3], patches [n, S, S, 3], masks [n, S, S], all uint8 -> colours [n, 6]
        float32 as `paste` wants them, made where None is given. ValueError for other arrays.
        """
        count, size, on = len(where.matrices), where.size_px, On(stream, self._device)
        if count > self._most:
            raise ValueError(f"{count} patches; there is room for {self._most}")
        if colours is None:
            colours = room((count, 6), "float32", on)
        where.check(frame, patches, masks)
        check("colours", colours, (count, 6), "float32")
        launch(
            "colours",
            (size, -(-size // STRIP), count),
            (
                frame, patches, masks, sent(maps_of(where.matrices), on), self._sums, colours,
                where.width, where.height, size, LEAST_SPREAD,
            ),
            on,
        )  # fmt: skip
        return colours


def bytes_moved(where: Places) -> int:
    """Read and written: of the frame what lies under patches, patches and masks, once each."""
    area = int((where.boxes[:, 2] * where.boxes[:, 3]).sum())
    return 3 * area + len(where.matrices) * (4 * where.size_px**2 + 24)


def colours_twin(frame: U8, patches: U8, masks: U8, where: Places) -> F32:
    """[n, 6]. Gains within 0.001 of the kernel's, offsets within 0.1 level."""
    y, x = np.mgrid[: where.size_px, : where.size_px]
    made = []
    for patch, mask, way in zip(patches, masks, maps_of(where.matrices), strict=True):
        fx, fy = places(way, x, y)
        under = np.stack([np.rint(between(frame[..., c], fx, fy)) for c in range(3)], axis=2)
        seen = np.where(on_it(fx, fy, where.width, where.height), mask, 0).astype(np.uint8)
        made.append(colour_transfer(patch, seen, under.astype(np.uint8)))
    return np.array(made, np.float32).reshape(-1, 6)


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
