"""Rigid bodies and where they touch: unions of discs against planes and against each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from operators.nn.worlds.materials import Material
from operators.nn.worlds.shapes import Disc
from operators.nn.worlds.spec import CEILING, FLOOR, LEFT_WALL, RIGHT_WALL

G = 9.81  # m/s^2

Plane = tuple[int, float, float, float]  # number, normal x, y, offset: n . p + offset is the gap


@dataclass(slots=True)
class Body:
    """One rigid body; metres, kilograms, radians, y up."""

    discs: tuple[Disc, ...]
    corners: int  # the first of the discs, all that planes can touch
    reach: float  # of the circle around all discs
    mass: float
    inertia: float
    material: Material
    x: float
    y: float
    vx: float = 0.0
    vy: float = 0.0
    angle: float = 0.0
    spin: float = 0.0
    rolls: bool = False  # on the floor, without sliding: the floor holds it and slows it down
    touched: bool = False  # something, when last looked at
    mark: tuple[float, float, float] = (0.0, 0.0, 0.0)  # x, y, angle when it last moved
    still_s: float = 0.0  # since then, while it touched something
    asleep: bool = False

    @property
    def is_round(self) -> bool:
        return len(self.discs) == 1

    def pull(self) -> tuple[float, float]:
        """Acceleration along x and y, m/s^2."""
        if self.asleep:
            return 0.0, 0.0
        if self.rolls:
            return math.copysign(self.material.rolling * G, -self.vx) if self.vx else 0.0, 0.0
        return 0.0, -G

    def move(self, t: float) -> None:
        """Fly or roll for t seconds."""
        if self.asleep:
            return
        ax, ay = self.pull()
        if self.rolls and abs(self.vx) <= abs(ax) * t:
            self.x += self.vx * abs(self.vx) / (2 * abs(ax)) if ax else 0.0
            self.vx = self.spin = 0.0
            return
        self.x += self.vx * t + ax * t * t / 2
        self.y += self.vy * t + ay * t * t / 2
        self.angle += self.spin * t - ax / self.reach * t * t / 2
        self.vx += ax * t
        self.vy += ay * t
        self.spin -= ax / self.reach * t

    def speed_at(self, px: float, py: float) -> tuple[float, float]:
        """Of the body's point that is at (px, py)."""
        return self.vx - self.spin * (py - self.y), self.vy + self.spin * (px - self.x)

    def push(self, jx: float, jy: float, px: float, py: float) -> None:
        """Take an impulse (N s) at a point."""
        self.vx += jx / self.mass
        self.vy += jy / self.mass
        self.spin += ((px - self.x) * jy - (py - self.y) * jx) / self.inertia

    def softness(self, nx: float, ny: float, px: float, py: float) -> float:
        """Change of speed along a direction at a point for an impulse of 1 N s, 1/kg."""
        lever = (px - self.x) * ny - (py - self.y) * nx
        return 1 / self.mass + lever * lever / self.inertia


@dataclass(frozen=True)
class Room:
    """Where bodies are: y = 0 is the line of the floor that they touch."""

    left: float
    right: float
    ceiling: float
    floor: Material
    wall: Material

    def planes(self) -> tuple[Plane, ...]:
        return (
            (FLOOR, 0.0, 1.0, 0.0),
            (LEFT_WALL, 1.0, 0.0, -self.left),
            (RIGHT_WALL, -1.0, 0.0, self.right),
            (CEILING, 0.0, -1.0, self.ceiling),
        )


@dataclass(slots=True)
class Touch:
    """Two outlines near each other; the normal pushes body `one` away from `other`."""

    one: int
    other: int  # a body, or a plane's number
    nx: float
    ny: float
    px: float
    py: float
    gap: float
    bend: float  # second derivative of the gap, m/s^2


def touches(bodies: Sequence[Body], planes: Sequence[Plane], margin: float) -> list[Touch]:
    """All places where less than `margin` lies between a moving body and something."""
    found: list[Touch] = []
    for i, body in enumerate(bodies):
        if not body.asleep:
            for plane in planes:
                number, nx, ny, offset = plane
                near = nx * body.x + ny * body.y + offset - body.reach < margin
                if near and not (body.rolls and number == FLOOR):
                    _touch_plane(found, i, body, plane, margin)
        for j in range(i):
            other = bodies[j]
            far = body.reach + other.reach + margin
            dx, dy = body.x - other.x, body.y - other.y
            if dx * dx + dy * dy < far * far and not (body.asleep and other.asleep):
                _touch_body(found, (i, body), (j, other), margin)
    return found


def _placed(body: Body, discs: Sequence[Disc]) -> list[tuple[float, float, float, float, float]]:
    """Discs in the world: x, y, radius, and their offset from the middle."""
    c, s = math.cos(body.angle), math.sin(body.angle)
    x, y = body.x, body.y
    return [
        (x + c * dx - s * dy, y + s * dx + c * dy, radius, c * dx - s * dy, s * dx + c * dy)
        for dx, dy, radius in discs
    ]


def _placed_near(
    body: Body, other: Body, margin: float
) -> list[tuple[float, float, float, float, float]]:
    """Those that are within reach of another body."""
    far = other.reach + margin
    return [
        disc
        for disc in _placed(body, body.discs)
        if (disc[0] - other.x) ** 2 + (disc[1] - other.y) ** 2 < (far + disc[2]) ** 2
    ]


def _touch_plane(found: list[Touch], i: int, body: Body, plane: Plane, margin: float) -> None:
    number, nx, ny, offset = plane
    ax, ay = body.pull()
    straight = nx * ax + ny * ay
    for x, y, radius, dx, dy in _placed(body, body.discs[: body.corners]):
        gap = nx * x + ny * y + offset - radius
        if gap < margin:
            bend = straight - body.spin**2 * (nx * dx + ny * dy)
            point = (x - nx * radius, y - ny * radius)
            found.append(Touch(i, number, nx, ny, *point, gap, bend))


def _touch_body(
    found: list[Touch], one: tuple[int, Body], other: tuple[int, Body], margin: float
) -> None:
    (i, a), (j, b) = one, other
    pull = a.pull()[0] - b.pull()[0], a.pull()[1] - b.pull()[1]
    theirs = _placed_near(b, a, margin)
    for x, y, radius, dx, dy in _placed_near(a, b, margin):
        for x2, y2, radius2, dx2, dy2 in theirs:
            far = radius + radius2 + margin
            ux, uy = x - x2, y - y2
            square = ux * ux + uy * uy
            if square >= far * far or square == 0:
                continue
            distance = math.sqrt(square)
            nx, ny = ux / distance, uy / distance
            turning = b.spin**2 * (nx * dx2 + ny * dy2) - a.spin**2 * (nx * dx + ny * dy)
            gap, bend = distance - radius - radius2, nx * pull[0] + ny * pull[1] + turning
            found.append(Touch(i, j, nx, ny, x - nx * radius, y - ny * radius, gap, bend))
