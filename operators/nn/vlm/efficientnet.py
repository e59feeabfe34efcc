"""EfficientNet-lite0 as a feature extractor: maps at strides 8, 16 and 32 of one image pass.

Source: Tan and Le, EfficientNet, ICML 2019 (arXiv:1905.11946), table 1, in the "lite" form: no
squeeze-and-excitation, ReLU6 for swish, stem and head not scaled. The block is MBConv of
MobileNetV2 (Sandler et al., CVPR 2018, arXiv:1801.04381, section 3.3). Weights that TensorFlow
trained need its SAME padding and its batch-norm epsilon of 1e-3.

Inferred, ours: the maps of strides 8 and 16 leave the network beside the last one, because what
betrays paper, screens and masks is fine texture, which the last map has mostly averaged away.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from operators.nn.padding import same_padding

NORM_EPSILON = 1e-3
STEM_CHANNELS = 32
HEAD_CHANNELS = 1280
CHANNELS = (40, 112, HEAD_CHANNELS)  # of the maps at strides 8, 16, 32
STRIDES = (8, 16, 32)
MEAN = (127 / 255,) * 3  # images in [0, 1] become (255 x - 127) / 128, as in training
STD = (128 / 255,) * 3


class Stage(NamedTuple):
    """A row of the paper's table 1: `repeats` blocks, of which the first has the stride."""

    repeats: int
    kernel: int
    stride: int
    expand: int  # inner channels per channel that comes in
    channels: int  # that go out


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
TAPS = (4, 10)  # the last blocks whose maps have strides 8 and 16


class FeatureMaps(NamedTuple):
    """What one pass gives; H and W are the image's, divisions round up."""

    stride8: torch.Tensor  # [B, 40, H/8, W/8], signed (a linear bottleneck)
    stride16: torch.Tensor  # [B, 112, H/16, W/16], signed
    stride32: torch.Tensor  # [B, 1280, H/32, W/32] in [0, 6]


class ConvNorm(nn.Module):
    """A SAME-padded convolution, batch norm (or a bias once folded), and ReLU6 if asked."""

    def __init__(
        self, channels: tuple[int, int], kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(*channels, kernel, stride, groups=groups, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(channels[1], eps=NORM_EPSILON)
        self.kernel, self.stride, self.groups = kernel, stride, groups
        self.activates = True
        # He et al. 2015: ReLU halves the energy, so the weights double it.
        nn.init.normal_(self.conv.weight, std=math.sqrt(2 * groups / (channels[0] * kernel**2)))

    def linear(self) -> ConvNorm:
        """The same without ReLU6, to be chained after the constructor."""
        self.activates = False
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, in, H, W] to [B, out, ceil(H / stride), ceil(W / stride)]."""
        top, bottom = same_padding(x.shape[2], self.kernel, self.stride)
        left, right = same_padding(x.shape[3], self.kernel, self.stride)
        padding = (top, left)
        if (top, left) != (bottom, right):
            x, padding = functional.pad(x, (left, right, top, bottom)), (0, 0)
        weight, bias = self.conv.weight, self.conv.bias
        y: torch.Tensor = self.norm(
            functional.conv2d(x, weight, bias, self.stride, padding, groups=self.groups)
        )
        return functional.relu6(y) if self.activates else y

    @torch.no_grad()
    def fold(self) -> None:
        """Put the batch norm into the convolution: w' = w g / sqrt(v + eps), b' = b - m g / ..."""
        norm = self.norm
        if not isinstance(norm, nn.BatchNorm2d):
            return
        assert norm.running_mean is not None
        assert norm.running_var is not None
        gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        self.conv.weight.mul_(gain[:, None, None, None])
        self.conv.bias = nn.Parameter(
            norm.bias - norm.running_mean * gain, requires_grad=self.conv.weight.requires_grad
        )
        self.norm = nn.Identity()


class MbConv(nn.Module):
    """Expand, filter each channel by itself, project; add what came in where shapes agree."""

    def __init__(self, channels: int, stage: Stage, stride: int) -> None:
        super().__init__()
        inner = channels * stage.expand
        self.expand: nn.Module = (
            ConvNorm((channels, inner), 1) if stage.expand > 1 else nn.Identity()
        )
        self.depthwise = ConvNorm((inner, inner), stage.kernel, stride, groups=inner)
        self.project = ConvNorm((inner, stage.channels), 1).linear()
        self.adds = stride == 1 and channels == stage.channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, in, H, W] to [B, out, ceil(H / stride), ceil(W / stride)]."""
        y: torch.Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.adds else y


class EfficientNetLite0(nn.Module):
    """The network without its classifier: 3.4 million parameters."""

    def __init__(self) -> None:
        """Random weights; `compact_weights` puts trained ones in."""
        super().__init__()
        self.stem = ConvNorm((3, STEM_CHANNELS), 3, 2)
        blocks: list[nn.Module] = []
        channels = STEM_CHANNELS
        for stage in STAGES:
            for repeat in range(stage.repeats):
                blocks.append(MbConv(channels, stage, stage.stride if repeat == 0 else 1))
                channels = stage.channels
        self.blocks = nn.ModuleList(blocks)
        self.head = ConvNorm((channels, HEAD_CHANNELS), 1)

    def forward(self, images: torch.Tensor) -> FeatureMaps:
        """`images` [B, 3, H, W] float32 RGB, normalised with `MEAN` and `STD`."""
        x = self.stem(images)
        taps = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in TAPS:
                taps.append(x)
        return FeatureMaps(taps[0], taps[1], self.head(x))

    def fold(self) -> EfficientNetLite0:
        """Put all batch norms into their convolutions, in place; for use, not for training."""
        for module in self.modules():
            if isinstance(module, ConvNorm):
                module.fold()
        return self.eval()
