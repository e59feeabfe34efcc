"""Shapes of bodies: unit outlines, the discs that stand for them in collisions, their inertia.

A body meets others as a union of discs: its hull's corners as discs of the corner's radius, with
more along the edges and one in the middle. Against a plane that is exact, since the hull of the
corner discs is the shape; between two bodies the outline between discs is a little soft.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from operators.nn.worlds.spec import F32, F64, Split

Disc = tuple[float, float, float]  # x, y, radius
INERTIA_GRID = 256
EDGE_RADII = (0.45, 0.35, 0.25, 0.15)
NEAR_CORNER = 0.22  # where an edge's first disc touches it
EDGE_PITCH = 0.5  # at most, between discs along an edge


@dataclass(frozen=True)
class Shape:
    """A convex polygon swollen by `corner`, inside the unit circle, centred at its centroid."""

    name: str
    corners: tuple[tuple[float, float], ...]
    corner: float  # radius of the rounding
    hole: float = 0.0  # radius of a round hole in the middle
    spokes: int = 0  # bars across the hole

    @property
    def is_round(self) -> bool:
        return len(self.corners) == 1


def _regular(name: str, count: int, corner: float, turn: float = 0.0) -> Shape:
    angles = 2 * np.pi * np.arange(count) / count + turn
    reach = 1 - corner
    return Shape(
        name, tuple((reach * float(np.cos(a)), reach * float(np.sin(a))) for a in angles), corner
    )


def _rectangle(name: str, x: float, y: float, corner: float) -> Shape:
    return Shape(name, ((x, y), (-x, y), (-x, -y), (x, -y)), corner)


SHAPES: Mapping[str, Shape] = {
    shape.name: shape
    for shape in (
        Shape("disc", ((0.0, 0.0),), 1.0),
        _rectangle("box", 0.62, 0.62, 0.12),
        _rectangle("brick", 0.8, 0.41, 0.1),
        _regular("triangle", 3, 0.14, np.pi / 2),
        Shape("ring", ((0.0, 0.0),), 1.0, hole=0.52),
        _regular("hexagon", 6, 0.1),
        Shape("wheel", ((0.0, 0.0),), 1.0, hole=0.68, spokes=3),
        _regular("pentagon", 5, 0.12, np.pi / 2),
        Shape("capsule", ((0.52, 0.0), (-0.52, 0.0)), 0.48),
    )
}
_TRAIN = ("disc", "box", "brick", "triangle")
SHAPES_OF: Mapping[Split, tuple[str, ...]] = {
    "train": _TRAIN,
    "validation": _TRAIN,
    "development": ("ring", "hexagon"),
    "test": ("wheel", "pentagon", "capsule"),
}


def _hull_distance(shape: Shape, u: F32, v: F32) -> F32:
    """Signed distance to the polygon through the corners, below 0 inside it."""
    points = np.array(shape.corners, np.float32)
    if len(points) == 1:
        return np.asarray(np.hypot(u - points[0, 0], v - points[0, 1]))
    nearest = np.full(u.shape, np.inf, np.float32)
    beyond = np.full(u.shape, -np.inf, np.float32)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        ex, ey = x1 - x0, y1 - y0
        du, dv = u - x0, v - y0
        along = np.clip((du * ex + dv * ey) / (ex * ex + ey * ey), 0, 1)
        nearest = np.minimum(nearest, (du - ex * along) ** 2 + (dv - ey * along) ** 2)
        beyond = np.maximum(beyond, (du * ey - dv * ex) / np.hypot(ex, ey))
    distance = np.sqrt(nearest)
    if len(points) == 2:
        return distance
    return np.asarray(np.where(beyond < 0, -distance, distance))


def signed_distance(shape: Shape, u: F32, v: F32) -> F32:
    """[...] in units of the size, below 0 inside; `u` right, `v` up."""
    distance = _hull_distance(shape, u, v) - np.float32(shape.corner)
    if not shape.hole:
        return distance
    gap = np.float32(shape.hole) - np.hypot(u, v)
    if shape.spokes:
        bars = np.full(u.shape, np.inf, np.float32)
        for angle in np.pi * np.arange(shape.spokes) / shape.spokes:
            bars = np.minimum(
                bars, np.abs(u * np.float32(np.sin(angle)) - v * np.float32(np.cos(angle)))
            )
        gap = np.minimum(gap, bars - np.float32(0.11))
    return np.asarray(np.maximum(distance, gap))


@cache
def discs(name: str) -> tuple[Disc, ...]:
    """What the unit shape collides as; the first are the corners."""
    shape = SHAPES[name]
    points: F64 = np.array(shape.corners)
    if shape.is_round:
        return ((0.0, 0.0, 1.0),)
    found = [(float(x), float(y), shape.corner) for x, y in points]
    for here, there in zip(points, np.roll(points, -1, axis=0), strict=True):
        length = float(np.hypot(*(there - here)))
        along, inward = (there - here) / length, np.array((here[1] - there[1], there[0] - here[0]))
        count = int(np.ceil((length - 2 * NEAR_CORNER) / EDGE_PITCH)) + 1
        places = np.linspace(NEAR_CORNER, length - NEAR_CORNER, count)
        found += [_edge_disc(shape, here + along * at, inward / length) for at in places]
    return tuple(found) + _inner(shape)


def _edge_disc(shape: Shape, point: F64, inward: F64) -> Disc:
    """The largest of a few discs that touch the edge from inside: the larger, the straighter."""
    for radius in (*EDGE_RADII, shape.corner):
        x, y = point + inward * (radius - shape.corner)
        if radius == shape.corner or _depth(shape, float(x), float(y)) > radius - 0.005:
            break
    return float(x), float(y), radius


def _inner(shape: Shape) -> tuple[Disc, ...]:
    return ((0.0, 0.0, _depth(shape, 0.0, 0.0)),) if len(shape.corners) > 2 else ()


def _depth(shape: Shape, x: float, y: float) -> float:
    return -float(signed_distance(shape, *np.array((x, y), np.float32).reshape(2, 1))[0])


@cache
def area(name: str) -> float:
    """Of the unit shape; the unit disc has pi."""
    inside, *_ = _sampled(name)
    return 4 * float(inside.mean())


@cache
def inertia(name: str) -> float:
    """About the centre, of unit mass and size; 1/2 for the disc."""
    inside, u, v = _sampled(name)
    return float((inside * (u * u + v * v)).sum() / inside.sum())


def _sampled(name: str) -> tuple[F32, F32, F32]:
    edge = 1 - 1 / INERTIA_GRID  # cells' centres
    axis = np.linspace(-edge, edge, INERTIA_GRID, dtype=np.float32)
    u, v = (np.asarray(grid, np.float32) for grid in np.meshgrid(axis, axis))
    return (signed_distance(SHAPES[name], u, v) < 0).astype(np.float32), u, v
