"""SAME padding as TensorFlow defines it; torch's own is symmetric and knows no stride."""

from __future__ import annotations

import math


def same_padding(size_px: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after one axis, so that ceil(size / stride) values come out.

    The odd zero goes behind, as in TensorFlow. A dilated kernel counts with the gaps in it.
    """
    total = max((math.ceil(size_px / stride) - 1) * stride + kernel - size_px, 0)
    return total // 2, total - total // 2
