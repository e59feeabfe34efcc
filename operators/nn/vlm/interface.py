"""What prompt methods need of a vision-language model: large CLIP or our compact one.

Features live in one joint space of `dim` numbers and are not normalised here. Text goes in as
embeddings, so that learned vectors can stand among those of words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch


class ImageFeatures(NamedTuple):
    """What one pass of an image tower gives."""

    pooled: torch.Tensor  # [B, dim] float32: the whole image
    patches: torch.Tensor  # [B, N, dim]: each patch by the plain path (last norm, projection)
    patches_value: torch.Tensor  # [B, N, dim]: by the value path, which text is aligned with


class ImageTower(Protocol):
    """Images to features."""

    size_px: int  # height and width that images must have
    mean: tuple[float, float, float]  # of RGB in [0, 1], subtracted by `preprocess`
    std: tuple[float, float, float]  # and what it divides by

    def __call__(self, images: torch.Tensor) -> ImageFeatures:
        """`images` [B, 3, size_px, size_px] float32 RGB, normalised with `mean` and `std`."""


class TextTower(Protocol):
    """Token embeddings to features."""

    width: int  # of a token embedding
    context_length: int  # tokens at most, begin and end included

    def embed(self, tokens: torch.Tensor) -> torch.Tensor:
        """[B, L] int64 to [B, L, width], without positions."""

    def __call__(self, embeddings: torch.Tensor, end_index: torch.Tensor) -> torch.Tensor:
        """[B, L, width] and [B] int64, the place of each sentence's end token, to [B, dim].

        What comes behind the end token has no influence.
        """


class Tokenizer(Protocol):
    """Words to token numbers."""

    begin: int  # token in front of every sentence
    end: int  # and behind it

    def encode(self, text: str) -> list[int]:
        """The tokens of a text, without begin and end."""


@dataclass
class Vlm:
    """Both towers, and how cosines become logits."""

    image: ImageTower
    text: TextTower | None  # None: at run time only prompt vectors are needed
    tokenizer: Tokenizer | None
    logit_scale: float  # s = exp(learned), about 100 for CLIP
    dim: int
    backbone_sha: str  # SHA-256 of the weight file, in every record
    name: str  # preset or folder name, for people
