"""The hall of `surveillance`: a fixed camera above head height, wall, doors, pillars, lamps.

World axes: x to the right and z away from the camera (m), both on the floor; heights above it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from operators.nn.worlds.rooms import FLOORS, WALLS, SceneStyle
from operators.nn.worlds.spec import F32, U8, Event
from operators.nn.worlds.sprites import FINER, Box, quantised, reduced
from operators.nn.worlds.textures import colour, rgb

EYE_M = 2.5  # height of the camera
HORIZON = 0.12  # of the picture's height
FOCAL = 0.95  # likewise
LANES_Z = (3.7, 5.0, 7.4)  # where walkers go
WALL_Z, CEILING_M = 9.5, 3.0
PILLAR_Z, PILLAR_M = 6.2, 0.45
DOOR_M = (1.05, 2.15)
LIGHT_CELLS = 16  # rows in which lamps are computed: light is smooth
SWITCH_S, FLICKER_S = 9.0, 0.7  # mean time between a lamp's changes; how long it flickers
FLICKER_HZ = 8.0


@dataclass(frozen=True)
class View:
    """The camera; frame px from metres."""

    width: int
    height: int

    def scale(self, z: float) -> float:
        """px per m at a depth."""
        return FOCAL * self.height / z

    def px(self, x: float, up: float, z: float) -> tuple[float, float]:
        """Array coordinates of a point."""
        scale = self.scale(z)
        return (
            self.width / 2 + x * scale - 0.5,
            HORIZON * self.height + (EYE_M - up) * scale - 0.5,
        )

    def half_width(self, z: float) -> float:
        """m from the middle to the picture's edge at a depth."""
        return self.width / 2 / self.scale(z)


@dataclass(frozen=True)
class Hall:
    """The empty hall without light, and where pillars stand before the farther lanes."""

    view: View
    image: U8
    pillars: tuple[Box, ...]


def draw_hall(style: SceneStyle, view: View, rng: np.random.Generator) -> Hall:
    fine = View(view.width * FINER, view.height * FINER)
    columns = np.arange(fine.width, dtype=np.float32) + np.float32(0.5 - fine.width / 2)
    rows = np.arange(fine.height, dtype=np.float32) + np.float32(0.5 - HORIZON * fine.height)
    focal = np.float32(FOCAL * fine.height)
    base = np.float32(EYE_M * FOCAL * fine.height / WALL_Z)
    edge = int((rows < base).sum())
    image = np.empty((fine.height, fine.width, 3), np.float32)
    x, up = np.meshgrid(
        columns * np.float32(WALL_Z) / focal, rows[:edge] * np.float32(-WALL_Z) / focal
    )
    image[:edge] = WALLS[style.wall](x, up + np.float32(EYE_M), rng)
    z = np.float32(EYE_M) * focal / rows[edge:, None]
    image[edge:] = FLOORS[style.floor][0](
        (columns * z / focal).astype(np.float32), np.broadcast_to(z, (len(z), fine.width)), rng
    )
    image[edge:] *= np.clip(np.float32(1.05) - np.float32(0.03) * z, 0.6, 1)[..., None]
    _ceiling(image, fine, rng)
    _doors(image, fine, rng)
    pillars = _pillars(image, fine, rng)
    return Hall(view, quantised(reduced(image, FINER)), pillars)


def _ceiling(image: F32, fine: View, rng: np.random.Generator) -> None:
    _, y = fine.px(0, CEILING_M, WALL_Z)
    image[: max(0, round(y))] = colour(rng.uniform(0, 360), 0.05, 0.8)
    _, foot = fine.px(0, 0.12, WALL_Z)
    _, floor = fine.px(0, 0, WALL_Z)
    image[round(foot) : round(floor) + 1] *= np.float32(0.6)  # the skirting board


def _panel(image: F32, fine: View, place: tuple[float, float, float, float], paint: F32) -> None:
    """A rectangle on the back wall: left, bottom, width, height in m."""
    left, bottom, wide, high = place
    x0, y0 = fine.px(left, bottom + high, WALL_Z)
    x1, y1 = fine.px(left + wide, bottom, WALL_Z)
    cv2.rectangle(
        image, (round(x0), round(y0)), (round(x1), round(y1)), [float(c) for c in paint], cv2.FILLED
    )


def _doors(image: F32, fine: View, rng: np.random.Generator) -> None:
    half = fine.half_width(WALL_Z)
    wide, high = DOOR_M
    for _ in range(int(rng.integers(1, 4))):
        left = rng.uniform(-half, half - wide)
        paint = colour(rng.uniform(0, 360), rng.uniform(0.1, 0.5), rng.uniform(0.35, 0.7))
        _panel(image, fine, (left - 0.1, 0.0, wide + 0.2, high + 0.1), paint * np.float32(0.55))
        _panel(image, fine, (left, 0.0, wide, high), paint)
        _panel(image, fine, (left + 0.2, 1.2, wide - 0.4, 0.6), rgb(190, 205, 215))


