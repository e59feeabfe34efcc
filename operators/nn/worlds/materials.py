"""Materials: how they bounce, slide, roll, look and ring.

Restitution, friction and density are of the order that engineering tables give for the plain
material. Inferred, ours: rolling resistance is larger than that of hard wheels, so that a ball
comes to rest within a room, and the sound's numbers (the pitch of a body of 1 m, ratios and decay
of its modes) are chosen so that materials can be told apart, not fitted to recordings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Sound:
    """Damped modes of a struck body: mode k has pitch_hz_m * ratios[k] / size_m."""

    pitch_hz_m: float
    ratios: tuple[float, ...]
    decay_s: float  # of the lowest mode, to 1/e
    damping: float  # how much faster higher modes fade: decay_s / ratio ** damping
    loudness: float


@dataclass(frozen=True)
class Look:
    """How the colours of a body are drawn."""

    hue_deg: tuple[float, float]
    saturation: tuple[float, float]
    value: tuple[float, float]
    gloss: float  # of the highlight, 0 to 1
    opacity: float


@dataclass(frozen=True)
class Material:
    name: str
    restitution: float  # of a pair: the geometric mean
    friction: float  # of a pair: likewise
    rolling: float  # deceleration of a rolling body / g
    density: float  # kg/m^2: bodies are flat, all equally thick
    look: Look
    sound: Sound


BAR = (1.0, 2.756, 5.404, 8.933)  # free bar, Euler-Bernoulli: f_k ~ (2 k + 1)^2
PLATE = (1.0, 1.73, 2.33, 3.91, 6.3)  # a free round plate, Leissa 1969, about
SHELL = (1.0, 2.32, 4.25, 6.63, 9.38)  # rim of a glass, French 1983, about


def _material(
    name: str, touch: tuple[float, float, float, float], look: Look, sound: Sound
) -> Material:
    return Material(name, *touch, look, sound)


MATERIALS: Mapping[str, Material] = {
    material.name: material
    for material in (
        _material(
            "rubber",
            (0.88, 0.9, 0.03, 11.0),
            Look((0, 360), (0.7, 0.95), (0.7, 0.95), 0.12, 1.0),
            Sound(42.0, (1.0, 1.9, 2.7), 0.035, 0.8, 0.8),
        ),
        _material(
            "wood",
            (0.6, 0.5, 0.035, 7.0),
            Look((18, 42), (0.45, 0.75), (0.5, 0.85), 0.1, 1.0),
            Sound(150.0, BAR, 0.05, 1.0, 1.0),
        ),
        _material(
            "metal",
            (0.72, 0.35, 0.02, 39.0),
            Look((200, 240), (0.02, 0.14), (0.5, 0.85), 0.75, 1.0),
            Sound(330.0, PLATE, 0.55, 0.5, 0.55),
        ),
        _material(
            "glass",
            (0.8, 0.3, 0.02, 12.5),
            Look((160, 215), (0.25, 0.5), (0.8, 0.98), 0.9, 0.82),
            Sound(620.0, SHELL, 0.3, 0.7, 0.7),
        ),
        _material(
            "stone",
            (0.45, 0.7, 0.04, 26.0),
            Look((20, 60), (0.03, 0.15), (0.4, 0.7), 0.05, 1.0),
            Sound(260.0, PLATE, 0.025, 0.6, 0.9),
        ),
        _material(
            "plaster",
            (0.6, 0.6, 0.04, 18.0),
            Look((0, 360), (0.1, 0.3), (0.6, 0.9), 0.0, 1.0),
            Sound(95.0, (1.0, 1.6, 2.3), 0.03, 0.8, 0.5),
        ),
        _material(
            "carpet",
            (0.4, 0.9, 0.06, 6.0),
            Look((0, 360), (0.3, 0.6), (0.3, 0.6), 0.0, 1.0),
            Sound(60.0, (1.0, 1.7), 0.02, 1.0, 0.35),
        ),
    )
}
OBJECT_MATERIALS = ("rubber", "wood", "metal", "glass", "stone")


def pair_restitution(one: Material, other: Material) -> float:
    return math.sqrt(one.restitution * other.restitution)


def pair_friction(one: Material, other: Material) -> float:
    return math.sqrt(one.friction * other.friction)
