"""`bounce`: one to three bodies of different materials fall, bounce, roll and collide in a room.

When all have rested for a while somebody kicks them (an `Event`), so that the world never ends.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from operators.nn.worlds.bodies import Body, G, Room
from operators.nn.worlds.materials import MATERIALS, OBJECT_MATERIALS, Material
from operators.nn.worlds.physics import Pose, Simulation
from operators.nn.worlds.rooms import (
    BELOW_M,
    FLOORS,
    SIDE_M,
    VIEW_M,
    draw_room,
    draw_style,
)
from operators.nn.worlds.shapes import SHAPES, SHAPES_OF, area, discs, inertia, signed_distance
from operators.nn.worlds.spec import F64, U8, ClipSpec, Event, ObjectTruth, Truth
from operators.nn.worlds.sprites import FINER, Sprite, paste, reduced, shade
from operators.nn.worlds.textures import PATTERNS, TEXTURES, mixed, two_colours

Length = TypeVar("Length", float, F64)
SIZES_M = (0.29, 0.48)
REST_BEFORE_KICK_S = 0.8
SLOPE = 0.45  # of the light over a body
TRIES = 40  # to find a free place for a body


class BounceWorld:
    """See `World`. The aspect ratio makes the room wide."""

    def __init__(self, spec: ClipSpec) -> None:
        self._spec = spec
        self._px = spec.height / VIEW_M  # per metre
        scene = spec.generator("scene")
        self._style = draw_style(spec.split, scene)
        self._empty = draw_room(self._style, spec.width, spec.height, scene)
        room = Room(
            SIDE_M,
            VIEW_M * spec.aspect - SIDE_M,
            VIEW_M - BELOW_M,
            MATERIALS[FLOORS[self._style.floor][1]],
            MATERIALS["plaster"],
        )
        rng = spec.generator("objects")
        self._objects: list[ObjectTruth] = []
        self._sprites: list[Sprite] = []
        bodies: list[Body] = []
        for _ in range(int(rng.integers(1, 4))):
            known, sprite = _draw_object(spec, self._px, rng)
            body = _placed(known, room, bodies, rng)
            if body is not None:
                bodies.append(body)
                self._objects.append(known)
                self._sprites.append(sprite)
        self._events: list[Event] = []
        self._kicks = spec.generator("kicks")
        self._rested_s: float | None = None
        self._simulation = Simulation(bodies, room, self._kick)

    def render(self, time_s: float, mask: U8 | None = None) -> U8:
        frame = self._empty.copy()
        poses = self._simulation.at(time_s)
        for pose, known in zip(poses, self._objects, strict=True):
            self._shadow(frame, pose, known.size_m)
        for k, (pose, sprite) in enumerate(zip(poses, self._sprites, strict=True)):
            x, y = self._to_px(pose.x, pose.y)
            paste(frame, sprite, (x, y, pose.angle), mask, k + 1)
        return frame

    def truth(self, times_s: F64, end_s: float) -> Truth:
        self._simulation.run(end_s)
        poses = [self._simulation.at(float(t)) for t in times_s]
        values = np.array([[tuple(pose) for pose in moment] for moment in poses])
        x, y, vx, vy, angle, spin = (values[..., k] for k in range(6))
        turning = [body.inertia / body.mass for body in self._simulation.bodies]
        reach = np.array([known.size_m for known in self._objects])
        centre_px = np.stack(self._to_px(x, y), axis=-1)
        wide, high = VIEW_M * self._spec.aspect, VIEW_M - BELOW_M
        between = float(times_s[0]), end_s
        return Truth(
            fps=self._spec.fps,
            times_s=times_s,
            centre=np.stack((x, y), axis=-1),
            centre_px=centre_px,
            size_px=np.broadcast_to(reach * self._px, x.shape),
            velocity=np.stack((vx, vy), axis=-1),
            angle=angle,
            visible=(x > -reach) & (x < wide + reach) & (y > -BELOW_M - reach) & (y < high + reach),
            energy=(vx**2 + vy**2 + turning * spin**2) / 2 + G * y,
            objects=tuple(self._objects),
            scene=self._style.name,
            contacts=tuple(
                c for c in self._simulation.contacts if between[0] <= c.time_s < between[1]
            ),
            events=tuple(e for e in self._events if between[0] <= e.time_s < between[1]),
            camera=np.broadcast_to(np.eye(2, 3), (len(times_s), 2, 3)),
        )

    def forget(self, time_s: float) -> None:
        self._simulation.forget(time_s)
        self._events = [event for event in self._events if event.time_s >= time_s]

    def _to_px(self, x: Length, y: Length) -> tuple[Length, Length]:
        return x * self._px - 0.5, (VIEW_M - BELOW_M - y) * self._px - 0.5

    def _shadow(self, frame: U8, pose: Pose, size: float) -> None:
        """On the floor below; the higher the body, the softer and the paler."""
        height = max(0.0, pose.y - 0.8 * size)
        x, y = self._to_px(pose.x + 0.1 * height, -0.03)
        wide = (0.62 * size + 0.22 * height) * self._px
        shade(frame, (x, y), (wide, 0.09 * self._px + 0.1 * wide), 0.62 / (1 + 1.6 * height / size))

    def _kick(self, now_s: float) -> bool:
        if self._rested_s is None:
            self._rested_s = now_s
        if now_s - self._rested_s < REST_BEFORE_KICK_S:
            return False
        self._rested_s = None
        for k, body in enumerate(self._simulation.bodies):
            room = self._simulation.room.ceiling - body.y - body.reach
            body.vy = float(self._kicks.uniform(0.55, 0.95)) * max(0.0, 2 * G * room) ** 0.5
            body.vx = float(self._kicks.uniform(-2.2, 2.2))
            body.spin = float(self._kicks.uniform(-6, 6))
            self._events.append(Event(now_s, "kick", k, self._to_px(body.x, body.y)))
        return True


def _draw_object(spec: ClipSpec, px: float, rng: np.random.Generator) -> tuple[ObjectTruth, Sprite]:
    shape = str(rng.choice(SHAPES_OF[spec.split]))
    texture = str(rng.choice(TEXTURES[spec.split]))
    material = MATERIALS[str(rng.choice(OBJECT_MATERIALS))]
    size = float(rng.uniform(*SIZES_M))
    mass = material.density * area(shape) * size**2
    return ObjectTruth(shape, texture, material.name, size, mass), _sprite(
        (shape, texture, material), size * px, rng
    )


def _sprite(looks: tuple[str, str, Material], size_px: float, rng: np.random.Generator) -> Sprite:
    """Drawn twice as fine as it is kept; a dark rim, round things darker towards it."""
    shape, texture, material = SHAPES[looks[0]], looks[1], looks[2]
    fine = 2 * FINER
    side = 2 * int(np.ceil((size_px + 1) * FINER))
    axis = (np.arange(side * 2, dtype=np.float32) - np.float32(side - 0.5)) / np.float32(
        size_px * fine
    )
    u, v = np.meshgrid(axis, -axis)
    depth = -signed_distance(shape, u, v)
    colours = mixed(*two_colours(material.look, rng), PATTERNS[texture](u, v, rng))
    if shape.is_round:
        gain = np.sqrt(np.clip(np.float32(1.12) - (u * u + v * v), 0, 1))
    else:
        gain = np.where(depth < np.float32(0.09), np.float32(0.72), np.float32(1))
    alpha = (depth > 0).astype(np.float32) * np.float32(material.look.opacity)
    image = np.concatenate((colours * (gain * alpha)[..., None], alpha[..., None]), axis=-1)
    return Sprite(reduced(image, 2), material.look.opacity, material.look.gloss, SLOPE)


def _placed(
    known: ObjectTruth, room: Room, others: list[Body], rng: np.random.Generator
) -> Body | None:
    """A body thrown from a free place, or rolling on the floor; None if the room is full."""
    size, mass = known.size_m, known.mass_kg
    shape = SHAPES[known.kind]
    for _ in range(TRIES):
        x = float(rng.uniform(room.left + size + 0.02, room.right - size - 0.02))
        y = float(rng.uniform(size + 0.3, room.ceiling - size - 0.3))
        on_floor = shape.is_round and rng.random() < 0.4
        if on_floor:
            y = size
        if all((x - o.x) ** 2 + (y - o.y) ** 2 > (size + o.reach + 0.02) ** 2 for o in others):
            break
    else:
        return None
    vx = float(rng.uniform(-2.2, 2.2))
    most = min(2.0, (2 * G * (room.ceiling - y - size)) ** 0.5)
    vy, spin = float(rng.uniform(-1.0, most)), float(rng.uniform(-6, 6))
    return Body(
        discs=tuple((dx * size, dy * size, radius * size) for dx, dy, radius in discs(known.kind)),
        corners=len(shape.corners),
        reach=size,
        mass=mass,
        inertia=mass * size**2 * inertia(known.kind),
        material=MATERIALS[known.material],
        x=x,
        y=y,
        vx=vx,
        vy=0.0 if on_floor else vy,
        angle=0.0 if on_floor else float(rng.uniform(0, 2 * np.pi)),
        spin=-vx / size if on_floor else spin,
        rolls=on_floor,
    )
