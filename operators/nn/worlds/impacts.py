"""Where bodies touch: impacts bounce and are logged, slow contacts slide, roll and rest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from operators.nn.worlds.bodies import Body, G, Room, Touch, touches
from operators.nn.worlds.materials import Material, pair_friction, pair_restitution
from operators.nn.worlds.spec import FLOOR, Contact

REST_SPEED = 0.25  # m/s; slower ones do not bounce: it would be 3 mm
MISSED_M = 2e-3  # error of the time of an impact, as a gap, at most
WAKE_SPEED = 0.15  # of a slow contact that wakes a sleeper: more than one step of falling
SLOP_M = 2e-4  # nearer than this is touching
ROLLING_SLIP = 1e-3  # m/s
PASSES = 4  # over all touching points at rest


class Hit(NamedTuple):
    """An impact that is about to happen, between a body and another or a plane."""

    wait_s: float
    one: int
    other: int


@dataclass
class Impacts:
    """Changes bodies in place; `contacts` is the log, in the order of time."""

    bodies: Sequence[Body]
    room: Room
    contacts: list[Contact] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._planes = self.room.planes()

    def first(self, within_s: float) -> Hit | None:
        """The next impact, if it comes so soon: by second-order expansion of each gap."""
        first: Hit | None = None
        fastest = max(math.hypot(b.vx, b.vy) + abs(b.spin) * b.reach for b in self.bodies)
        margin = 2 * fastest * within_s + G * within_s**2
        for touch in touches(self.bodies, self._planes, margin):
            speed = -self._meeting(touch)[0]
            if speed < REST_SPEED:
                continue
            wait = time_to_close(touch.gap, speed, touch.bend)
            if wait <= within_s and (first is None or wait < first.wait_s):
                first = Hit(wait, touch.one, touch.other)
        return first

    def bounce(self, hit: Hit, now_s: float) -> None:
        """The moment has come: where the two are nearest they push each other."""
        near = [
            touch
            for touch in touches(self.bodies, self._planes, MISSED_M)
            if (touch.one, touch.other) == (hit.one, hit.other) and self._meeting(touch)[0] < 0
        ]
        if not near:
            return  # they pass by at less than the expansion's error
        touch = min(near, key=lambda touch: touch.gap)
        involved = [self.bodies[k] for k in (hit.one, hit.other) if k >= 0]
        if any(body.asleep for body in involved):
            wake(self.bodies)
        for body in involved:
            body.rolls = False
        speed = -self._meeting(touch)[0]
        one, other = self.bodies[hit.one].material, self._material(hit.other)
        impulse = self._impulse(touch, pair_restitution(one, other))
        where, names = (touch.px, touch.py), (one.name, other.name)
        self.contacts.append(Contact(now_s, hit.one, hit.other, impulse, speed, where, names))

    def settle(self) -> None:
        """Slow contacts: no normal speed is left, nothing overlaps, what can roll rolls."""
        near = touches(self.bodies, self._planes, SLOP_M)
        if self._disturb(near):
            near = touches(self.bodies, self._planes, SLOP_M)
        near.sort(key=lambda touch: -touch.other)  # the room has the last word
        for body in self.bodies:
            body.touched = body.rolls
        for _ in range(PASSES):
            impulses = [self._impulse(touch, 0.0) for touch in near]
            if not any(impulses):
                break
        self._part(near)
        for touch in near:
            if touch.other == FLOOR:
                _start_rolling(self.bodies[touch.one])
        for body in self.bodies:
            body.rolls = body.rolls and body.vy == 0.0 and _slip(body) < ROLLING_SLIP

    def _meeting(self, touch: Touch) -> tuple[float, float]:
        """Relative speed of `one` along the normal (away is positive) and along the tangent."""
        ux, uy = self.bodies[touch.one].speed_at(touch.px, touch.py)
        if touch.other >= 0:
            wx, wy = self.bodies[touch.other].speed_at(touch.px, touch.py)
            ux, uy = ux - wx, uy - wy
        return ux * touch.nx + uy * touch.ny, uy * touch.nx - ux * touch.ny

    def _material(self, other: int) -> Material:
        if other >= 0:
            return self.bodies[other].material
        return self.room.floor if other == FLOOR else self.room.wall

    def _free(self, touch: Touch) -> list[tuple[Body, int]]:
        """The bodies of a touch that can move, and the sign of the normal for them."""
        pair = [(self.bodies[touch.one], 1)]
        if touch.other >= 0:
            pair.append((self.bodies[touch.other], -1))
        return [(body, sign) for body, sign in pair if not body.asleep]

    def _impulse(self, touch: Touch, restitution: float) -> float:
        """Apply what parts two outlines; the normal impulse (N s), 0 where they part already."""
        away, along = self._meeting(touch)
        if away >= 0:
            return 0.0
        nx, ny, point = touch.nx, touch.ny, (touch.px, touch.py)
        pair = self._free(touch)
        jn = -(1 + restitution) * away / sum(body.softness(nx, ny, *point) for body, _ in pair)
        _push(pair, (jn * nx, jn * ny), point)
        # Friction comes second and sees the speed that is left: together they could add energy.
        along = self._meeting(touch)[1]
        most = jn * pair_friction(self.bodies[touch.one].material, self._material(touch.other))
        jt = -along / sum(body.softness(-ny, nx, *point) for body, _ in pair)
        jt = max(-most, min(most, jt))
        _push(pair, (-jt * ny, jt * nx), point)
        return jn

    def _disturb(self, near: Sequence[Touch]) -> bool:
        """Who leans on a rolling body presses it on the floor; who is hit by a mover wakes up."""
        disturbed = False
        for touch in near:
            if touch.other >= 0:
                one, other = self.bodies[touch.one], self.bodies[touch.other]
                moving = max(abs(speed) for speed in self._meeting(touch)) > WAKE_SPEED
                disturbed |= one.rolls or other.rolls or (moving and (one.asleep or other.asleep))
                one.rolls = other.rolls = False
                one.asleep, other.asleep = one.asleep and not moving, other.asleep and not moving
        return disturbed

    def _part(self, near: Sequence[Touch]) -> None:
        """Move bodies out of each other and out of walls."""
        moved = {id(body): (0.0, 0.0) for body in self.bodies}
        for touch in near:
            pair, gap = self._free(touch), touch.gap
            for body, sign in pair:
                body.touched = True
                gap += sign * (moved[id(body)][0] * touch.nx + moved[id(body)][1] * touch.ny)
            if gap < 0:
                softness = sum(1 / body.mass for body, _ in pair)
                for body, sign in pair:
                    by, (x, y) = -sign * gap / body.mass / softness, moved[id(body)]
                    moved[id(body)] = x + by * touch.nx, y + by * touch.ny
        for body in self.bodies:
            body.x += moved[id(body)][0]
            body.y += moved[id(body)][1]


def wake(bodies: Sequence[Body]) -> None:
    """After a push from outside, and when a sleeping body is hit."""
    for body in bodies:
        body.asleep = body.rolls = False
        body.still_s = 0.0


def time_to_close(gap: float, speed: float, bend: float) -> float:
    """First t >= 0 at which gap - speed t + bend t^2 / 2 is 0; infinite if it never is."""
    if gap <= 0:
        return 0.0
    root = speed * speed - 2 * bend * gap
    return 2 * gap / (speed + math.sqrt(root)) if root >= 0 and speed + root > 0 else math.inf


def _push(
    pair: Sequence[tuple[Body, int]], impulse: tuple[float, float], point: tuple[float, float]
) -> None:
    for body, sign in pair:
        body.push(sign * impulse[0], sign * impulse[1], *point)


def _slip(body: Body) -> float:
    """m/s, of a round body's lowest point over the floor."""
    return abs(body.vx + body.spin * body.reach)


def _start_rolling(body: Body) -> None:
    if body.is_round and abs(body.vy) < 1e-6 and _slip(body) < ROLLING_SLIP:
        body.rolls, body.vy, body.y = True, 0.0, body.reach