def _pillars(image: F32, fine: View, rng: np.random.Generator) -> tuple[Box, ...]:
    half = fine.half_width(PILLAR_Z)
    paint = colour(rng.uniform(0, 360), 0.08, rng.uniform(0.55, 0.8))
    found: list[Box] = []
    for _ in range(int(rng.integers(0, 3))):
        left = rng.uniform(-half, half - PILLAR_M)
        _, floor = fine.px(0, 0, PILLAR_Z)
        # On whole pixels of the frame: what stands behind is cut off there.
        x0, x1, y1 = (
            FINER * round(value / FINER)
            for value in (
                fine.px(left, 0, PILLAR_Z)[0],
                fine.px(left + PILLAR_M, 0, PILLAR_Z)[0],
                floor,
            )
        )
        x0, x1 = max(x0, 0), min(x1, fine.width)
        if x1 <= x0:
            continue
        round_off = np.sin(np.linspace(0.5, np.pi - 0.25, x1 - x0, dtype=np.float32))
        image[:y1, x0:x1] = paint * round_off[:, None]
        found.append((slice(0, y1 // FINER), slice(x0 // FINER, x1 // FINER)))
    return tuple(found)


class Light:
    """Daylight that drifts, and two lamps that are switched and sometimes flicker."""

    def __init__(self, view: View, rng: np.random.Generator) -> None:
        self._view, self._rng = view, rng
        self._rates = 2 * np.pi / rng.uniform(15.0, 60.0, 2)
        self._phases = rng.uniform(0, 2 * np.pi, 2)
        columns = max(4, round(LIGHT_CELLS * view.width / view.height))
        x, y = np.meshgrid(
            (np.arange(columns, dtype=np.float32) + np.float32(0.5)) / columns,
            (np.arange(LIGHT_CELLS, dtype=np.float32) + np.float32(0.5)) / LIGHT_CELLS,
        )
        self._places = rng.uniform((0.05, 0.0), (0.95, 0.35), (2, 2)).astype(np.float32)
        tints = np.stack(
            [colour(rng.uniform(25, 45), rng.uniform(0.05, 0.3), 1.0) for _ in range(2)]
        )
        spots = [
            np.exp(((x - px) ** 2 + ((y - py) * np.float32(0.8)) ** 2) * -5)
            for px, py in self._places
        ]
        self._fields = np.stack(spots)[..., None] * (tints / 255 * np.float32(0.42))[:, None, None]
        self._on = [bool(rng.random() < 0.8) for _ in range(2)]
        self._first = list(self._on)
        self._changes: list[tuple[float, int, str]] = []
        self._known_s = 0.0

    def run(self, time_s: float) -> None:
        """Know all changes until a time."""
        while self._known_s <= time_s:
            self._known_s += float(self._rng.exponential(SWITCH_S / 2)) + 2 * FLICKER_S
            lamp = int(self._rng.integers(2))
            if self._on[lamp] and self._rng.random() < 0.5:
                self._changes.append((self._known_s, lamp, "flicker"))
            else:
                self._on[lamp] = not self._on[lamp]
                kind = "lamp_on" if self._on[lamp] else "lamp_off"
                self._changes.append((self._known_s, lamp, kind))

    def at(self, time_s: float) -> F32:
        """[H, W, 3] by how much the picture is multiplied."""
        self.run(time_s)
        gains = [float(on) for on in self._first]
        for since, lamp, kind in self._changes:
            if since > time_s:
                break
            if kind != "flicker":
                gains[lamp] = float(kind == "lamp_on")
            elif time_s < since + FLICKER_S:
                gains[lamp] *= 0.25 if (time_s - since) * FLICKER_HZ % 1 < 0.5 else 1.0
        waves = np.sin(self._rates * time_s + self._phases)
        low = gains[0] * self._fields[0] + gains[1] * self._fields[1]
        low += np.float32(0.68 + 0.09 * waves[0] + 0.04 * waves[1])
        size = self._view.width, self._view.height
        return np.asarray(cv2.resize(low, size, interpolation=cv2.INTER_LINEAR), np.float32)

    def events(self, start_s: float, end_s: float) -> list[Event]:
        self.run(end_s)
        found: list[Event] = []
        for since, lamp, kind in self._changes:
            if start_s <= since < end_s:
                x, y = self._places[lamp].tolist()
                where = x * self._view.width - 0.5, y * self._view.height - 0.5
                found.append(Event(since, kind, -1, where))
        return found

    def forget(self, time_s: float) -> None:
        """Fold what was long ago into the lamps' first state."""
        while self._changes and self._changes[0][0] < time_s - FLICKER_S:
            _, lamp, kind = self._changes.pop(0)
            if kind != "flicker":
                self._first[lamp] = kind == "lamp_on"
