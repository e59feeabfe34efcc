"""Clips and endless streams of any world, frame by frame the same whatever else is asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from operators.nn.worlds.bounce import BounceWorld
from operators.nn.worlds.pan import PanWorld
from operators.nn.worlds.spec import U8, Clip, ClipSpec, World
from operators.nn.worlds.surveillance import SurveillanceWorld

FORGET_EVERY = 64  # frames


def make_world(spec: ClipSpec, photographs: Sequence[U8] = ()) -> World:
    """The world itself. `photographs` ([h, w, 3] each): what `pan` looks at instead of drawings."""
    if spec.kind == "bounce":
        return BounceWorld(spec)
    if spec.kind == "surveillance":
        return SurveillanceWorld(spec)
    return PanWorld(spec, photographs)


def make_clip(spec: ClipSpec, photographs: Sequence[U8] = (), masks: bool = False) -> Clip:
    """spec.length frames with their truth, on request with instance masks."""
    world = make_world(spec, photographs)
    shape = (spec.length, spec.height, spec.width)
    pictures = np.empty((*shape, 3), np.uint8)
    numbers = np.zeros(shape, np.uint8) if masks else None
    times_s = spec.times_s()
    for n, time_s in enumerate(times_s):
        pictures[n] = world.render(float(time_s), None if numbers is None else numbers[n])
    truth = world.truth(times_s, spec.length / spec.fps)
    return Clip(spec, pictures, truth, numbers)


def frames(spec: ClipSpec, photographs: Sequence[U8] = ()) -> Iterator[U8]:
    """[H, W, 3] without end, in bounded memory; the first spec.length are those of `make_clip`."""
    world = make_world(spec, photographs)
    n = 0
    while True:
        yield world.render(n / spec.fps)
        n += 1
        if n % FORGET_EVERY == 0:
            world.forget(n / spec.fps)
