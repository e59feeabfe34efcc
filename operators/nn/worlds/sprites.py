"""Pictures of single things, and how they are put into a frame at any place and angle.

A sprite is drawn once, larger, with premultiplied colours; pasting warps it at twice the frame's
resolution and averages, so that a motion of a fraction of a pixel is seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from operators.nn.worlds.spec import F32, F64, U8

FINER = 2  # pixels of a sprite and of its warp per pixel of the frame, along each axis
REACH = 2.5  # standard deviations of a soft spot that are drawn
Box = tuple[slice, slice]


@dataclass(frozen=True)
class Sprite:
    """Square [n, n, 4] float32: red, green, blue times alpha (0 to 255), alpha (0 to 1)."""

    image: F32
    opacity: float = 1.0  # the alpha of what is wholly covered
    gloss: float = 0.0
    slope: float = 0.0  # light from above: gain falls by this much over the sprite's height


def reduced(image: F32, factor: int) -> F32:
    """The mean of each factor x factor pixels."""
    height, width = image.shape[0] // factor, image.shape[1] // factor
    return np.asarray(
        cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), dtype=np.float32
    )


def quantised(image: F32) -> U8:
    """Levels of 0 to 255, rounded."""
    return np.asarray(np.clip(image + np.float32(0.5), 0, 255), dtype=np.uint8)


def paste(
    frame: U8, sprite: Sprite, place: tuple[float, float, float], mask: U8 | None, number: int
) -> None:
    """Draw a sprite into [H, W, 3] at x, y (px, array coordinates), turned counter-clockwise.

    Where more than half of a pixel is covered, `mask` becomes `number`.
    """
    x, y, angle = place
    side = sprite.image.shape[0] / FINER
    box = box_around(frame, (x, y), (side / 2 + 1, side / 2 + 1))
    if box is None:
        return
    down, across = offsets_in(box, (x, y))
    matrix = _into_box(sprite.image.shape[0], (-float(across[0]), -float(down[0])), angle)
    fine = cv2.warpAffine(sprite.image, matrix, (len(across) * FINER, len(down) * FINER))
    rgba = reduced(np.asarray(fine, np.float32), FINER)
    colours, alpha = rgba[..., :3], rgba[..., 3:]
    colours = colours * (1 - np.float32(sprite.slope / side) * down)[:, None, None]
    if sprite.gloss:
        spot = np.float32(-0.5 / (0.11 * side) ** 2)
        high = np.exp(spot * (down + np.float32(0.2 * side)) ** 2)
        wide = np.exp(spot * (across + np.float32(0.16 * side)) ** 2)
        light = np.float32(255 * sprite.gloss) * high[:, None] * wide
        colours = colours + light[..., None] * alpha
    blend(frame, box, colours, alpha)
    if mask is not None:
        mask[box][rgba[..., 3] > 0.5 * sprite.opacity] = number


def blend(frame: U8, box: Box, colours: F32, alpha: F32) -> None:
    """frame = frame (1 - alpha) + colours inside the box; alpha [h, w, 1]."""
    below = frame[box]
    mixed = below * (1 - alpha) + colours
    frame[box] = quantised(mixed)


def shade(frame: U8, centre: tuple[float, float], sigma: tuple[float, float], depth: float) -> None:
    """Darken [H, W, 3] by a soft spot that takes `depth` (0 to 1) of the light at its centre."""
    box = box_around(frame, centre, (REACH * sigma[0], REACH * sigma[1]))
    if box is None or depth <= 0:
        return
    down, across = (
        np.exp(np.float32(-0.5 / size**2) * offsets * offsets)
        for offsets, size in zip(offsets_in(box, centre), sigma[::-1], strict=True)
    )
    left = 1 - np.float32(depth) * down[:, None] * across
    frame[box] = (frame[box] * left[..., None] + np.float32(0.5)).astype(np.uint8)


def offsets_in(box: Box, centre: tuple[float, float]) -> tuple[F32, F32]:
    """Of a box's rows and of its columns from a point, px."""
    rows, columns = box
    down = np.arange(rows.start, rows.stop, dtype=np.float32) - np.float32(centre[1])
    return down, np.arange(columns.start, columns.stop, dtype=np.float32) - np.float32(centre[0])


def box_around(frame: U8, centre: tuple[float, float], reach: tuple[float, float]) -> Box | None:
    """Pixels within reach (across, down) of a point, or None where there are none."""
    spans = []
    for size, middle, far in zip(frame.shape[:2], centre[::-1], reach[::-1], strict=True):
        first, last = max(0, math.floor(middle - far)), min(size, math.ceil(middle + far) + 1)
        if first >= last:
            return None
        spans.append(slice(first, last))
    return spans[0], spans[1]


def _into_box(side: int, centre: tuple[float, float], angle: float) -> F64:
    """[2, 3] from the sprite's pixels to those of a box drawn FINER."""
    c, s = np.cos(angle), np.sin(angle)
    middle = (side - 1) / 2
    x, y = ((value + 0.5) * FINER - 0.5 for value in centre)
    return np.array([(c, s, x - c * middle - s * middle), (-s, c, y + s * middle - c * middle)])
