"""What a clip looks like and how it moves, in numbers for a Frechet distance; nothing to download.

Each frame: maps of an image network that was trained on photographs, at strides 8 and 16, pooled to
2 x 2 cells. Each clip: their mean over time (what is seen), and the mean of their absolute change
over one frame, over four, and over half of the clip (how it moves, and whether it stays the same
scene). Published figures use I3D (FVD) instead, so none of ours can be compared with them.

Inferred, ours: a long clip is read in places GAP apart. GAP is odd, so that a seam that comes every
8, 12 or 16 frames falls between two frames that are compared, now and then, whatever its phase.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from operators.nn.vlm.efficientnet import CHANNELS, MEAN, STD, TAPS, EfficientNetLite0, MbConv

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]

CELLS = 2  # along each side
LAGS = (1, 4)  # frames
GAP = 7  # frames between places that are read, in long clips
READ_ALL = 32  # frames: shorter clips are read in full
BATCH = 32
FRAME_WIDTH = CELLS**2 * sum(CHANNELS[:2])
CLIP_WIDTH = (2 + len(LAGS)) * FRAME_WIDTH


@dataclass(frozen=True)
class ClipFeatures:
    """Features of clips by a network whose weights have this SHA-256."""

    network: EfficientNetLite0  # folded, in eval mode
    weights_sha: str
    size_px: int = 96  # frames are brought to this square; a multiple of 32

    def __post_init__(self) -> None:
        if self.size_px < 32 or self.size_px % 32:
            raise ValueError(f"size_px must be a multiple of 32, not {self.size_px}")

    @property
    def name(self) -> str:
        """What the figures rest on, for a card."""
        return (
            f"EfficientNet-lite0 of weights {self.weights_sha[:12]} at {self.size_px} px, strides "
            f"8 and 16 in {CELLS}x{CELLS} cells; mean and change over {LAGS[0]}, {LAGS[1]}, T/2 "
            f"frames: {CLIP_WIDTH} numbers"
        )

    def of_frames(self, frames: U8) -> F32:
        """[N, H, W, 3] RGB to [N, FRAME_WIDTH]."""
        _check(frames)
        found = np.empty((len(frames), FRAME_WIDTH), np.float32)
        for start in range(0, len(frames), BATCH):
            found[start : start + BATCH] = self._maps(frames[start : start + BATCH])
        return found

    def of_clip(self, clip: U8) -> F32:
        """[T, H, W, 3] RGB to [CLIP_WIDTH]. ValueError for fewer than 8 frames."""
        _check(clip)
        places = read_places(len(clip))
        lags = [[(t, t + lag) for t in places if t + lag < len(clip)] for lag in LAGS]
        half = len(places) // 2
        lags.append(list(zip(places[:-half], places[half:], strict=True)))
        wanted = sorted(set(places).union(*(pair for pairs in lags for pair in pairs)))
        row = {t: n for n, t in enumerate(wanted)}
        seen = self.of_frames(clip[wanted])
        parts = [seen[[row[t] for t in places]].mean(axis=0)]
        for pairs in lags:
            before, after = ([row[pair[k]] for pair in pairs] for k in (0, 1))
            parts.append(np.abs(seen[after] - seen[before]).mean(axis=0))
        return np.concatenate(parts)

    def of_clips(self, clips: Sequence[U8] | U8) -> F32:
        """N clips [T, H, W, 3] to [N, CLIP_WIDTH]."""
        return np.stack([self.of_clip(clip) for clip in clips])

    @torch.inference_mode()
    def _maps(self, frames: U8) -> F32:
        side = self.size_px
        if frames.shape[1:3] != (side, side):
            shrinks = min(frames.shape[1:3]) >= side
            how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            frames = np.stack(
                [cv2.resize(frame, (side, side), interpolation=how) for frame in frames]
            )
        first = next(self.network.parameters())
        x = torch.from_numpy(np.ascontiguousarray(frames)).to(first.device)
        x = x.permute(0, 3, 1, 2).float().div_(255)  # the memory stays channels last
        mean, std = (torch.tensor(value, device=x.device).view(3, 1, 1) for value in (MEAN, STD))
        x = self.network.stem((x - mean) / std)
        pooled = []
        for index, block in enumerate(self.network.blocks):
            x = cast(MbConv, block)(x)
            if index in TAPS:
                pooled.append(functional.adaptive_avg_pool2d(x, CELLS).flatten(1))
            if index == TAPS[-1]:
                break
        return torch.cat(pooled, dim=1).cpu().numpy()


def read_places(frames: int) -> list[int]:
    """The frames of a clip from which changes are looked at. ValueError for fewer than 8 frames."""
    if frames < 2 * LAGS[-1]:
        raise ValueError(f"a clip of {frames} frames is too short, {2 * LAGS[-1]} are needed")
    return list(range(0, frames, 1 if frames <= READ_ALL else GAP))


def _check(frames: U8) -> None:
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise ValueError(f"[T, H, W, 3] uint8 RGB is needed, {frames.shape} {frames.dtype} came")
