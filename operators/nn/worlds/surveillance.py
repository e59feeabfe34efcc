"""`surveillance`: a hall seen by a fixed camera, walkers in lanes, changing light, sensor noise.

Each lane has a direction and nobody goes against it, unless that was asked for as an anomaly. Up to
four walkers are there at a time: each of up to four places is empty for a while, then has a walker.
"""

from __future__ import annotations

import math
from zlib import crc32

import numpy as np

from operators.nn.worlds.hall import LANES_Z, PILLAR_Z, Light, View, draw_hall
from operators.nn.worlds.materials import MATERIALS
from operators.nn.worlds.rooms import FLOORS, draw_style
from operators.nn.worlds.spec import (
    F32,
    F64,
    U8,
    Anomaly,
    ClipSpec,
    Contact,
    Event,
    ObjectTruth,
    Truth,
)
from operators.nn.worlds.textures import colour
from operators.nn.worlds.walkers import MARGIN_M, Parcel, Path, Place, Thing, draw_walker

PLACES = 4
NOISE_LEVELS = 2.2  # standard deviation, of 255
NOISE_SHIFT = 32  # px by which the noise's tile is larger
MOST_OBJECTS = 255  # that a mask can tell apart


class SurveillanceWorld:
    """See `World`. Objects that had gone before a forgotten time are no longer counted."""

    def __init__(self, spec: ClipSpec) -> None:
        self._spec, self._view = spec, View(spec.width, spec.height)
        scene = spec.generator("scene")
        self._style = draw_style(spec.split, scene)
        self._floor = MATERIALS[FLOORS[self._style.floor][1]]
        self._hall = draw_hall(self._style, self._view, scene)
        self._light = Light(self._view, spec.generator("light"))
        self._directions = [1 if up else -1 for up in scene.random(len(LANES_Z)) < 0.5]
        shape = spec.height + NOISE_SHIFT, spec.width + NOISE_SHIFT, 3
        noise = spec.generator("noise").standard_normal(shape, np.float32)
        self._noise = noise * np.float32(NOISE_LEVELS) + np.float32(0.5)
        self._places = [Place(spec, k) for k in range(int(scene.integers(1, PLACES + 1)))]
        self._things: list[Thing] = []
        self._known_s = -math.inf
        self._planted = [] if spec.anomaly is None else [self._plant(spec.anomaly)]

    def render(self, time_s: float, mask: U8 | None = None) -> U8:
        self._run(time_s)
        if mask is not None and len(self._things) > MOST_OBJECTS:
            raise ValueError(f"a mask tells {MOST_OBJECTS} objects apart; ask for a shorter clip")
        frame = self._hall.image.copy()
        there = [(k, thing) for k, thing in enumerate(self._things) if _is_there(thing, time_s)]
        there.sort(key=lambda pair: (-pair[1].place(time_s)[1], pair[0]))
        behind = [pair for pair in there if pair[1].place(time_s)[1] > PILLAR_Z]
        for k, thing in behind:
            thing.draw(frame, self._view, time_s, mask, k + 1)
        for box in self._hall.pillars:
            frame[box] = self._hall.image[box]
            if mask is not None:
                mask[box] = 0
        for k, thing in there[len(behind) :]:
            thing.draw(frame, self._view, time_s, mask, k + 1)
        lit = frame * self._light.at(time_s) + self._noise_at(time_s)
        return np.clip(lit, 0, 255, out=lit).astype(np.uint8)

    def truth(self, times_s: F64, end_s: float) -> Truth:
        self._run(end_s)
        count = len(times_s)
        rows = [[self._row(thing, float(t)) for thing in self._things] for t in times_s]
        table = np.array(rows, np.float64).reshape(count, len(self._things), 8)
        x, z, px, py, half, speed, phase, seen = (table[..., k] for k in range(8))
        return Truth(
            fps=self._spec.fps,
            times_s=times_s,
            centre=np.stack((x, z), axis=-1),
            centre_px=np.stack((px, py), axis=-1),
            size_px=half,
            velocity=np.stack((speed, np.zeros_like(speed)), axis=-1),
            angle=phase,
            visible=seen > 0,
            energy=speed**2 / 2,
            objects=tuple(thing.known for thing in self._things),
            scene=f"hall {self._style.name}",
            contacts=self._contacts(float(times_s[0]), end_s),
            events=self._events(float(times_s[0]), end_s),
            camera=np.broadcast_to(np.eye(2, 3), (count, 2, 3)),
        )

    def forget(self, time_s: float) -> None:
        self._run(time_s)
        self._light.forget(time_s)
        self._things = [thing for thing in self._things if thing.end_s > time_s]

    def _run(self, time_s: float) -> None:
        """Know all who come until a time, in the order in which they come."""
        if time_s <= self._known_s:
            return
        coming: list[Thing] = [t for t in self._planted if self._known_s < t.start_s <= time_s]
        for place in self._places:
            coming += place.until(time_s, self._view, self._directions)
        self._things += sorted(coming, key=lambda thing: thing.start_s)
        self._known_s = time_s

    def _row(self, thing: Thing, time_s: float) -> tuple[float, ...]:
        (x, z), half = thing.place(time_s), thing.known.size_m
        px, py = self._view.px(x, half, z)
        size = half * self._view.scale(z)
        seen = _is_there(thing, time_s) and -size < px < self._view.width + size
        speed, phase = thing.motion(time_s)
        return x, z, px, py, size, speed * _is_there(thing, time_s), phase, float(seen)

    def _contacts(self, start_s: float, end_s: float) -> tuple[Contact, ...]:
        found: list[Contact] = []
        for k, thing in enumerate(self._things):
            found += thing.contacts(k, self._floor, min(end_s, thing.end_s))
        found.sort(key=lambda contact: (contact.time_s, contact.object))
        return tuple(contact for contact in found if contact.time_s >= start_s)

    def _events(self, start_s: float, end_s: float) -> tuple[Event, ...]:
        found = self._light.events(start_s, end_s)
        anomaly = self._spec.anomaly
        for thing in self._planted:
            if anomaly is not None and start_s <= anomaly.time_s < end_s and thing in self._things:
                x, z = thing.place(anomaly.time_s)
                where = self._view.px(x, thing.known.size_m, z)
                number = self._things.index(thing)
                found.append(Event(anomaly.time_s, anomaly.kind, number, where))
        return tuple(sorted(found, key=lambda event: event.time_s))

    def _noise_at(self, time_s: float) -> F32:
        """The same for a moment, whatever the frame rate."""
        place = crc32(np.float64(time_s).tobytes())
        top, left = place % NOISE_SHIFT, place // NOISE_SHIFT % NOISE_SHIFT
        return self._noise[top : top + self._spec.height, left : left + self._spec.width]

    def _plant(self, anomaly: Anomaly) -> Thing:
        """Who appears, or who is in the middle of the picture when he turns round or vanishes."""
        rng = self._spec.generator("anomaly")
        z = LANES_Z[int(rng.integers(2))]  # in front of the pillars
        half = self._view.half_width(z)
        x, t = float(rng.uniform(-0.45, 0.45)) * half, anomaly.time_s
        if anomaly.kind == "appears":
            known = ObjectTruth("parcel", "plain", "wood", float(rng.uniform(0.2, 0.32)), 8.0)
            paint = colour(rng.uniform(0, 60), rng.uniform(0.4, 0.9), 0.75)
            return Parcel((x, z), t, known, paint)
        outside = -self._directions[LANES_Z.index(z)] * (half + MARGIN_M)
        walk_s = abs(x - outside) / float(rng.uniform(1.1, 1.5))
        knots = [(t - walk_s, outside), (t, x)]
        if anomaly.kind == "wrong_way":
            knots.append((t + walk_s, outside))
        return draw_walker(self._spec.split, Path(tuple(knots), z), rng)


def _is_there(thing: Thing, time_s: float) -> bool:
    return thing.start_s <= time_s < thing.end_s
