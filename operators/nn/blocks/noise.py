"""Noise that is named: the same key gives the same numbers, whatever was drawn before."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch


def keyed_generator(*key: int) -> torch.Generator:
    """A CPU generator whose state comes from all numbers of `key` together."""
    digest = hashlib.sha256(",".join(str(number) for number in key).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def keyed_normal(shape: Sequence[int], *key: int) -> torch.Tensor:
    """Standard normal, float32, on the CPU: equal on every device that it is then sent to."""
    return torch.randn(tuple(shape), generator=keyed_generator(*key))
