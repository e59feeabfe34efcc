"""Values between pixels, as the kernels take them: the same steps in float32, for their twins."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
Border = Literal["rim", "mirror"] | float  # a number: everything outside is that
# Pixels by which a place may miss an edge and still lies on it: float32 at the far side of 4K.
EDGE_PX = 1e-3


def between(plane: npt.NDArray[Any], x: F32, y: F32, border: Border = "rim") -> F32:
    """plane [H, W] at places x, y [...]; whole numbers are centres of pixels."""
    left, top = np.floor(x), np.floor(y)
    found = np.zeros(x.shape, np.float32)
    for down in (0, 1):
        for across in (0, 1):
            part = np.abs(x - left - (1 - across)) * np.abs(y - top - (1 - down))
            columns, rows = left.astype(np.int64) + across, top.astype(np.int64) + down
            found += part * _at(plane, rows, columns, border)
    return found


def _at(plane: npt.NDArray[Any], rows: Any, columns: Any, border: Border) -> F32:
    if border == "mirror":
        rows, columns = (_mirrored(i, n) for i, n in zip((rows, columns), plane.shape, strict=True))
        return np.asarray(plane[rows, columns], np.float32)
    held = [np.clip(i, 0, n - 1) for i, n in zip((rows, columns), plane.shape, strict=True)]
    values = np.asarray(plane[held[0], held[1]], np.float32)
    if border == "rim":
        return values
    is_in = (held[0] == rows) & (held[1] == columns)
    return np.where(is_in, values, np.float32(border))


def _mirrored(at: Any, size: int) -> Any:
    if size == 1:
        return np.zeros_like(at)
    at = at % (2 * size - 2)
    return np.where(at < size, at, 2 * size - 2 - at)


def places(way: npt.NDArray[np.float32], x: Any, y: Any) -> tuple[F32, F32]:
    """x, y through [6], a [2, 3] matrix row by row, in float32."""
    x, y = np.asarray(x, np.float32), np.asarray(y, np.float32)
    return way[0] * x + way[1] * y + way[2], way[3] * x + way[4] * y + way[5]


def on_it(x: F32, y: F32, width: int, height: int) -> npt.NDArray[np.bool_]:
    """Where places lie among the centres of a plane's pixels."""
    right, bottom = width - 1 + EDGE_PX, height - 1 + EDGE_PX
    return (x >= -EDGE_PX) & (y >= -EDGE_PX) & (x <= right) & (y <= bottom)
