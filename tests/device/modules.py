"""Small modules that every backend can build, and keys without a module."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn

from engine.device.report import EngineKey, Machine


class Found(NamedTuple):
    """What `Tiny` returns."""

    scores: torch.Tensor  # [B, 4]
    means: torch.Tensor  # [B, 8]


class Tiny(nn.Module):
    """A convolution, a nonlinearity, a mean, a matrix."""

    def __init__(self, seed: int = 0, gain: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.head = nn.Linear(8, 4)
        self.register_buffer("offset", torch.tensor(0.5), persistent=False)
        self.gain = gain

    def forward(self, images: torch.Tensor) -> Found:
        """[B, 3, 16, 16] float32."""
        means = self.conv(images).relu().mean((2, 3)) * self.gain + self.offset
        return Found(self.head(means), means)


class Twice(nn.Module):
    """Two inputs, one of them whole numbers; a dictionary out."""

    def forward(self, x: torch.Tensor, places: torch.Tensor) -> dict[str, Any]:
        """[B, 4] float32 and [B] int64."""
        return {"twice": 2 * x, "next": [places + 1]}


def images(count: int = 2, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, 16, 16, generator=generator)


def key(backend: str = "fake", weights: str = "w") -> EngineKey:
    return EngineKey(
        weights=weights,
        graph="g",
        backend=backend,
        versions={"fake": "1"},
        device="cpu",
        machine=Machine("test", "", ""),
        threads=1,
        precision="fp32",
        inputs=("float32[1]",),
        dynamic={"x": {0: (1, 8)}},
    )
