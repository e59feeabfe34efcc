"""A spread-spectrum mark in luma, embedded in one pass.

Cox et al., Secure Spread Spectrum Watermarking for Multimedia, IEEE Trans. Image Processing 1997,
equation 1 (v' = v + alpha x), block by block with one bit each. Which bits and which pattern, and
how they are read again, is the operator's; this adds them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from operators.kernels.launching import On, check, launch

I8 = npt.NDArray[np.int8]
U8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Mark:
    """bits [n] and pattern [S, S] of +1 and -1, strength in levels. ValueError if not so."""

    bits: I8
    pattern: I8
    strength: float

    def __post_init__(self) -> None:
        for name in ("bits", "pattern"):
            array = getattr(self, name)
            if array.dtype != np.int8 or array.size == 0 or not (np.abs(array) == 1).all():
                raise ValueError(f"{name} are +1 and -1 as int8")
        if self.bits.ndim != 1:
            raise ValueError(f"bits of shape {self.bits.shape} as int8, not [n]")
        if self.pattern.ndim != 2 or self.pattern.shape[0] != self.pattern.shape[1]:
            raise ValueError(f"a pattern of shape {self.pattern.shape}, not [S, S]")
        if not 0 < self.strength <= 64:
            raise ValueError(f"a strength of {self.strength} levels: above 0, 64 at most")

    @property
    def side_px(self) -> int:
        return len(self.pattern)


def bytes_moved(width: int, height: int) -> int:
    """Read and written for one frame: its luma twice."""
    return 2 * width * height


def watermark(luma: Any, bits: Any, pattern: Any, mark: Mark, on: On) -> None:
    """Changes `luma` [H, W] uint8 in place; `bits` and `pattern` are the mark's, on the device.
    Arrays as `memory_of` takes them. ValueError for others.
    """
    height, width = luma.shape
    check("luma", luma, (height, width), "uint8")
    check("bits", bits, mark.bits.shape, "int8")
    check("pattern", pattern, mark.pattern.shape, "int8")
    launch(
        "watermark",
        (width, height, 1),
        (luma, bits, pattern, mark.bits.size, width, height, mark.side_px, float(mark.strength)),
        on,
    )


def watermark_twin(luma: U8, mark: Mark) -> U8:
    """[H, W] with the mark in whole blocks; the rest at the right and below stays as it is."""
    side = mark.side_px
    rows, columns = luma.shape[0] // side, luma.shape[1] // side
    signs = np.resize(mark.bits, rows * columns).reshape(rows, columns)
    added = np.kron(signs, mark.pattern).astype(np.float32) * np.float32(mark.strength)
    made = luma.copy()
    part = made[: rows * side, : columns * side]
    part[:] = np.rint(np.clip(part + added, 0, 255))
    return made
