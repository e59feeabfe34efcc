"""A head at run time: features of faces in, how bona fide each is out. No text tower is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch

from operators.nn.pad.calibration import Calibration
from operators.nn.pad.threshold import Threshold
from operators.nn.prompts.artifact import HeadDescriptor, calibration_of, load_head, thresholds_of

SPOOF_METHOD = "unknown-spoof-prompts"
MASK_METHOD = "knowledge-mask-prompts"


class HeadScores(NamedTuple):
    """Of B faces."""

    score_real: torch.Tensor  # [B] float32 in [0, 1], higher = more bona fide
    nearest: torch.Tensor  # [B] int64 into `elements`: a diagnosis without any guarantee
    nearest_cos: torch.Tensor  # [B] cosine to it


class PadHead(Protocol):
    """What anti-spoofing and mask detection have in common once trained."""

    name: str  # antispoof | mask3d
    attack: str  # what its attacks are called in spoof(kind): presentation | mask
    dim: int
    backbone_sha: str
    sha: str  # SHA-256 of the file: the checkpoint id
    elements: tuple[str, ...]
    calibration: Calibration | None
    thresholds: Mapping[str, Threshold]  # by camera; "" for all others
    card: Mapping[str, Any]

    def __call__(self, features: torch.Tensor) -> HeadScores:
        """`features` [B, 1 + N, dim] float32: pooled, then N patches by the value path, as they
        come out of the image tower (not normalised). ValueError for another shape.
        """


class HeadFacts:
    """The part of a `PadHead` that stands in its descriptor."""

    name: str
    attack: str

    def __init__(self, descriptor: HeadDescriptor, sha: str) -> None:
        self.dim = descriptor.dim
        self.backbone_sha = descriptor.backbone_sha
        self.sha = sha
        self.elements = descriptor.elements
        self.calibration = calibration_of(descriptor)
        self.thresholds: Mapping[str, Threshold] = thresholds_of(descriptor)
        self.card: Mapping[str, Any] = descriptor.card

    def expect(self, features: torch.Tensor) -> None:
        """ValueError for features of another shape."""
        if features.ndim != 3 or features.shape[1] < 1 or features.shape[2] != self.dim:
            raise ValueError(
                f"features {tuple(features.shape)} came, [B, 1 + N, {self.dim}] are needed"
            )


def open_head(path: Path) -> PadHead:
    """Whatever head the file holds. FileNotFoundError without one, ValueError for a damaged or
    foreign one, in one line.
    """
    tensors, descriptor, sha = load_head(path)
    if descriptor.method == SPOOF_METHOD:
        from operators.nn.spoof_prompts.head import spoof_head

        return spoof_head(path, tensors, descriptor, sha)
    if descriptor.method == MASK_METHOD:
        from operators.nn.mask_prompts.head import mask_head

        return mask_head(path, tensors, descriptor, sha)
    raise ValueError(f"{path.name}: method {descriptor.method!r} is unknown")
