"""A clip as tokens, and the numbers that tokens may have.

Source: method notes, MOSO 2b (arXiv:2303.03684): codes, then MASK, five commands for the frame rate
(never fed), and one command per frame that asks for its guidance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from operators.nn.moso.config import ClipLayout

FPS_COMMANDS = 5


class ClipTokens(NamedTuple):
    """int64, each map row by row."""

    scene: torch.Tensor  # [B, scene_tokens]
    object: torch.Tensor  # [B, object_tokens]
    motion: torch.Tensor  # [B, T, motion_tokens]

    def flat(self) -> torch.Tensor:
        """[B, layout.tokens]: scene, object, then the motion of each frame."""
        return torch.cat([self.scene, self.object, self.motion.flatten(1)], dim=1)

    def check(self, layout: ClipLayout) -> None:
        """ValueError for shapes or codes that are not of this layout."""
        batch, frames = len(self.scene), layout.frames
        wanted = [(batch, layout.scene_tokens), (batch, layout.object_tokens),
                  (batch, frames, layout.motion_tokens)]  # fmt: skip
        if [tuple(part.shape) for part in self] != wanted:
            raise ValueError(f"tokens of {[tuple(part.shape) for part in self]}, not {wanted}")
        if any(part.numel() and not 0 <= part.min() <= part.max() < layout.codes for part in self):
            raise ValueError(f"codes must be 0..{layout.codes - 1}")


def parted(flat: torch.Tensor, layout: ClipLayout) -> ClipTokens:
    """`ClipTokens.flat` back; any integer dtype. ValueError for another number of tokens."""
    if flat.ndim != 2 or flat.shape[1] != layout.tokens:
        raise ValueError(f"tokens of {tuple(flat.shape)}, not (clips, {layout.tokens})")
    tokens, first = flat.long(), layout.scene_tokens + layout.object_tokens
    motion = tokens[:, first:].reshape(-1, layout.frames, layout.motion_tokens)
    return ClipTokens(
        tokens[:, : layout.scene_tokens], tokens[:, layout.scene_tokens : first], motion
    )


@dataclass(frozen=True)
class Vocabulary:
    """Codes 0..codes-1 and what comes after them."""

    codes: int
    frames: int

    @property
    def mask(self) -> int:
        """The token of what is hidden."""
        return self.codes

    @property
    def fps(self) -> range:
        """Commands of the frame rate."""
        return range(self.codes + 1, self.codes + 1 + FPS_COMMANDS)

    @property
    def guidance(self) -> range:
        """Commands of each frame."""
        return range(self.fps.stop, self.fps.stop + self.frames)

    @property
    def size(self) -> int:
        """All of them."""
        return self.guidance.stop


def vocabulary(layout: ClipLayout) -> Vocabulary:
    """Of clips of this layout."""
    return Vocabulary(layout.codes, layout.frames)
