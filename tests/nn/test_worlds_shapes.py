"""Shapes: area, inertia and the discs that they collide as."""

from __future__ import annotations

import numpy as np
import pytest

from operators.nn.worlds.shapes import SHAPES, area, discs, inertia, signed_distance

shapes = pytest.mark.parametrize("name", SHAPES)


def grid(count: int = 401):
    axis = np.linspace(-1.05, 1.05, count, dtype=np.float32)
    return np.meshgrid(axis, axis)


def test_area_and_inertia_are_those_of_the_textbook():
    assert area("disc") == pytest.approx(np.pi, rel=0.01)
    assert inertia("disc") == pytest.approx(0.5, rel=0.01)
    assert area("ring") == pytest.approx(np.pi * (1 - 0.52**2), rel=0.01)
    assert inertia("ring") == pytest.approx((1 + 0.52**2) / 2, rel=0.01)
    assert area("capsule") == pytest.approx(4 * 0.52 * 0.48 + np.pi * 0.48**2, rel=0.01)
    assert area("box") == pytest.approx(1.48**2 - (4 - np.pi) * 0.12**2, rel=0.01)
    assert inertia("box") == pytest.approx(1.48**2 / 6, rel=0.02)


@shapes
def test_a_shape_fills_its_circle_and_is_centred(name):
    u, v = grid()
    inside = signed_distance(SHAPES[name], u, v) < 0
    radius = np.hypot(u[inside], v[inside]).max()
    assert 0.95 < radius <= 1.005
    assert abs(u[inside].mean()) < 0.005
    assert abs(v[inside].mean()) < 0.005


@shapes
def test_the_distance_is_one(name):
    u, v = grid()
    distance = signed_distance(SHAPES[name], u, v)
    step = float(u[0, 1] - u[0, 0])
    assert np.abs(np.diff(distance, axis=1)).max() <= 1.01 * step
    assert distance[0, 0] > 0


@shapes
def test_discs_cover_the_shape_and_nothing_else(name):
    u, v = grid(201)
    union = np.min([np.hypot(u - x, v - y) - radius for x, y, radius in discs(name)], axis=0)
    distance = signed_distance(SHAPES[name], u, v)
    assert union[distance > 0.01].min() > -0.012 or SHAPES[name].hole  # holes are for the eye alone
    assert union[distance < 0].max() < 0.06


@shapes
def test_the_corner_discs_come_first_and_span_the_hull(name):
    corners = discs(name)[: len(SHAPES[name].corners)]
    assert [(x, y) for x, y, _ in corners] == [tuple(c) for c in SHAPES[name].corners]
    u, v = grid()
    inside = signed_distance(SHAPES[name], u, v) < 0
    for angle in np.linspace(0, 2 * np.pi, 17):
        nx, ny = np.cos(angle), np.sin(angle)
        far = max(nx * x + ny * y + radius for x, y, radius in corners)
        assert far == pytest.approx((nx * u[inside] + ny * v[inside]).max(), abs=0.012)
