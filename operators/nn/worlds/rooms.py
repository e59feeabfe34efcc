"""The room of `bounce`, seen from the front: a back wall, a floor, two narrow side walls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from operators.nn.worlds.spec import F32, U8, Split
from operators.nn.worlds.sprites import FINER, quantised, reduced
from operators.nn.worlds.textures import colour, mixed, noise, rgb

VIEW_M = 2.9  # height of the picture
BELOW_M = 0.42  # how much of it is below the line where things touch the floor
BEHIND_M = 0.24  # where floor and back wall meet, above that line
SIDE_M = 0.1  # of the side walls
VANISH_M = 1.9  # height of the eye

Paint = Callable[[F32, F32, np.random.Generator], F32]


@dataclass(frozen=True)
class SceneStyle:
    """Which wall and floor a room has, and of what they are."""

    wall: str
    floor: str

    @property
    def name(self) -> str:
        return f"{self.wall}+{self.floor}"


def _two(rng: np.random.Generator, saturation: float, value: float, step: float) -> tuple[F32, F32]:
    hue = rng.uniform(0, 360)
    return colour(hue, saturation, value), colour(
        hue + rng.uniform(-15, 15), saturation, value - step
    )


def _plain(x: F32, y: F32, rng: np.random.Generator) -> F32:
    one, other = _two(rng, rng.uniform(0.05, 0.35), rng.uniform(0.65, 0.9), 0.12)
    return mixed(one, other, noise(x, y, 0.9, rng))


def _fade(x: F32, y: F32, rng: np.random.Generator) -> F32:
    one, other = _two(rng, rng.uniform(0.15, 0.45), rng.uniform(0.7, 0.95), 0.35)
    return mixed(one, other, np.clip(y / np.float32(VIEW_M), 0, 1))


def _boards(x: F32, y: F32, rng: np.random.Generator) -> F32:
    one = colour(rng.uniform(15, 45), rng.uniform(0.3, 0.6), rng.uniform(0.55, 0.85))
    pitch = np.float32(rng.uniform(2.2, 3.6))
    board = np.floor(x * pitch)
    tone = np.sin(board * np.float32(12.9)) * np.float32(0.09)
    grain = np.sin(x * pitch * 9 + np.sin(y * np.float32(2.3) + board)) * np.float32(0.03)
    joint = np.abs(x * pitch - board - np.float32(0.5)) > 0.46
    gain: F32 = 1 + tone + grain - np.float32(0.3) * joint
    return one * gain[..., None]


def _stripes(x: F32, y: F32, rng: np.random.Generator) -> F32:
    one, other = _two(rng, rng.uniform(0.1, 0.4), rng.uniform(0.7, 0.92), rng.uniform(0.1, 0.22))
    return mixed(one, other, (np.sin(x * np.float32(rng.uniform(7, 13))) > 0).astype(np.float32))


def _tiles(x: F32, y: F32, rng: np.random.Generator) -> F32:
    one, other = _two(rng, rng.uniform(0.05, 0.3), rng.uniform(0.7, 0.9), 0.25)
    pitch = np.float32(rng.uniform(2.0, 3.0))
    joints = np.maximum(np.abs((x * pitch) % 1 - 0.5), np.abs((y * pitch) % 1 - 0.5)) > 0.46
    return mixed(one, other, joints.astype(np.float32))


def _bricks(x: F32, y: F32, rng: np.random.Generator) -> F32:
    one = colour(rng.uniform(5, 25), rng.uniform(0.35, 0.6), rng.uniform(0.5, 0.7))
    row = np.floor(y * 5)
    along = x * np.float32(2.3) + np.float32(0.5) * (row % 2)
    tone = np.sin(row * np.float32(7.7) + np.floor(along) * np.float32(3.1)) * np.float32(0.1)
    mortar = np.where(np.abs(along % 1 - 0.5) > 0.47, 1, np.abs((y * 5) % 1 - 0.5) > 0.44)
    return mixed(one, rgb(190, 185, 175), mortar.astype(np.float32)) * (1 + tone)[..., None]


def _speckled(x: F32, y: F32, rng: np.random.Generator) -> F32:
    one, other = _two(rng, rng.uniform(0.02, 0.15), rng.uniform(0.5, 0.75), 0.2)
    return mixed(one, other, noise(x, y, 0.2, rng, 2))


def _carpet(x: F32, y: F32, rng: np.random.Generator) -> F32:
    one, other = _two(rng, rng.uniform(0.3, 0.6), rng.uniform(0.4, 0.65), 0.15)
    return mixed(one, other, noise(x, y, 0.14, rng, 1))


def _checker(x: F32, y: F32, rng: np.random.Generator) -> F32:
    one, other = _two(rng, rng.uniform(0.02, 0.3), rng.uniform(0.75, 0.92), 0.4)
    return mixed(one, other, ((np.floor(x * 2) + np.floor(y * 2)) % 2).astype(np.float32))


def _slabs(x: F32, y: F32, rng: np.random.Generator) -> F32:
    one, other = _two(rng, rng.uniform(0.02, 0.2), rng.uniform(0.7, 0.9), 0.25)
    a, b, c = rng.uniform(0, 2 * np.pi, 3).astype(np.float32)
    vein = np.sin(x * 3 + a + 2 * np.sin(y * np.float32(2.1) + x + b) + np.sin(4 * y + c)) ** 8
    return mixed(one, other, vein)


WALLS: Mapping[str, Paint] = {
    "plain": _plain, "fade": _fade, "panels": _boards, "striped": _stripes,
    "tiled": _tiles, "bricks": _bricks,
}  # fmt: skip
FLOORS: Mapping[str, tuple[Paint, str]] = {
    "boards": (_boards, "wood"), "concrete": (_speckled, "stone"), "carpet": (_carpet, "carpet"),
    "checker": (_checker, "stone"), "slabs": (_slabs, "stone"),
}  # fmt: skip
_TRAIN = (("plain", "fade", "panels", "striped"), ("boards", "concrete", "carpet"))
STYLES: Mapping[Split, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "train": _TRAIN,
    "validation": _TRAIN,
    "development": (("tiled",), ("checker",)),
    "test": (("bricks",), ("slabs",)),
}


def draw_style(split: Split, rng: np.random.Generator) -> SceneStyle:
    walls, floors = STYLES[split]
    return SceneStyle(walls[rng.integers(len(walls))], floors[rng.integers(len(floors))])


def draw_room(style: SceneStyle, width: int, height: int, rng: np.random.Generator) -> U8:
    """[height, width, 3], the empty room."""
    px = VIEW_M / (height * FINER)
    columns = (np.arange(width * FINER, dtype=np.float32) + np.float32(0.5)) * np.float32(px)
    rows = np.float32(VIEW_M - BELOW_M) - (
        np.arange(height * FINER, dtype=np.float32) + np.float32(0.5)
    ) * np.float32(px)
    x, y = np.meshgrid(columns, rows)
    edge = int((rows >= BEHIND_M).sum())
    image = np.empty((*x.shape, 3), np.float32)
    image[:edge] = WALLS[style.wall](x[:edge], y[:edge], rng)
    middle = np.float32(VIEW_M * width / height / 2)
    nearer = np.float32(VANISH_M) / (np.float32(VANISH_M) - y[edge:])
    image[edge:] = FLOORS[style.floor][0]((x[edge:] - middle) / nearer, 4 / nearer, rng)
    image *= _light(x, y, middle, rng)[..., None]
    return quantised(reduced(image, FINER))


def _light(x: F32, y: F32, middle: np.float32, rng: np.random.Generator) -> F32:
    """[H, W]: a lamp on the wall, dark corners, side walls in the shade."""
    lamp_x = np.float32(rng.uniform(0.2, 0.8)) * 2 * middle
    far = ((x - lamp_x) ** 2 + (y - np.float32(2.0)) ** 2) / np.float32(VIEW_M) ** 2
    light = np.float32(1.08) - np.float32(rng.uniform(0.15, 0.35)) * np.minimum(far, 1)
    light *= 1 - np.float32(0.28) * np.exp(-np.abs(y - np.float32(BEHIND_M)) * 9)
    inside = np.minimum(x, 2 * middle - x)
    light *= np.where(
        inside < SIDE_M, np.float32(0.62), 1 - np.float32(0.2) * np.exp((SIDE_M - inside) * 7)
    )
    return light
