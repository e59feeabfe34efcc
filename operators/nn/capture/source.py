"""The source varied: other people, other skin, other room, another camera that filmed it before.

Few people are licensed to learn from, and each was filmed by one camera only, so that person and
camera are one. Before a face is rendered, as real or as an attack alike, its picture is therefore
changed in what says nothing about the kind of capture: features are moved, and taken in parts from
a second person. Without that a model learns its few real faces by heart, and since a mask is nobody
it knows, takes every stranger for one. Inferred, ours: which changes, and how wide; the ranges are
those of everyday cameras and rooms, and no split holds any of them out, because tests use the
sources as they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from operators.nn.capture.light import F32, F64, REC709, U8
from operators.nn.capture.pixels import as_f32
from operators.nn.capture.ranges import Choice, Range, draw, drawn

SMALLEST_PX = 24  # of a picture at its native size
KNOTS = 6  # along a side, between which features are moved smoothly
PARTS = 4  # along a side, from which it is chosen whose features are seen


def _free(low: float, high: float, unit: str, source: str, *, log: bool = False) -> Range:
    return Range(low, high, unit, source, log=log, held_out=False)


@dataclass(frozen=True)
class SourceParameters:
    """What is changed in a source picture."""

    mirrored: bool = drawn(Choice((False, True), "faces are nearly symmetric"))
    stretch: float = drawn(_free(0.9, 1.11, "1", "width by height: faces are broad or long"))
    bend: float = drawn(_free(-0.12, 0.12, "1", "power law across the picture: build, lens, turn"))
    features: float = drawn(_free(0.0, 0.02, "side", "rms by which parts of a face are moved"))
    mixed: float = drawn(
        _free(-0.5, 1.0, "1", "share of a second person's features; below 0: none")
    )
    room: float = drawn(_free(-0.6, 1.0, "1", "part of another room's picture; below 0: own room"))
    red: float = drawn(_free(0.82, 1.22, "1", "gain: skin and white balance", log=True))
    blue: float = drawn(_free(0.78, 1.28, "1", "gain: skin and white balance", log=True))
    saturation: float = drawn(_free(0.35, 1.8, "1", "0 is grey"))
    gamma: float = drawn(_free(0.6, 1.7, "1", "tone curve; dark and light skin", log=True))
    contrast: float = drawn(_free(0.55, 1.5, "1", "about the mean", log=True))
    brightness: float = drawn(_free(0.55, 1.25, "1", "dim rooms to windows", log=True))
    veil: float = drawn(_free(-0.08, 0.1, "1", "stray light in the lens: black is not black"))
    shade: float = drawn(_free(0.0, 0.5, "1", "a side lamp: fall of light over the picture"))
    shade_deg: float = drawn(_free(-180, 180, "deg", "towards which side"))
    smooth: float = drawn(_free(0.0, 1.0, "1", "even skin: age, make-up, a soft first lens"))
    sharpness: float = drawn(_free(-1.0, 1.2, "1", "below 0: blur of so many px; above: unsharp"))
    grain: float = drawn(_free(0.0, 0.03, "1", "noise of the first camera, rms"))
    quality: int = drawn(
        Range(35, 100, "libjpeg", "T.81, at native size", held_out=False, whole=True)
    )
    levels: int = drawn(Choice((0, 0, 0, 0, 0, 24), "colours per channel of a palette; 0: all"))


@dataclass(frozen=True)
class Source:
    """A picture of one person."""

    image: U8  # [S, S, 3] sRGB
    points: F64  # [5, 2] px: right eye, left eye, nose, right and left mouth corner
    native_px: float  # pixels along its side in the file it comes from


def vary(
    source: Source, rng: np.random.Generator, other: Source | None = None, room: U8 | None = None
) -> tuple[U8, F64, SourceParameters]:
    """A changed copy of a source's picture with its points, and what was changed.

    Noise, blur and compression act at its native size. `other`: the second person; `room` [H, W, 3]
    sRGB: what may stand behind them, no smaller than SMALLEST_PX.
    """
    how = draw(SourceParameters, rng, "train")
    image, native_px = source.image, source.native_px
    if other is not None and how.mixed > 0:
        image = mix(source, other, how.mixed, rng)
        native_px = min(native_px, other.native_px)
    if room is not None and how.room > 0:
        image = _in_room(image, source.points, room, how.room, rng)
    image, points = _move(image, source.points, how.features, rng)
    bent, moved = _shape(image, points, how)
    side = max(SMALLEST_PX, min(round(native_px), image.shape[0]))
    small = cv2.resize(bent, (side, side), interpolation=cv2.INTER_AREA)
    filmed = _film(_tone(as_f32(small / np.float32(255)), how), how, rng)
    back = cv2.resize(filmed, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(back), moved, how


def mix(source: Source, other: Source, share: float, rng: np.random.Generator) -> U8:
    """The source's head with features of the other, part by part, in the source's colours."""
    side = source.image.shape[0]
    across, _ = cv2.estimateAffinePartial2D(other.points, source.points, method=cv2.LMEDS)
    if across is None:
        return source.image
    flags, border = cv2.INTER_CUBIC, cv2.BORDER_REFLECT_101
    laid = cv2.warpAffine(other.image, across, (side, side), flags=flags, borderMode=border)
    parts = rng.uniform(0, 2 * share, (PARTS, PARTS)).astype(np.float32)
    whose = cv2.resize(np.clip(parts, 0, 1), (side, side), interpolation=cv2.INTER_CUBIC)
    face = _face(source)
    own = as_f32(source.image)
    new = _in_the_light_of(own, as_f32(laid), face > 0.5)
    weight = (face * np.clip(whose, 0, 1))[..., None]
    return np.clip(np.rint(own + weight * (new - own)), 0, 255).astype(np.uint8)


def _face(source: Source) -> F32:
    """[S, S] 1 inside the face, 0 outside, with a soft rim."""
    side, points = source.image.shape[0], source.points
    x0, y0 = points.mean(axis=0)
    reach = _reach(points)
    y, x = np.mgrid[:side, :side].astype(np.float32)
    inside = 1.35 - np.hypot((x - x0) / reach, (y - y0) / (1.35 * reach))
    return as_f32(np.clip(inside / 0.35, 0, 1))


def _reach(points: F64) -> float:
    """The distance of the eyes, pixels; of a face that is turned, what it would be."""
    across_px = float(np.linalg.norm(points[1] - points[0]))
    down_px = float(np.linalg.norm(points[3:].mean(axis=0) - points[:2].mean(axis=0)))
    return max(across_px, 0.85 * down_px)


def _in_room(image: U8, points: F64, room: U8, share: float, rng: np.random.Generator) -> U8:
    """The person before a part of the other picture, which may be mirrored and lie on its side."""
    side = image.shape[0]
    kept = max(SMALLEST_PX, round((0.2 + 0.8 * share) * min(room.shape[:2])))
    top, left = (int(rng.integers(length - kept + 1)) for length in room.shape[:2])
    part = np.rot90(room[top : top + kept, left : left + kept], int(rng.integers(4)))
    part = part[:, ::-1] if rng.random() < 0.5 else part
    size = (side, side)
    behind = as_f32(cv2.resize(np.ascontiguousarray(part), size, interpolation=cv2.INTER_CUBIC))
    own, weight = as_f32(image), _person(points, side)[..., None]
    return np.clip(np.rint(behind + weight * (own - behind)), 0, 255).astype(np.uint8)


def _person(points: F64, side: int) -> F32:
    """[S, S] 1 where head, neck and shoulders are, 0 elsewhere, with a soft rim."""
    x0, y0 = points.mean(axis=0)
    reach = _reach(points)
    y, x = np.mgrid[:side, :side].astype(np.float32)
    across, down = np.abs(x - x0) / reach, (y - y0) / reach
    head = 1.9 - np.hypot(across * 1.15, down + 0.35)
    shoulders = np.minimum(0.7 + np.clip(down - 1.4, 0, None) * 1.8 - across, down - 0.6)
    return as_f32(np.clip(np.maximum(head, shoulders) / 0.3, 0, 1))


def _in_the_light_of(own: F32, new: F32, where: npt.NDArray[np.bool_]) -> F32:
    """[S, S, 3] `new` with mean and spread of `own`, per channel, as they are `where`."""
    have, wanted = new[where], own[where]
    gain = wanted.std(axis=0) / (have.std(axis=0) + 1)
    return as_f32((new - have.mean(axis=0)) * gain + wanted.mean(axis=0))


def _move(image: U8, points: F64, rms: float, rng: np.random.Generator) -> tuple[U8, F64]:
    """Parts of a face moved against each other, smoothly; the points go along."""
    side = image.shape[0]
    knots = (rng.standard_normal((KNOTS, KNOTS, 2)) * rms * side).astype(np.float32)
    shift = cv2.resize(knots, (side, side), interpolation=cv2.INTER_CUBIC)
    y, x = np.mgrid[:side, :side].astype(np.float32)
    moved = cv2.remap(
        image, x + shift[..., 0], y + shift[..., 1], cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REFLECT_101,
    )  # fmt: skip
    rows = np.clip(np.rint(points[:, 1]), 0, side - 1).astype(int)
    columns = np.clip(np.rint(points[:, 0]), 0, side - 1).astype(int)
    return np.asarray(moved, np.uint8), points - shift[rows, columns].astype(np.float64)


def _shape(image: U8, points: F64, how: SourceParameters) -> tuple[U8, F64]:
    """Mirror, stretch and bend about the middle; the points go along."""
    side = image.shape[0]
    middle = (side - 1) / 2
    along = (np.arange(side) - middle) / (side / 2)  # -1 to 1
    wide, tall = math.sqrt(how.stretch), 1 / math.sqrt(how.stretch)
    sign = -1 if how.mirrored else 1
    from_x = sign * (along / wide + how.bend * (1 - along**2) * np.cos(np.pi * along / 2))
    from_y = along / tall
    x = (from_x * side / 2 + middle).astype(np.float32)
    y = (from_y * side / 2 + middle).astype(np.float32)
    map_x, map_y = np.meshgrid(x, y)
    bent = cv2.remap(image, map_x, map_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    order = np.argsort(x)
    places = np.arange(side, dtype=np.float64)
    moved = np.column_stack(
        [np.interp(points[:, 0], x[order], places[order]), np.interp(points[:, 1], y, places)]
    )
    if how.mirrored:  # the person's right is on the picture's other side now
        moved = moved[[1, 0, 2, 4, 3]]
    return np.asarray(bent, np.uint8), moved


def _tone(rgb: F32, how: SourceParameters) -> F32:
    """[n, n, 3] sRGB in [0, 1] to the same: gains, saturation, curve, contrast, a side lamp."""
    seen = rgb * np.array([how.red, 1.0, how.blue], np.float32)
    grey = as_f32(seen @ REC709)[..., None]
    seen = as_f32(grey + np.float32(how.saturation) * (seen - grey))
    seen = as_f32(np.clip(seen, 0, 1) ** np.float32(how.gamma))
    mean = np.float32(seen.mean())
    seen = as_f32(mean + np.float32(how.contrast) * (seen - mean))
    seen = as_f32(seen * np.float32(how.brightness) + np.float32(max(how.veil, 0)))
    along = np.linspace(-1, 1, rgb.shape[0], dtype=np.float32)
    angle = math.radians(how.shade_deg)
    lamp = along[None, :] * math.cos(angle) + along[:, None] * math.sin(angle)
    return as_f32(np.clip(seen * (1 + np.float32(how.shade / 2) * lamp)[..., None], 0, 1))


def _film(rgb: F32, how: SourceParameters, rng: np.random.Generator) -> U8:
    """[n, n, 3] at native size: skin smoothed, blur or sharpening, noise, palette, JPEG."""
    even = cv2.bilateralFilter(rgb, d=9, sigmaColor=0.08, sigmaSpace=3.0)
    rgb = as_f32(rgb + np.float32(how.smooth) * (even - rgb))
    soft = cv2.GaussianBlur(rgb, (0, 0), max(-how.sharpness, 0.7))
    seen = soft if how.sharpness < 0 else rgb + np.float32(how.sharpness) * (rgb - soft)
    seen = seen + np.float32(how.grain) * rng.standard_normal(rgb.shape, dtype=np.float32)
    if how.levels:  # dithered by noise, as pictures of few colours are
        steps = np.float32(how.levels - 1)
        seen = np.floor(seen * steps + rng.random(rgb.shape, dtype=np.float32)) / steps
    codes = np.rint(np.clip(seen, 0, 1) * 255).astype(np.uint8)
    written, data = cv2.imencode(
        ".jpg", codes[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(how.quality)]
    )
    if not written:
        raise ValueError(f"JPEG refused a picture {codes.shape}")
    back = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return np.ascontiguousarray(back[..., ::-1])
