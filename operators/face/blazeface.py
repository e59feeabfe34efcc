"""BlazeFace: single-shot face detector on a square input.

Bazarevsky et al. 2019, arXiv:1907.05047.

Anchors and decoding follow the paper and the published model cards: one anchor centre per cell and
layer, boxes and six points regressed in input pixels relative to the centre, overlapping candidates
blended with their scores as weights (section 3.2 of the paper) instead of suppressed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from engine import Frame
from operators.face.candidates import F32, Candidates, blend_overlapping
from operators.face.nets import Placement, open_net
from operators.video.yuv import letterbox

SCORE_LIMIT = 80.0  # beyond it the exponential overflows single precision


class Variant(NamedTuple):
    """One trained network: its input and the strides of its anchor layers."""

    weights: str
    size_px: int
    layers: tuple[tuple[int, int], ...]  # (stride, anchors per cell)


VARIANTS = {
    "short": Variant("blazeface_short_range.tflite", 128, ((8, 2), (16, 6))),
    "full": Variant("blazeface_full_range.tflite", 192, ((4, 1),)),
    "back": Variant("blazeface_back.tflite", 256, ((16, 2), (32, 6))),
}


class BlazeFace:
    """A network with its anchors. One call at a time."""

    def __init__(self, name: str, place: Placement) -> None:
        self.variant = VARIANTS[name]
        self.size_px = self.variant.size_px
        self._anchors = anchor_centres(self.variant)
        self._net = open_net(self.variant.weights, place)

    def __call__(self, rgb: npt.NDArray[np.uint8], min_score: float) -> Candidates:
        """rgb [S, S, 3] -> candidates with at least `min_score`, before blending."""
        tensor = rgb[None].astype(np.float32)
        tensor *= 1 / 127.5
        tensor -= 1
        regressed, raw = self._net(tensor)
        return decode(raw[0, :, 0], regressed[0], self._anchors, min_score)


class BlazeFinder:
    """Finds the faces of a frame on a small letterboxed picture of it."""

    def __init__(self, name: str, place: Placement) -> None:
        self._net = BlazeFace(name, place)

    def __call__(self, frame: Frame, min_score: float, max_iou: float) -> Candidates:
        """One candidate per face, in frame pixels, best first."""
        picture = letterbox(frame, self._net.size_px)
        found = blend_overlapping(self._net(picture.rgb, min_score), max_iou)
        return found.in_frame(picture.scale, picture.left_px, picture.top_px)


def anchor_centres(variant: Variant) -> F32:
    """[N, 2] centres in input pixels, layer by layer, row by row."""
    centres = []
    for stride, per_cell in variant.layers:
        cells = variant.size_px // stride
        y, x = np.mgrid[0:cells, 0:cells].reshape(2, -1)
        layer = (np.stack([x, y], axis=1) + 0.5) * stride
        centres.append(np.repeat(layer, per_cell, axis=0))
    return np.concatenate(centres).astype(np.float32)


def decode(raw_scores: F32, regressed: F32, anchors: F32, min_score: float) -> Candidates:
    """Network outputs as boxes, scores and points in input pixels."""
    scores = 1 / (1 + np.exp(-np.clip(raw_scores, -SCORE_LIMIT, SCORE_LIMIT)))
    keep = np.flatnonzero(scores >= min_score)
    values = regressed[keep].reshape(len(keep), 8, 2)
    centres = values[:, 0] + anchors[keep]
    halves = values[:, 1] / 2
    boxes = np.concatenate([centres - halves, centres + halves], axis=1)
    points = values[:, 2:] + anchors[keep, None]
    return Candidates(boxes, scores[keep].astype(np.float32), points)
