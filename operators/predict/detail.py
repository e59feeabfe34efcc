"""A picture in full, corrected by what a predictor saw coming at its own small size.

Source: the project's own; the network's size is no camera's. The picture that comes in is
the last captured one moved on by its own course (see `Course`). Here it is moved further where the
prediction shows things elsewhere than that course has them; then it gets the prediction's colours
and shades (what a small picture can hold), keeping its own fine detail; and where it is far off all
the same, the move having explained nothing, it is replaced by the enlarged prediction. Each step
goes as far as the predictor is sure.

Like is compared with like: not the picture made small, but the predictor's own rendering of the
last captured one, moved on by the same course. A network's blur is then on both sides and no news.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from engine import Caps
from operators.predict.flow import F32, U8, enlarged, looked_up, motion
from operators.predict.moving import Picture, move
from operators.video.yuv import yuv_matrix

FINDING = 4  # times the predictor's size: there motion is found, down to a fraction of its pixel
NEAR, FAR = 6.0, 20.0  # levels of 255 that the move leaves: detail is kept below, gone above
BLUR_PX = 1.5  # of the small picture: over so much errors are judged


@dataclass(frozen=True)
class Correction:
    """What has to be done to the picture in full; sizes are the predictor's, S, or multiples."""

    field: F32  # [h, w, 2] to be moved further by
    shade: F32  # [S, S, 3] RGB levels to be added then
    replaced: F32  # [S, S] 0 to 1: share of the prediction itself
    wanted: U8  # [S, S, 3]


def correction(have: U8, wanted: U8, sure: F32) -> Correction:
    """From two small RGB pictures [S, S, 3]: what the course shows, and what was predicted.

    `sure` [C, C] 0 to 1. ValueError for two sizes.
    """
    if have.shape != wanted.shape:
        raise ValueError(f"pictures of one size are needed, not {have.shape} and {wanted.shape}")
    height, width = have.shape[:2]
    trust = np.asarray(cv2.resize(sure, (width, height)), np.float32)
    field = _found(have, wanted) * trust[..., None]
    moved = looked_up(have, field, fine=True)
    shade = wanted.astype(np.float32) - moved
    left = cv2.GaussianBlur(np.abs(shade).mean(axis=2), (0, 0), BLUR_PX)
    replaced = trust * np.clip((left - NEAR) / (FAR - NEAR), 0, 1)
    return Correction(field, shade * trust[..., None], replaced, wanted)


def _found(have: U8, wanted: U8) -> F32:
    """[S, S, 2]: the motion between them, where moving by it makes them more alike."""
    height, width = have.shape[:2]
    large = (width * FINDING, height * FINDING)
    first, second = (
        cv2.cvtColor(cv2.resize(one, large, interpolation=cv2.INTER_CUBIC), cv2.COLOR_RGB2GRAY)
        for one in (wanted, have)
    )
    fine = motion(np.asarray(first, np.uint8), np.asarray(second, np.uint8))
    shrunk = cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA) / FINDING
    field = np.asarray(shrunk, np.float32)
    before, after = (_off(wanted, one) for one in (have, looked_up(have, field)))
    helps = np.clip((before - after) / (0.25 * before + 1), 0, 1)
    gate: F32 = np.asarray(cv2.GaussianBlur(helps, (0, 0), 1), np.float32)
    return field * gate[..., None]


def _off(wanted: U8, shown: U8) -> F32:
    """[S, S] levels that they differ by, neighbours together."""
    off = cv2.absdiff(wanted, shown).astype(np.float32).mean(axis=2)
    return np.asarray(cv2.GaussianBlur(off, (0, 0), BLUR_PX), np.float32)


def corrected(picture: Picture, fix: Correction, caps: Caps, out: U8) -> Picture:
    """`picture` with the correction, into `out`. `caps` names its colours."""
    moved = move(picture, fix.field, out)
    matrix, offset = yuv_matrix(caps.colorspace, caps.color_range)
    inverse = np.linalg.inv(matrix)
    to_yuv = np.column_stack([inverse, -inverse @ offset])
    shade = cv2.transform(fix.shade, inverse)
    wanted = cv2.transform(fix.wanted.astype(np.float32), to_yuv)
    for channel, plane in enumerate(moved.planes()):
        size = (plane.shape[1], plane.shape[0])
        add, goal, share = (
            cv2.resize(one, size, interpolation=way)
            for one, way in (
                (shade[..., channel], cv2.INTER_CUBIC),
                (wanted[..., channel], cv2.INTER_CUBIC),
                (fix.replaced, cv2.INTER_LINEAR),
            )
        )
        shaded = add + plane
        shaded += share * (goal - shaded)
        np.copyto(plane, np.clip(np.rint(shaded), 0, 255), casting="unsafe")
    return moved


def small_course(known: U8, field: F32) -> U8:
    """The predictor's own rendering [S, S, 3] of the last picture, moved on by a course's field."""
    height, width = known.shape[:2]
    return looked_up(known, enlarged(field, (width, height)))
