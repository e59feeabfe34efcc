"""Who comes into the hall: walkers with paths and footsteps, parcels, and when they come.

A foot strikes when its leg is farthest in front: at a quarter and three quarters of a stride.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import cv2
import numpy as np

from operators.nn.worlds.figures import Dress, Stance, draw_figure
from operators.nn.worlds.hall import LANES_Z, View
from operators.nn.worlds.materials import Material
from operators.nn.worlds.spec import F32, FLOOR, U8, ClipSpec, Contact, ObjectTruth, Split
from operators.nn.worlds.sprites import blend, box_around, reduced, shade
from operators.nn.worlds.textures import colour

STRIKE_SPEED = 0.25  # of the walking speed: how fast a heel meets the floor
LANE_WIDTH = 0.3  # m to either side
MARGIN_M = 0.9  # outside the picture, where walkers begin and end
EMPTY_S = 3.0  # mean time for which a place is empty
FIRST_S, LATER_S = (1.2, 2.6), (0.0, 9.0)  # before the world: when the places' first ones come
FINER = 4  # pixels of a parcel's drawing per pixel of the frame
_TRAIN = (("adult", "child"), ("plain", "halved"))
DRESS: Mapping[Split, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "train": _TRAIN,
    "validation": _TRAIN,
    "development": (("carrier",), ("banded",)),
    "test": (("hatted",), ("sashed",)),
}  # kinds and what their tops look like


@dataclass(frozen=True)
class Path:
    """Along a lane: straight from knot to knot (time s, x m); before and after nobody is there."""

    knots: tuple[tuple[float, float], ...]
    z: float

    @property
    def end_s(self) -> float:
        return self.knots[-1][0]

    def at(self, time_s: float) -> tuple[float, float, float]:
        """x (m), speed (m/s) and walked distance (m)."""
        walked, speed = 0.0, 0.0
        x = self.knots[0][1]
        for (t0, x0), (t1, x1) in pairwise(self.knots):
            part = min(max((time_s - t0) / (t1 - t0), 0.0), 1.0)
            walked += abs(x1 - x0) * part
            if t0 <= time_s:
                x, speed = x0 + (x1 - x0) * part, (x1 - x0) / (t1 - t0)
        return x, speed, walked

    def when(self, walked: float) -> float:
        """The time at which a distance is reached; infinite if it never is."""
        for (t0, x0), (t1, x1) in pairwise(self.knots):
            part = abs(x1 - x0)
            if part and walked <= part:
                return t0 + walked / part * (t1 - t0)
            walked -= part
        return math.inf

    def facing(self, time_s: float) -> int:
        """1 to the right, -1 to the left; who stands still looks where he went."""
        facing = 0
        for (t0, x0), (_, x1) in pairwise(self.knots):
            if x1 != x0 and (t0 <= time_s or not facing):
                facing = 1 if x1 > x0 else -1
        return facing


@dataclass(frozen=True)
class Walker:
    path: Path
    known: ObjectTruth
    stride: float  # m, of two steps
    dress: Dress

    @property
    def start_s(self) -> float:
        return self.path.knots[0][0]

    @property
    def end_s(self) -> float:
        return self.path.end_s

    def place(self, time_s: float) -> tuple[float, float]:
        """x and depth, m."""
        return self.path.at(time_s)[0], self.path.z

    def motion(self, time_s: float) -> tuple[float, float]:
        """Speed along x (m/s) and phase of the gait (rad)."""
        _, speed, walked = self.path.at(time_s)
        return speed, 2 * math.pi * walked / self.stride

    def contacts(self, number: int, floor: Material, until_s: float) -> list[Contact]:
        """All footsteps before a time."""
        found: list[Contact] = []
        while True:
            time_s = self.path.when((0.25 + 0.5 * len(found)) * self.stride)
            if time_s >= until_s:
                return found
            x, speed, _ = self.path.at(time_s)
            strike = STRIKE_SPEED * abs(speed)
            where = x + self.path.facing(time_s) * self.stride / 4, self.path.z
            names = self.known.material, floor.name
            impulse = self.known.mass_kg * strike
            found.append(Contact(time_s, number, FLOOR, impulse, strike, where, names, True))

    def draw(self, frame: U8, view: View, time_s: float, mask: U8 | None, number: int) -> None:
        x, z = self.place(time_s)
        height = 2 * self.known.size_m
        stance = Stance(
            view.px(x, 0.0, z),
            height * view.scale(z),
            self.motion(time_s)[1],
            self.stride / height,
            self.path.facing(time_s),
        )
        draw_figure(frame, self.dress, stance, mask, number)


@dataclass(frozen=True)
class Parcel:
    """A box that stands on the floor from some moment on."""

    where: tuple[float, float]  # x, z
    start_s: float
    known: ObjectTruth
    paint: F32
    end_s: float = math.inf

    def place(self, time_s: float) -> tuple[float, float]:
        return self.where

    def motion(self, time_s: float) -> tuple[float, float]:
        return 0.0, 0.0

    def contacts(self, number: int, floor: Material, until_s: float) -> list[Contact]:
        return []

    def draw(self, frame: U8, view: View, time_s: float, mask: U8 | None, number: int) -> None:
        x, foot = view.px(self.where[0], 0.0, self.where[1])
        side = 2 * self.known.size_m * view.scale(self.where[1])
        shade(frame, (x, foot), (0.6 * side, 0.14 * side), 0.5)
        box = box_around(frame, (x, foot - side / 2), (0.6 * side + 1, 0.6 * side + 1))
        if box is None:
            return
        rows, columns = box
        size = (rows.stop - rows.start) * FINER, (columns.stop - columns.start) * FINER
        canvas = np.zeros((*size, 4), np.float32)
        left, right = (_fine(x + sign * side / 2 - columns.start) for sign in (-1, 1))
        top, lid, floor = (_fine(foot - up * side - rows.start) for up in (1.0, 0.75, 0.0))
        front, above = [*self.paint.tolist(), 255.0], [*(self.paint * 1.2).tolist(), 255.0]
        cv2.rectangle(canvas, (left, lid), (right - 1, floor - 1), front, cv2.FILLED)
        cv2.rectangle(canvas, (left, top), (right - 1, lid), above, cv2.FILLED)
        rgba = reduced(canvas, FINER)
        blend(frame, box, rgba[..., :3], rgba[..., 3:] / np.float32(255))
        if mask is not None:
            mask[box][rgba[..., 3] > 127] = number


Thing = Walker | Parcel


class Place:
    """Now empty, now with a walker: an endless sequence of its own."""

    def __init__(self, spec: ClipSpec, number: int) -> None:
        self._split, self._rng = spec.split, spec.generator(f"place {number}")
        # Somebody is there when the world begins.
        self._free_s = -float(self._rng.uniform(*(FIRST_S if number == 0 else LATER_S)))
        self._next: Walker | None = None

    def until(self, time_s: float, view: View, directions: Sequence[int]) -> list[Walker]:
        """Those who begin until a time and were not told before; who left before 0 never was."""
        found: list[Walker] = []
        while True:
            if self._next is None:
                self._next = self._draw(view, directions)
                self._free_s = self._next.end_s + float(self._rng.exponential(EMPTY_S))
            if self._next.start_s > time_s:
                return found
            if self._next.end_s > 0:
                found.append(self._next)
            self._next = None

    def _draw(self, view: View, directions: Sequence[int]) -> Walker:
        rng = self._rng
        lane = int(rng.integers(len(LANES_Z)))
        z = LANES_Z[lane] + float(rng.uniform(-LANE_WIDTH, LANE_WIDTH))
        way, outside = directions[lane], view.half_width(z) + MARGIN_M
        speed = float(rng.uniform(0.9, 1.6))
        start, end = (self._free_s, -way * outside), self._free_s + 2 * outside / speed
        walker = draw_walker(self._split, Path((start, (end, way * outside)), z), rng)
        if rng.random() > 0.25:
            return walker
        # Stand for a while, where the legs are side by side.
        strides = round(rng.uniform(0.35, 0.65) * 2 * outside / walker.stride)
        halt = strides * walker.stride
        x, t, stand = way * (halt - outside), start[0] + halt / speed, float(rng.uniform(0.8, 2.5))
        knots = (start, (t, x), (t + stand, x), (end + stand, way * outside))
        return replace(walker, path=Path(knots, z))


def draw_walker(split: Split, path: Path, rng: np.random.Generator) -> Walker:
    kinds, textures = DRESS[split]
    kind, texture = str(rng.choice(kinds)), str(rng.choice(textures))
    height = float(rng.uniform(1.05, 1.35) if kind == "child" else rng.uniform(1.6, 1.88))
    hue = rng.uniform(0, 360)
    dress = Dress(
        kind,
        texture,
        skin=colour(rng.uniform(15, 32), rng.uniform(0.3, 0.6), rng.uniform(0.4, 0.95)),
        top=colour(hue, rng.uniform(0.3, 0.9), rng.uniform(0.45, 0.95)),
        second=colour(hue + rng.uniform(100, 260), rng.uniform(0.3, 0.8), rng.uniform(0.4, 0.95)),
        trousers=colour(rng.uniform(200, 250), rng.uniform(0.1, 0.6), rng.uniform(0.15, 0.55)),
    )
    known = ObjectTruth(kind, texture, "rubber", height / 2, 23 * height**2)
    return Walker(path, known, float(rng.uniform(0.74, 0.86)) * height, dress)


def _fine(px: float) -> int:
    return round(FINER * (px + 0.5))
