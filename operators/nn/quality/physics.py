"""Does a thing in a clip keep its shape, move predictably, and gain no energy from nothing?

All from a `Track`, so it can be asked of any clip. A figure means little alone: a tracker has
errors of its own, so the same is measured on rendered clips and on a frozen frame.

Inferred, ours: the next position is foretold from the last three by constant acceleration, which is
exact in free flight; a white error of sigma px in positions shows up as 4.5 sigma. Velocity is the
central difference, exact in free flight too. Rotation is not seen, so energy is that of the centre.
Near floor, walls and ceiling is contact, and does not count where free flight is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from operators.nn.quality.tracking import Track

F64 = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

RISE = 0.1  # of the largest energy of a clip: a smaller gain may be the tracker's error


@dataclass(frozen=True)
class Room:
    """Where a thing may be, in px, and how px and frames become metres and seconds."""

    left_px: float
    right_px: float
    ceiling_px: float
    floor_px: float  # larger than ceiling_px: y goes down
    px_per_m: float
    fps: float
    gravity: float = 9.81  # m/s^2
    near_px: float = 3.0  # nearer than this to any side is contact; masks are not exact

    @property
    def gravity_px(self) -> float:
        """px per frame^2."""
        return self.gravity * self.px_per_m / self.fps**2


@dataclass(frozen=True)
class Physics:
    """Of one clip. NaN where a figure is not defined: nothing seen, or never in free flight."""

    seen: float  # share of the frames in which the thing is visible
    area_variation: float  # deviation / mean of its area
    colour_drift: float  # between its mean colours in the clip's halves, 0..441
    surprise_px: float  # mean error of the foretold next position
    flight_surprise_px: float  # the same in free flight alone
    fall: float  # median vertical acceleration in free flight, / gravity: 1 is right
    energy_rises: float  # share of steps in free flight that gain more than `RISE`
    energy_change: float  # from the first known to the last, / the first; a room only takes
    path_px: float  # along the way it went


def measure(found: Track, room: Room) -> Physics:
    """All figures of one clip."""
    x, free = found.centre_px, in_flight(found, room)
    half, area = len(x) // 2, found.area_px[found.visible]
    surprise = foretelling_error(x)
    fall = np.diff(x[:, 1], n=2)[_last(free, 3)[2:]] / room.gravity_px
    energy = energy_per_mass(x, room)
    known = energy[np.isfinite(energy)]
    colours = [_mean(found.colour[part]) for part in (slice(half), slice(half, None))]
    return Physics(
        seen=float(found.visible.mean()),
        area_variation=float(area.std() / area.mean()) if len(area) > 1 else np.nan,
        colour_drift=float(np.linalg.norm(colours[0] - colours[1])),
        surprise_px=float(_mean(surprise)),
        flight_surprise_px=float(_mean(surprise[_last(free, 4)])),
        fall=float(np.median(fall)) if len(fall) else np.nan,
        energy_rises=_rises(energy, _last(free, 4)),
        energy_change=float(known[-1] / known[0] - 1) if len(known) > 1 else np.nan,
        path_px=float(np.nansum(np.linalg.norm(np.diff(x, axis=0), axis=1))),
    )


def averages(rows: Sequence[Physics]) -> dict[str, dict[str, float]]:
    """By figure: its mean and median over the clips that have it, and their number `n`."""
    found = {}
    for name in Physics.__dataclass_fields__:
        values = np.array([asdict(row)[name] for row in rows])
        values = values[np.isfinite(values)]
        middle = float(np.median(values)) if len(values) else np.nan
        found[name] = {"mean": float(_mean(values)), "median": middle, "n": float(len(values))}
    return found


def in_flight(found: Track, room: Room) -> Flags:
    """[T]: visible, and further than `near_px` from everything that could be touched."""
    left, top, right, bottom = found.box_px.T
    gaps = left - room.left_px, room.right_px - right, top - room.ceiling_px, room.floor_px - bottom
    with np.errstate(invalid="ignore"):
        free: Flags = found.visible & (np.min(gaps, axis=0) > room.near_px)
    return free


def foretelling_error(centre_px: F64) -> F64:
    """[T, 2] to [T]: how far each position lies from 3 x_1 - 3 x_2 + x_3 of the three before it.

    NaN for the first three, and where one of the four is not known.
    """
    error = np.full(len(centre_px), np.nan)
    error[3:] = np.linalg.norm(np.diff(centre_px, n=3, axis=0), axis=1)
    return error


def energy_per_mass(centre_px: F64, room: Room) -> F64:
    """[T, 2] to [T], J/kg over the floor; NaN at both ends and beside unknown positions."""
    velocity = np.full_like(centre_px, np.nan)
    velocity[1:-1] = (centre_px[2:] - centre_px[:-2]) * room.fps / (2 * room.px_per_m)
    height_m = (room.floor_px - centre_px[:, 1]) / room.px_per_m
    energy: F64 = (velocity**2).sum(axis=1) / 2 + room.gravity * height_m
    return energy


def _rises(energy: F64, last_of_four: Flags) -> float:
    """Over the middle step of any four frames in free flight: its velocities need all four."""
    ends = np.flatnonzero(last_of_four)
    gains = energy[ends - 1] - energy[ends - 2]
    gains = gains[np.isfinite(gains)]
    return float((gains > RISE * np.nanmax(energy)).mean()) if len(gains) else np.nan


def _last(free: Flags, count: int) -> Flags:
    """[T]: True where this frame and the count - 1 before it are."""
    found = free.copy()
    for back in range(1, count):
        found[back:] &= free[:-back]
        found[:back] = False
    return found


def _mean(values: F64) -> F64:
    """Over the first axis, of what is known; NaN if nothing is."""
    known = values[np.isfinite(values).all(axis=tuple(range(1, values.ndim)))]
    return np.asarray(known.mean(axis=0) if len(known) else np.full(values.shape[1:], np.nan))
