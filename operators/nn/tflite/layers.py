"""TFLite's operators with torch's meaning: maps are [B, C, H, W] here, [N, H, W, C] in the file."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from operators.nn.static_graph import frozen

Pads = tuple[int, int, int, int]  # left, right, top, bottom
TO_FILE = (0, 2, 3, 1)  # the permutation from a map here to the file's layout


class MaxPool(nn.Module):
    """The largest of each window; what lies outside the map is smaller than anything."""

    def __init__(self, kernel: tuple[int, int], stride: tuple[int, int], pads: Pads) -> None:
        super().__init__()
        self.kernel, self.stride, self.pads = kernel, stride, pads

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] to [B, C, ...]."""
        if any(self.pads):
            x = functional.pad(x, self.pads, value=float("-inf"))
        return functional.max_pool2d(x, self.kernel, self.stride)


class Pad(nn.Module):
    """Zeros around a map, and behind its channels."""

    def __init__(self, pads: tuple[int, ...]) -> None:
        """`pads` in torch's order: last axis first, before and after."""
        super().__init__()
        self.pads = pads

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W], each side as much longer as the pads say."""
        return functional.pad(x, self.pads)


class PRelu(nn.Module):
    """A slope per channel below zero."""

    def __init__(self, slope: torch.Tensor) -> None:
        """`slope` [C]."""
        super().__init__()
        self.slope = frozen(slope)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W], the same shape."""
        return functional.prelu(x, self.slope)


class Resize(nn.Module):
    """Bilinear, pixels being areas and not points (`half_pixel_centers`)."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] to [B, C, *size]."""
        return functional.interpolate(x, self.size, mode="bilinear", align_corners=False)


class Reshape(nn.Module):
    """Another shape for the same numbers, which keep the file's order; the batch stays first."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        """`shape` without the batch."""
        super().__init__()
        self.shape = shape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, ...] to [B, *shape]."""
        if x.dim() == 4:
            x = x.permute(TO_FILE)
        return x.reshape(x.shape[0], *self.shape)


class Concat(nn.Module):
    """One behind the other along an axis."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, *parts: torch.Tensor) -> torch.Tensor:
        """Parts that differ along the axis only."""
        return torch.cat(parts, self.axis)


class ToFile(nn.Module):
    """A map as the file has it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] to [B, H, W, C]."""
        return x.permute(TO_FILE)


class Activated(nn.Module):
    """A layer with its fused activation."""

    def __init__(self, layer: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.layer, self.activation = layer, activation

    def forward(self, *given: torch.Tensor) -> torch.Tensor:
        """What the layer takes."""
        result: torch.Tensor = self.activation(self.layer(*given))
        return result
