"""The compact vision-language model: two small towers, a head on each, one space of 128 numbers.

It stands in for a large CLIP where none is at hand. Towers: EfficientNet-lite0 for images, MiniLM
for text; after section 1.2 of the method notes. One tower locked under a contrastive loss: Zhai et
al., LiT, CVPR 2022 (arXiv:2111.07991); there it is the image's, here the text's, so that words keep
their meaning. The image tower learns at a lower rate than the heads (`tune`).

Inferred, ours:
* The image feature is the mean and the standard deviation over each of three maps (strides 8, 16,
  32). A mean alone forgets texture; the spread of filter responses is a classic texture statistic
  (Portilla and Simoncelli, IJCV 2000, section 2) and is what a halftone or a pixel grid changes.
* Patches are cells of the last map, each told by its own value and by mean and spread of the finer
  maps inside it, under one *linear* head. So the mean of an image's patches is the head of the mean
  patch: what is learned from whole images holds for each cell (class activation maps: Zhou et al.,
  CVPR 2016, arXiv:1512.04150, eq. 2). Convolutions have no attention, hence no separate value path:
  `patches_value` is `patches`.
* Features are standardised with figures of the training set, and the whole image's are clipped at
  6 deviations, so that one wild channel of a foreign camera cannot outvote the rest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from operators.nn.vlm import efficientnet
from operators.nn.vlm.efficientnet import CHANNELS, STRIDES, EfficientNetLite0, FeatureMaps
from operators.nn.vlm.interface import ImageFeatures, Tokenizer, Vlm
from operators.nn.vlm.minilm import MiniLm

POOLED_WIDTH = 2 * sum(CHANNELS)  # mean and deviation of each map
LOCAL_WIDTH = 2 * sum(CHANNELS[:-1]) + CHANNELS[-1]  # a cell of the last map has no spread
MAX_LOG_SCALE = math.log(100)  # as CLIP clips it
FIRST_LOG_SCALE = math.log(1 / 0.07)  # and where it begins
CLIP_DEVIATIONS = 6.0
VARIANCE_FLOOR = 1e-5  # keeps the gradient of a flat map's deviation finite


@dataclass(frozen=True)
class CompactConfig:
    """Sizes of the heads. ValueError for those that cannot be."""

    size_px: int = 224  # of images; a multiple of 32. 160 takes half the time
    dim: int = 128  # of the joint space
    hidden: int = 128  # of the pooled head; 0 makes it linear
    text_width: int = 384  # of the text tower's sentence feature

    def __post_init__(self) -> None:
        if self.size_px < STRIDES[-1] or self.size_px % STRIDES[-1]:
            raise ValueError(f"size_px {self.size_px}: a multiple of {STRIDES[-1]} is needed")
        if self.dim < 1 or self.text_width < 1 or self.hidden < 0:
            raise ValueError(f"dim, text_width >= 1 and hidden >= 0 are needed: {self}")


class DepthFeatures(NamedTuple):
    """What the frozen image tower says, before any head: all that training needs to keep."""

    pooled: torch.Tensor  # [B, 2864]: mean then deviation of strides 8, 16, 32
    local: torch.Tensor  # [B, N, 1584]: the same of strides 8, 16 in each cell, then the last map


def depth_features(maps: FeatureMaps) -> DepthFeatures:
    """Mean and deviation at three depths, of the image and of each cell of the last map.

    The sides of the maps must be in the ratio 4 : 2 : 1, as they are for multiples of 32 pixels.
    """
    pooled, local = [], []
    for channels, stride in zip(maps, STRIDES, strict=True):
        mean = channels.mean(dim=(2, 3))
        centred = channels - mean[:, :, None, None]  # before squaring, or flat maps lose all digits
        square = centred.square()
        pooled += [mean, torch.sqrt(square.mean(dim=(2, 3)) + VARIANCE_FLOOR)]
        side = STRIDES[-1] // stride
        if side == 1:
            local.append(channels)
            continue
        cell = functional.avg_pool2d(centred, side)
        spread = (functional.avg_pool2d(square, side) - cell.square()).clamp(min=0)
        local += [cell + mean[:, :, None, None], torch.sqrt(spread + VARIANCE_FLOOR)]
    return DepthFeatures(torch.cat(pooled, 1), torch.cat(local, 1).flatten(2).transpose(1, 2))


class Standardise(nn.Module):
    """(x - mean) / deviation of the training set, clipped if `limit` is given."""

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, width: int, limit: float = math.inf) -> None:
        super().__init__()
        self.limit = limit
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))

    @torch.no_grad()
    def fit(self, features: torch.Tensor) -> None:
        """`features` [N, width], N >= 2. A channel that hardly moves is not blown up."""
        spread, mean = torch.var_mean(features.float(), dim=0)
        deviation = spread.sqrt()
        self.mean.copy_(mean)
        self.deviation.copy_(deviation.clamp(min=max(0.05 * float(deviation.mean()), 1e-6)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., width] to the same."""
        x = (x - self.mean) / self.deviation
        return x if math.isinf(self.limit) else x.clamp(-self.limit, self.limit)


