"""Motion in a room: flight in closed form, impacts at their exact times, rest by small steps.

Between events every body moves as x + v t + a t^2 / 2, so that a trajectory is a list of pieces
that can be asked at any time: the frame rate has no part in the motion. Near a contact time goes on
in steps of STEP_S. An impact is found inside its step, changes velocities by Newton's restitution
and Coulomb's friction and is logged; a slow contact loses its normal speed at the end of the step,
which is how things slide, topple and lie. Inferred, ours: exact flights instead of a fixed step
throughout, for speed, and so that contacts have exact times between frames.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from operators.nn.worlds.bodies import Body, G, Room
from operators.nn.worlds.impacts import Impacts, time_to_close, wake
from operators.nn.worlds.spec import Contact

STEP_S = 1 / 160
SLOW_SPEED, DAMPING = 0.2, 0.02  # m/s; what is left after a second of leaning on something
STILL_M, STILL_RAD, STILL_S = 0.004, 0.02, 0.25  # moving less for so long is rest
LONGEST_PIECE_S = 0.5
HITS_PER_STEP = 12


class Pose(NamedTuple):
    """Of one body at one time; m, m/s, rad, rad/s, m/s^2."""

    x: float
    y: float
    vx: float
    vy: float
    angle: float
    spin: float
    ax: float
    ay: float
    turn: float  # angular acceleration, rad/s^2

    def after(self, t: float) -> Pose:
        half = t * t / 2
        x, y = self.x + self.vx * t + self.ax * half, self.y + self.vy * t + self.ay * half
        vx, vy, spin = self.vx + self.ax * t, self.vy + self.ay * t, self.spin + self.turn * t
        angle = self.angle + self.spin * t + self.turn * half
        return Pose(x, y, vx, vy, angle, spin, self.ax, self.ay, self.turn)


@dataclass
class Simulation:
    """Bodies in a room, computed as far as somebody asked.

    `rested` is called with the time when all lie still; it may push some and says whether it did.
    """

    bodies: Sequence[Body]
    room: Room
    rested: Callable[[float], bool] = lambda _: False
    now_s: float = 0.0
    _starts: list[float] = field(default_factory=list)
    _pieces: list[list[Pose]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._impacts = Impacts(self.bodies, self.room)
        self._record()

    @property
    def contacts(self) -> Sequence[Contact]:
        return self._impacts.contacts

    def at(self, time_s: float) -> list[Pose]:
        """All bodies at a time that was not forgotten."""
        self.run(time_s)
        k = bisect_right(self._starts, time_s) - 1
        return [pose.after(time_s - self._starts[k]) for pose in self._pieces[k]]

    def run(self, time_s: float) -> None:
        """Compute beyond a time: no contact before it comes later."""
        while self.now_s <= time_s:
            self._advance()

    def forget(self, time_s: float) -> None:
        """Drop what was before; contacts too."""
        k = max(bisect_right(self._starts, time_s) - 1, 0)
        del self._starts[:k], self._pieces[:k]
        log = self._impacts.contacts
        log[:] = [contact for contact in log if contact.time_s >= time_s]

    def _advance(self) -> None:
        if all(body.asleep for body in self.bodies):
            if not self.rested(self.now_s):
                self._move(LONGEST_PIECE_S)
                return
            wake(self.bodies)
            self._record()
        since, flight = self.now_s, self._undisturbed()
        if flight > STEP_S:
            for body in self.bodies:
                body.touched = body.rolls
            self._move(flight)
        else:
            self._step()
        self._tire(self.now_s - since)
        self._record()

    def _step(self) -> None:
        left = STEP_S
        for _ in range(HITS_PER_STEP):
            hit = self._impacts.first(left)
            if hit is None:
                break
            self._move(hit.wait_s)
            left -= hit.wait_s
            self._impacts.bounce(hit, self.now_s)
            self._record()
        self._move(left)
        self._impacts.settle()

    def _move(self, t: float) -> None:
        for body in self.bodies:
            body.move(t)
        self.now_s += t
        self._record()

    def _record(self) -> None:
        poses = []
        for b in self.bodies:
            ax, ay = b.pull()
            poses.append(Pose(b.x, b.y, b.vx, b.vy, b.angle, b.spin, ax, ay, -ax / b.reach))
        if self._starts and self._starts[-1] == self.now_s:
            self._pieces[-1] = poses
        else:
            self._starts.append(self.now_s)
            self._pieces.append(poses)

    def _tire(self, t: float) -> None:
        """What touches something and stays where it is falls asleep."""
        for body in self.bodies:
            if body.touched and not body.rolls and abs(body.vx) + abs(body.vy) < SLOW_SPEED:
                left = DAMPING**t
                body.vx, body.vy, body.spin = body.vx * left, body.vy * left, body.spin * left
            x, y, angle = body.mark
            stays = abs(body.x - x) + abs(body.y - y) < STILL_M
            if stays and body.touched and abs(body.angle - angle) < STILL_RAD:
                body.still_s += t
            else:
                body.still_s, body.mark = 0.0, (body.x, body.y, body.angle)
            if body.still_s > STILL_S:
                body.asleep = True
                body.vx = body.vy = body.spin = 0.0

    def _undisturbed(self) -> float:
        """Seconds in which surely nothing touches anything anew."""
        shortest = LONGEST_PIECE_S
        for i, body in enumerate(self.bodies):
            if not body.asleep:
                shortest = min(shortest, self._to_planes(body))
            for other in self.bodies[:i]:
                if not (body.asleep and other.asleep):
                    shortest = min(shortest, _to_body(body, other))
        return shortest

    def _to_planes(self, body: Body) -> float:
        room, reach = self.room, body.reach
        right, left = room.right - body.x - reach, body.x - reach - room.left
        side = (right if body.vx > 0 else left) / max(abs(body.vx), 1e-9)
        if body.rolls:
            stop = abs(body.vx) / (body.material.rolling * G)
            return min(side, stop + STEP_S)
        floor = body.y - reach
        if floor <= 0:
            return 0.0
        down = (body.vy + math.sqrt(body.vy**2 + 2 * G * floor)) / G
        up = (room.ceiling - body.y - reach) / max(body.vy, 1e-9)
        return min(down, up, side)


def _to_body(one: Body, other: Body) -> float:
    """Seconds until two circles can meet at the earliest, whatever pulls them."""
    gap = math.hypot(one.x - other.x, one.y - other.y) - one.reach - other.reach
    if gap <= 0:
        return 0.0
    speed = math.hypot(one.vx - other.vx, one.vy - other.vy)
    (ax, ay), (bx, by) = one.pull(), other.pull()
    return time_to_close(gap, speed, -math.hypot(ax - bx, ay - by))
