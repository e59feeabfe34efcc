"""The largest thing that moves in front of a fixed camera: where, how large, of which colour.

What differs from the background is cleaned by morphology and cut into connected parts; of the parts
that are not much smaller than the largest, the one nearest to where the thing was before is taken.

Inferred, ours: the background is the median over time, of these frames or, better, of a longer clip
of the same scene; a thing that rests for most of the time is background. Both are smoothed over
3 px before they are compared, for made frames may flicker; a tenth of a pixel in places and a tenth
too much area are the price. A shadow is told from a thing by its colour: it darkens all three
channels by one factor (Horprasert et al., ICCV FRAME-RATE workshop 1999, section 3).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)


@dataclass(frozen=True)
class TrackConfig:
    """How a mask is made. Differences are the largest over the three channels, 0..255."""

    difference: float = 22.0
    noise_factor: float = 4.0  # and at least this many times the median difference of a frame
    shadow_darkest: float = 0.45  # a shadow leaves at least this share of the light
    shadow_spread: float = 0.04  # and its three shares differ by no more than this
    least_area: float = 0.002  # of the frame: smaller parts are noise
    comparable: float = 0.4  # parts with this share of the largest one's area may be the thing


@dataclass(frozen=True)
class Track:
    """One thing over T frames. Where it is not visible numbers are NaN and area is 0."""

    centre_px: F64  # [T, 2]: x right, y down; (0, 0) is the middle of the first pixel
    area_px: F64  # [T]
    box_px: F64  # [T, 4]: left, top, right, bottom, the last pixels that belong to it
    colour: F64  # [T, 3] mean without the rim, 0..255
    visible: Flags  # [T]


def temporal_background(clip: U8, masks: U8 | None = None) -> U8:
    """[T, H, W, 3] to [H, W, 3]: the median over time.

    With `masks` [T, H, W] only of frames in which a pixel is 0 there, if there are any.
    """
    if masks is None:
        return np.asarray(np.rint(np.median(clip, axis=0)), np.uint8)
    hidden = (masks > 0) & (masks == 0).any(axis=0)
    seen = np.where(hidden[..., None], np.float32(np.nan), clip)
    return np.asarray(np.rint(np.nanmedian(seen, axis=0)), np.uint8)


def track(clip: U8, background: U8 | None = None, config: TrackConfig | None = None) -> Track:
    """[T, H, W, 3] uint8, and the empty scene [H, W, 3] if it is known.

    ValueError for other shapes or types.
    """
    if clip.ndim != 4 or clip.shape[-1] != 3 or clip.dtype != np.uint8:
        raise ValueError(f"[T, H, W, 3] uint8 is needed, {clip.shape} {clip.dtype} came")
    empty = temporal_background(clip) if background is None else background
    if empty.shape != clip.shape[1:]:
        raise ValueError(f"a background {clip.shape[1:]} is needed, {empty.shape} came")
    how = config or TrackConfig()
    length = len(clip)
    found = Track(
        np.full((length, 2), np.nan), np.zeros(length), np.full((length, 4), np.nan),
        np.full((length, 3), np.nan), np.zeros(length, bool),
    )  # fmt: skip
    last: F64 | None = None
    for t, frame in enumerate(clip):
        mask = _pick(foreground(frame, empty, how), last, how)
        if mask is None:
            continue
        rows, columns = np.nonzero(mask)
        last = np.array([columns.mean(), rows.mean()])
        found.centre_px[t], found.area_px[t], found.visible[t] = last, len(rows), True
        found.box_px[t] = columns.min(), rows.min(), columns.max(), rows.max()
        inside = cv2.erode(mask.astype(np.uint8), CROSS) > 0  # the rim is part background
        found.colour[t] = frame[inside if inside.any() else mask].mean(axis=0)
    return found


def foreground(frame: U8, background: U8, config: TrackConfig) -> U8:
    """[H, W, 3] twice to [H, W]: 1 where something is that is neither background nor shadow."""
    now, empty = _smooth(frame), _smooth(background)
    difference = np.abs(now - empty).max(axis=-1)
    level = max(config.difference, config.noise_factor * float(np.median(difference)))
    mask = ((difference > level) & ~_shadow(now, empty, config)).astype(np.uint8)
    mask = np.asarray(cv2.morphologyEx(mask, cv2.MORPH_OPEN, CROSS), np.uint8)
    return np.asarray(cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)), np.uint8)


def _smooth(picture: U8) -> F32:
    return np.asarray(cv2.GaussianBlur(picture.astype(np.float32), (3, 3), 0))


def _shadow(now: F32, empty: F32, config: TrackConfig) -> Flags:
    """[H, W]: darker by one factor in all channels."""
    share = (now + 1) / (empty + 1)
    high, low = share.max(axis=-1), share.min(axis=-1)
    even = high - low < config.shadow_spread
    found: Flags = even & (low > config.shadow_darkest) & (high < 1)
    return found


def _pick(mask: U8, last: F64 | None, config: TrackConfig) -> Flags | None:
    """The part of a mask that is the thing; None if there is none."""
    count, labels, stats, centres = cv2.connectedComponentsWithStats(mask, connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    if count < 2 or areas.max() < config.least_area * mask.size:
        return None
    if last is None:
        return np.asarray(labels == 1 + int(areas.argmax()))
    far = np.linalg.norm(centres[1:] - last, axis=1)
    far[areas < config.comparable * areas.max()] = np.inf
    return np.asarray(labels == 1 + int(far.argmin()))
