"""What a detector proposes, and the two ways to make one face of proposals that overlap."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]


class Candidates(NamedTuple):
    """Boxes [N, 4] left, top, right, bottom; scores [N] 0 to 1; points [N, P, 2]; all in pixels."""

    boxes: F32
    scores: F32
    points: F32

    def in_frame(self, scale: float, left_px: float = 0, top_px: float = 0) -> Candidates:
        """From the pixels of a network's input to those of the frame that was fitted into it."""
        shift = np.array([left_px, top_px], np.float32)
        boxes = (self.boxes - np.tile(shift, 2)) / scale
        return Candidates(boxes, self.scores, (self.points - shift) / scale)


def blend_overlapping(found: Candidates, min_iou: float) -> Candidates:
    """Weighted non-maximum suppression: each group of overlapping candidates becomes its mean."""
    order = np.argsort(-found.scores, kind="stable")
    boxes, scores, points = [], [], []
    while len(order):
        best = order[0]
        near = iou(found.boxes[best], found.boxes[order]) >= min_iou
        near[0] = True
        group = order[near]
        weights = found.scores[group] / found.scores[group].sum()
        boxes.append(np.tensordot(weights, found.boxes[group], 1))
        points.append(np.tensordot(weights, found.points[group], 1))
        scores.append(found.scores[best])
        order = order[~near]
    count = len(scores)
    return Candidates(
        np.array(boxes, np.float32).reshape(count, 4),
        np.array(scores, np.float32),
        np.array(points, np.float32).reshape(count, found.points.shape[1], 2),
    )


def keep_best(found: Candidates, max_iou: float) -> Candidates:
    """Plain non-maximum suppression: of each group of overlapping candidates the best, sorted."""
    order = np.argsort(-found.scores, kind="stable")
    kept = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        order = order[iou(found.boxes[best], found.boxes[order]) < max_iou]
    return Candidates(found.boxes[kept], found.scores[kept], found.points[kept])


def iou(box: F32, boxes: F32) -> F32:
    """Intersection over union of one box [4] with many [N, 4]."""
    left_top = np.maximum(box[:2], boxes[:, :2])
    right_bottom = np.minimum(box[2:], boxes[:, 2:])
    sides = np.maximum(right_bottom - left_top, 0)
    shared = sides[:, 0] * sides[:, 1]
    area = (box[2] - box[0]) * (box[3] - box[1])
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    result: F32 = shared / np.maximum(area + areas - shared, 1e-9)
    return result
