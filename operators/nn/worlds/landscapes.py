"""Landscapes drawn by formula, for a camera to pan over: the same scene at any resolution."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import cv2
import numpy as np

from operators.nn.worlds.spec import F32, F64, U8, Split
from operators.nn.worlds.sprites import quantised
from operators.nn.worlds.textures import colour, even_noise, mixed, rgb

_ANGLES = np.linspace(0, 2 * np.pi, 64, endpoint=False)
CIRCLE = np.column_stack((np.cos(_ANGLES), np.sin(_ANGLES)))
SHIFT = 4  # bits behind the point in OpenCV's coordinates


class Canvas:
    """A picture [h, w, 3] float32, whose coordinates are in heights of the scene."""

    def __init__(self, width: int, height: int, rng: np.random.Generator) -> None:
        self.rng, self.px = rng, height
        self.image: F32 = np.zeros((height, width, 3), np.float32)
        self.x: F32 = (np.arange(width, dtype=np.float32) + np.float32(0.5)) / np.float32(height)
        self.y: F32 = (np.arange(height, dtype=np.float32) + np.float32(0.5)) / np.float32(height)
        self.wide = width / height

    def fade(self, top: F32, bottom: F32, until: float) -> None:
        share = np.clip(self.y / np.float32(until), 0, 1)
        self.image[:] = mixed(top, bottom, share)[:, None]

    def lumps(self, cells: int, octaves: int = 3) -> F32:
        """[h, w] noise with so many lumps from top to bottom."""
        return even_noise(self.image.shape[:2], self.px / cells, self.rng, octaves)

    def mottled(self, paint: F32, cells: int, depth: float, octaves: int = 3) -> F32:
        """[h, w, 3]: a colour that gets darker and lighter by up to half of `depth`."""
        return (
            paint
            * (np.float32(1 - depth / 2) + np.float32(depth) * self.lumps(cells, octaves))[
                ..., None
            ]
        )

    def ridge(self, level: float, rough: float, pitch: float) -> F32:
        """[w] height of a skyline around `level`."""
        line = np.full_like(self.x, level)
        for k in range(5):
            phase = np.float32(self.rng.uniform(0, 2 * np.pi))
            step = np.float32(pitch * 1.9**k * self.rng.uniform(0.8, 1.2))
            line += np.float32(rough / 1.8**k) * np.sin(step * self.x + phase)
        return line

    def fill_below(self, line: F32, paint: F32) -> None:
        """Paint ([3] or [h, w, 3]) all that is below a skyline."""
        top = max(0, int(float(line.min()) * self.px))
        below = (self.y[top:, None] > line)[..., None]
        np.copyto(self.image[top:], paint[top:] if paint.ndim == 3 else paint, where=below)

    def polygon(self, points: Sequence[tuple[float, float]] | F64, paint: F32) -> None:
        corners = np.rint((np.asarray(points) * self.px - 0.5) * (1 << SHIFT)).astype(np.int32)
        cv2.fillPoly(self.image, [corners], paint.tolist(), lineType=cv2.LINE_8, shift=SHIFT)

    def circle(self, x: float, y: float, radius: float, paint: F32) -> None:
        self.polygon(CIRCLE * radius + (x, y), paint)

    def clouds(self, until: float) -> None:
        cover = np.clip((self.lumps(5) - np.float32(0.52)) * 4, 0, 0.9)
        cover *= np.clip((np.float32(until) - self.y) * 6, 0, 1)[:, None]
        self.image += (np.float32(248) - self.image) * cover[..., None]


def _sky(canvas: Canvas, until: float) -> None:
    rng = canvas.rng
    hue = rng.uniform(195, 225)
    canvas.fade(
        colour(hue, rng.uniform(0.4, 0.7), rng.uniform(0.7, 0.95)),
        colour(hue - 10, 0.15, 0.97),
        until,
    )
    canvas.circle(rng.uniform(0, canvas.wide), rng.uniform(0.08, 0.25), 0.05, rgb(255, 244, 200))
    canvas.clouds(until)


def _hills(canvas: Canvas) -> None:
    rng = canvas.rng
    _sky(canvas, 0.55)
    hue = rng.uniform(70, 140)
    for k, level in enumerate((0.42, 0.52, 0.64, 0.78)):
        haze = 0.55 - 0.17 * k
        paint = colour(hue + 20 * haze, 0.55 - 0.5 * haze, 0.4 + 0.45 * haze)
        line = canvas.ridge(level, 0.05 - 0.007 * k, rng.uniform(3, 5))
        canvas.fill_below(line, canvas.mottled(paint, 10 + 4 * k, 0.5))
        for _ in range(10 * k):
            x = rng.uniform(0, canvas.wide)
            foot = float(line[min(int(x * canvas.px), len(line) - 1)]) + rng.uniform(0, 0.12)
            _tree(canvas, x, foot, 0.03 + 0.02 * k)


def _tree(canvas: Canvas, x: float, foot: float, size: float) -> None:
    canvas.polygon(
        [(x - 0.06 * size, foot), (x + 0.06 * size, foot), (x, foot - size)],
        rgb(84, 62, 44),
    )
    green = colour(canvas.rng.uniform(85, 140), 0.55, canvas.rng.uniform(0.25, 0.5))
    canvas.circle(x, foot - 0.85 * size, 0.38 * size, green)
    canvas.circle(x - 0.12 * size, foot - 0.95 * size, 0.2 * size, np.minimum(green * 1.25, 255))


def _coast(canvas: Canvas) -> None:
    rng = canvas.rng
    _sky(canvas, 0.45)
    canvas.fill_below(canvas.ridge(0.41, 0.02, 3.0), colour(rng.uniform(150, 230), 0.25, 0.6))
    depth = np.clip((canvas.y - np.float32(0.45)) / np.float32(0.3), 0.001, 1)
    waves = np.sin(np.float32(14) / (depth + np.float32(0.12)))[:, None] * (
        canvas.lumps(16, 2) - np.float32(0.3)
    )
    hue = rng.uniform(185, 215)
    sea = mixed(colour(hue, 0.75, 0.45), colour(hue - 12, 0.4, 0.95), np.clip(0.35 + waves, 0, 1))
    canvas.fill_below(np.full_like(canvas.x, 0.45), sea)
    sand = canvas.mottled(colour(rng.uniform(32, 46), 0.35, 0.88), 40, 0.3, 2)
    canvas.fill_below(canvas.ridge(0.76, 0.025, 2.5), sand)
    for _ in range(5):
        _boat(canvas, rng.uniform(0, canvas.wide), rng.uniform(0.5, 0.66), rng.uniform(0.03, 0.07))


def _boat(canvas: Canvas, x: float, y: float, size: float) -> None:
    inner, keel = 0.7 * size, y + 0.35 * size
    canvas.polygon(
        [(x - size, y), (x + size, y), (x + inner, keel), (x - inner, keel)],
        colour(canvas.rng.uniform(0, 360), 0.6, 0.5),
    )
    canvas.polygon(
        [(x, y - 0.05 * size), (x, y - 1.8 * size), (x + 0.8 * size, y - 0.1 * size)],
        rgb(245, 243, 238),
    )


def _town(canvas: Canvas) -> None:
    rng = canvas.rng
    _sky(canvas, 0.6)
    for row, foot in enumerate((0.66, 0.82)):
        x = -0.05
        while x < canvas.wide:
            wide, high = rng.uniform(0.1, 0.22), rng.uniform(0.16, 0.36) + 0.06 * row
            _house(canvas, (x, foot), (wide, high))
            x += wide + rng.uniform(0.0, 0.04)
    street = canvas.mottled(colour(rng.uniform(0, 360), 0.05, 0.42), 30, 0.3, 2)
    canvas.fill_below(np.full_like(canvas.x, 0.82), street)
    canvas.fill_below(np.full_like(canvas.x, 0.97), colour(rng.uniform(80, 130), 0.4, 0.45))


def _house(canvas: Canvas, corner: tuple[float, float], size: tuple[float, float]) -> None:
    rng, (x, foot), (wide, high) = canvas.rng, corner, size
    wall = colour(rng.uniform(0, 60), rng.uniform(0.1, 0.5), rng.uniform(0.55, 0.95))
    top = foot - high
    canvas.polygon([(x, foot), (x + wide, foot), (x + wide, top), (x, top)], wall)
    if rng.random() < 0.6:
        canvas.polygon(
            [(x - 0.01, top), (x + wide + 0.01, top), (x + wide / 2, top - 0.07)],
            colour(rng.uniform(0, 25), 0.55, 0.5),
        )
    pane = colour(rng.uniform(190, 230), 0.35, rng.uniform(0.3, 0.6))
    for px in np.arange(x + 0.02, x + wide - 0.035, 0.05):
        for py in np.arange(top + 0.03, foot - 0.05, 0.07):
            canvas.polygon(
                [(px, py), (px + 0.028, py), (px + 0.028, py + 0.042), (px, py + 0.042)], pane
            )


def _dunes(canvas: Canvas) -> None:
    rng = canvas.rng
    canvas.fade(colour(rng.uniform(15, 40), 0.35, 0.9), colour(45, 0.15, 0.98), 0.5)
    canvas.circle(rng.uniform(0.2, canvas.wide - 0.2), 0.2, 0.07, rgb(255, 236, 190))
    hue = rng.uniform(22, 40)
    for k, level in enumerate((0.45, 0.58, 0.74)):
        line = canvas.ridge(level, 0.07, rng.uniform(2, 4))
        lee = np.clip((canvas.y[:, None] - line) * 9, 0, 1)
        ripples = np.sin(
            (canvas.y[:, None] - np.float32(0.4) * canvas.x) * np.float32(150 - 30 * k)
        ) * np.float32(0.04)
        paint = (
            mixed(colour(hue, 0.5, 0.92), colour(hue - 8, 0.62, 0.55), lee)
            * (1 + ripples)[..., None]
        )
        canvas.fill_below(line, paint)


def _forest(canvas: Canvas) -> None:
    rng = canvas.rng
    canvas.fade(colour(rng.uniform(60, 110), 0.35, 0.85), colour(90, 0.5, 0.45), 0.9)
    canvas.image = canvas.mottled(canvas.image, 9, 0.5)
    ground = canvas.mottled(colour(rng.uniform(25, 80), 0.5, 0.35), 30, 0.6)
    canvas.fill_below(canvas.ridge(0.74, 0.02, 4.0), ground)
    count = round(14 * canvas.wide)
    for k in range(count):
        near = k / count
        x, wide = rng.uniform(0, canvas.wide), (0.008 + 0.028 * near) * rng.uniform(0.6, 1.2)
        foot, lean = 0.74 + 0.24 * near, rng.uniform(-0.05, 0.05)
        bark = colour(rng.uniform(15, 40), 0.35, 0.55 - 0.35 * near)
        crown = x + lean
        canvas.polygon(
            [(x - wide, foot), (x + wide, foot), (crown + 0.6 * wide, 0), (crown - 0.6 * wide, 0)],
            bark,
        )
        leaves = colour(rng.uniform(80, 130), 0.6, 0.6 - 0.3 * near)
        canvas.circle(crown, rng.uniform(0.0, 0.16), 2.6 * wide + 0.05, leaves)
        bush = colour(rng.uniform(70, 130), 0.55, 0.3 + 0.25 * near)
        canvas.circle(rng.uniform(0, canvas.wide), foot, rng.uniform(0.02, 0.06), bush)


DRAWINGS: Mapping[str, Callable[[Canvas], None]] = {
    "hills": _hills, "coast": _coast, "town": _town, "dunes": _dunes, "forest": _forest,
}  # fmt: skip
_TRAIN = ("hills", "coast", "town")
LANDSCAPES: Mapping[Split, tuple[str, ...]] = {
    "train": _TRAIN,
    "validation": _TRAIN,
    "development": ("dunes",),
    "test": ("forest",),
}


def draw_landscape(name: str, width: int, height: int, rng: np.random.Generator) -> U8:
    """[height, width, 3]."""
    canvas = Canvas(width, height, rng)
    DRAWINGS[name](canvas)
    return quantised(canvas.image)
