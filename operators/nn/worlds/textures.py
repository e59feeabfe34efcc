"""Patterns drawn by formula: how much of the second colour a point has, at any resolution.

A pattern takes coordinates in its own units and random numbers: [...] float32 in [0, 1] come back.
It is sampled at points: whoever draws with it draws larger and averages.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Mapping

import cv2
import numpy as np

from operators.nn.worlds.materials import Look
from operators.nn.worlds.spec import F32, Flags, Split

LATTICE = 32  # points of noise before it repeats
Pattern = Callable[[F32, F32, np.random.Generator], F32]


def noise(x: F32, y: F32, pitch: float, rng: np.random.Generator, octaves: int = 3) -> F32:
    """[h, w] in about [0, 1]: smooth noise over coordinates [h, w], its lumps `pitch` wide."""
    total = np.zeros(x.shape, np.float32)
    for octave in range(octaves):
        lattice = rng.random((LATTICE, LATTICE), np.float32)
        scale = np.float32(2**octave / pitch)
        at_x, at_y = (np.mod(axis * scale, LATTICE) for axis in (x, y))
        values = cv2.remap(lattice, at_x, at_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_WRAP)
        total += np.float32(0.5**octave) * values
    return total / np.float32(2 - 2.0 ** (1 - octaves))


def even_noise(
    shape: tuple[int, int], pitch_px: float, rng: np.random.Generator, octaves: int
) -> F32:
    """[shape] like `noise`, over a whole picture: much faster."""
    height, width = shape
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        pitch = pitch_px / 2**octave
        rows, columns = int(np.ceil(height / pitch)), int(np.ceil(width / pitch))
        lattice = rng.random((LATTICE, LATTICE), np.float32)
        tiled = np.tile(lattice, (-(-rows // LATTICE), -(-columns // LATTICE)))[:rows, :columns]
        size = round(columns * pitch), round(rows * pitch)
        smooth = cv2.resize(tiled, size, interpolation=cv2.INTER_CUBIC)
        total += np.float32(0.5**octave) * smooth[:height, :width]
    return total / np.float32(2 - 2.0 ** (1 - octaves))


def _turned(u: F32, v: F32, angle: float) -> tuple[F32, F32]:
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return c * u + s * v, c * v - s * u


def _hard(flags: Flags) -> F32:
    return flags.astype(np.float32)


def stripes(u: F32, v: F32, rng: np.random.Generator) -> F32:
    along, _ = _turned(u, v, rng.uniform(0, np.pi))
    return _hard(np.sin(along * np.float32(rng.uniform(5, 8))) > 0)


def checks(u: F32, v: F32, rng: np.random.Generator) -> F32:
    a, b = _turned(u, v, rng.uniform(0, np.pi))
    pitch = np.float32(rng.uniform(1.6, 2.4))
    return _hard((np.floor(a * pitch) + np.floor(b * pitch)) % 2 > 0)


def dots(u: F32, v: F32, rng: np.random.Generator) -> F32:
    a, b = _turned(u, v, rng.uniform(0, np.pi))
    pitch = np.float32(rng.uniform(1.5, 2.0))
    x, y = a * pitch, b * pitch
    x, y = x - np.rint(x), y - np.rint(y)
    return _hard(x * x + y * y < np.float32(0.09))


def gradient(u: F32, v: F32, rng: np.random.Generator) -> F32:
    along, _ = _turned(u, v, rng.uniform(0, 2 * np.pi))
    return np.asarray(np.clip(0.5 + 0.6 * along, 0, 1))


def halves(u: F32, v: F32, rng: np.random.Generator) -> F32:
    along, _ = _turned(u, v, rng.uniform(0, 2 * np.pi))
    return _hard(along > np.float32(rng.uniform(-0.25, 0.25)))


def zigzag(u: F32, v: F32, rng: np.random.Generator) -> F32:
    a, b = _turned(u, v, rng.uniform(0, np.pi))
    pitch = np.float32(rng.uniform(1.5, 2.0))
    wave = np.abs((b * pitch) % 1 - np.float32(0.5))
    return _hard((a * pitch + wave) % 1 > 0.5)


def pinwheel(u: F32, v: F32, rng: np.random.Generator) -> F32:
    turns = np.arctan2(v, u) + np.float32(rng.uniform(0, np.pi))
    return _hard(np.sin(turns * np.float32(rng.integers(2, 5))) > 0)


def marble(u: F32, v: F32, rng: np.random.Generator) -> F32:
    a, b = _turned(u, v, rng.uniform(0, np.pi))
    for k in range(1, 4):
        phase_a, phase_b = rng.uniform(0, 2 * np.pi, 2).astype(np.float32)
        a, b = (
            a + np.float32(0.5 / k) * np.sin(np.float32(1.9 * k) * b + phase_a),
            b + np.float32(0.5 / k) * np.sin(np.float32(1.9 * k) * a + phase_b),
        )
    return np.asarray(np.abs(np.sin(np.float32(3.2) * a)))


def swirl(u: F32, v: F32, rng: np.random.Generator) -> F32:
    radius = np.sqrt(u * u + v * v)
    turns = np.arctan2(v, u) + np.float32(rng.uniform(2.5, 4)) * radius
    return _hard(np.sin(2 * turns + np.float32(rng.uniform(0, np.pi))) > 0)


PATTERNS: Mapping[str, Pattern] = {
    pattern.__name__: pattern
    for pattern in (
        stripes, checks, dots, gradient, halves, zigzag, pinwheel, marble, swirl,
    )
}  # fmt: skip
_TRAIN = ("stripes", "checks", "dots", "gradient", "halves")
TEXTURES: Mapping[Split, tuple[str, ...]] = {
    "train": _TRAIN,
    "validation": _TRAIN,
    "development": ("zigzag", "pinwheel"),
    "test": ("marble", "swirl"),
}


def rgb(red: float, green: float, blue: float) -> F32:
    """[3] sRGB, 0 to 255."""
    return np.array((red, green, blue), np.float32)


def colour(hue_deg: float, saturation: float, value: float) -> F32:
    """[3] sRGB, 0 to 255."""
    return rgb(*colorsys.hsv_to_rgb(hue_deg % 360 / 360, saturation, value)) * 255


def two_colours(look: Look, rng: np.random.Generator) -> tuple[F32, F32]:
    """Two colours of one material, far enough apart that a pattern of them is seen."""
    hue, saturation, value = (
        rng.uniform(*look.hue_deg), rng.uniform(*look.saturation), rng.uniform(*look.value),
    )  # fmt: skip
    span = look.hue_deg[1] - look.hue_deg[0]
    other_hue = hue + (rng.uniform(90, 270) if span > 180 else rng.uniform(-8, 8))
    other_value = value - 0.42 if value > 0.6 else value + 0.4
    return colour(hue, saturation, value), colour(other_hue, saturation * 0.9, other_value)


def mixed(first: F32, second: F32, share: F32) -> F32:
    """[...] share of the second colour -> [..., 3]."""
    return first + (second - first) * share[..., None]