class CompactHeads(nn.Module):
    """All that is trained: three heads into the joint space, and the logit scale."""

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        self.config = config
        self.pooled = _head(POOLED_WIDTH, config.hidden, config.dim, CLIP_DEVIATIONS)
        self.patch = _head(LOCAL_WIDTH, 0, config.dim)
        self.text = _head(config.text_width, 0, config.dim)
        self.log_scale = nn.Parameter(torch.tensor(FIRST_LOG_SCALE))

    @torch.no_grad()
    def fit_standards(self, pooled: torch.Tensor, local: torch.Tensor, text: torch.Tensor) -> None:
        """Take means and deviations from the training set: [N, 2864], [N, 1584], [M, width]."""
        for head, features in ((self.pooled, pooled), (self.patch, local), (self.text, text)):
            standard = head[0]
            assert isinstance(standard, Standardise)
            standard.fit(features)

    def scale(self) -> torch.Tensor:
        """s = exp(learned), at most 100: a scalar that carries a gradient."""
        return self.log_scale.clamp(max=MAX_LOG_SCALE).exp()


def _head(width: int, hidden: int, dim: int, limit: float = math.inf) -> nn.Sequential:
    if hidden == 0:
        return nn.Sequential(Standardise(width, limit), nn.Linear(width, dim))
    return nn.Sequential(
        Standardise(width, limit), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, dim)
    )


class CompactImageTower(nn.Module):
    """Images to the joint space; an `ImageTower`."""

    label = "compact-image-tower"
    mean = efficientnet.MEAN
    std = efficientnet.STD

    def __init__(self, backbone: EfficientNetLite0, heads: CompactHeads) -> None:
        super().__init__()
        self.size_px = heads.config.size_px
        self.backbone = backbone.fold()
        for weight in backbone.parameters():
            if weight.ndim == 4:  # channels last: up to a third faster on CPUs
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)
        self.pooled_head = heads.pooled
        self.patch_head = heads.patch

    def depths(self, images: torch.Tensor) -> DepthFeatures:
        """[B, 3, size_px, size_px] float32, normalised with `mean` and `std`."""
        wanted = (3, self.size_px, self.size_px)
        if images.ndim != 4 or tuple(images.shape[1:]) != wanted:
            raise ValueError(f"images {tuple(images.shape)} came, {('B', *wanted)} are needed")
        return depth_features(self.backbone(images.to(memory_format=torch.channels_last)))

    def forward(self, images: torch.Tensor) -> ImageFeatures:
        """[B, 3, size_px, size_px] to pooled [B, dim] and patches [B, (size_px / 32)^2, dim]."""
        depths = self.depths(images)
        patches = self.patch_head(depths.local)
        return ImageFeatures(self.pooled_head(depths.pooled), patches, patches)


class CompactTextTower(nn.Module):
    """Token embeddings to the joint space; a `TextTower`."""

    def __init__(self, minilm: MiniLm, heads: CompactHeads) -> None:
        super().__init__()
        if minilm.config.width != heads.config.text_width:
            raise ValueError(
                f"the text tower is {minilm.config.width} wide, its head {heads.config.text_width}"
            )
        self.width = minilm.config.width
        self.context_length = minilm.config.context_length
        self.minilm = minilm
        self.head = heads.text

    def embed(self, tokens: torch.Tensor) -> torch.Tensor:
        """[B, L] int64 to [B, L, width], without positions."""
        return self.minilm.embed(tokens)

    def forward(self, embeddings: torch.Tensor, end_index: torch.Tensor) -> torch.Tensor:
        """[B, L, width] and [B] int64 to [B, dim]; behind the end token nothing counts."""
        feature: torch.Tensor = self.head(self.minilm(embeddings, end_index))
        return feature


class CompactVlm:
    """Both towers and their heads. The towers are frozen unless asked otherwise."""

    def __init__(
        self,
        backbone: EfficientNetLite0,
        heads: CompactHeads,
        text: tuple[MiniLm, Tokenizer] | None = None,
        freeze_towers: bool = True,
    ) -> None:
        """`text` None: only prompt vectors will be used, no sentence can be read."""
        self.heads = heads
        self.image = CompactImageTower(backbone, heads)
        self.text = CompactTextTower(text[0], heads) if text else None
        self.tokenizer = text[1] if text else None
        backbone.requires_grad_(not freeze_towers)
        if text:
            text[0].requires_grad_(not freeze_towers)

    def view(self, backbone_sha: str, name: str) -> Vlm:
        """What prompt methods are given; `backbone_sha` is the SHA-256 of the weight file."""
        return Vlm(
            image=self.image,
            text=self.text,
            tokenizer=self.tokenizer,
            logit_scale=float(self.heads.scale().detach()),
            dim=self.heads.config.dim,
            backbone_sha=backbone_sha,
            name=name,
        )

    @torch.no_grad()
    def sentences(self, texts: Sequence[str], batch: int = 32) -> torch.Tensor:
        """[M, text_width] float32, in front of the text head: what alignment keeps of captions.

        ValueError without a text tower, or if a text is longer than the tower allows.
        """
        if self.text is None or self.tokenizer is None:
            raise ValueError("this model was loaded without its text tower")
        minilm, found = self.text.minilm, []
        for start in range(0, len(texts), batch):
            tokens, end_index = token_batch(self.tokenizer, texts[start : start + batch])
            found.append(minilm(minilm.embed(tokens), end_index))
        return torch.cat(found)


def token_batch(tokenizer: Tokenizer, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """[B, L] int64, begin and end included and filled up with 0, and [B], the ends' places."""
    rows = [
        torch.tensor([tokenizer.begin, *tokenizer.encode(text), tokenizer.end]) for text in texts
    ]
    ends = torch.tensor([len(row) - 1 for row in rows])
    length = int(ends.max()) + 1
    return torch.stack([functional.pad(row, (0, length - len(row))) for row in rows]), ends
