"""Patterns and noise: their range, and that they do not depend on the resolution."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from operators.nn.worlds.materials import MATERIALS
from operators.nn.worlds.textures import PATTERNS, colour, even_noise, noise, two_colours


def grid(count: int):
    axis = (np.arange(count, dtype=np.float32) + np.float32(0.5)) * 2 / np.float32(count) - 1
    return np.meshgrid(axis, axis)


@pytest.mark.parametrize("name", PATTERNS)
def test_a_pattern_has_both_colours_and_is_the_same_at_any_resolution(name):
    coarse, fine = (PATTERNS[name](*grid(n), np.random.default_rng(3)) for n in (48, 192))
    assert coarse.dtype == np.float32
    assert coarse.min() < 0.3
    assert coarse.max() > 0.7
    reduced = cv2.resize(fine, (48, 48), interpolation=cv2.INTER_AREA)
    assert np.abs(reduced - coarse).mean() < 0.09
    other = PATTERNS[name](*grid(48), np.random.default_rng(4))
    assert np.abs(other - coarse).mean() > 0.1


def test_noise_is_smooth_spread_and_bound_to_its_coordinates():
    x, y = grid(120)
    field = noise(x, y, 0.4, np.random.default_rng(1))
    assert field.std() > 0.08
    assert field.min() > -0.3
    assert field.max() < 1.3
    assert np.abs(np.diff(field, axis=1)).max() < 0.25
    part = noise(x[30:60, 10:50], y[30:60, 10:50], 0.4, np.random.default_rng(1))
    assert np.array_equal(part, field[30:60, 10:50])


def test_noise_repeats_without_a_seam():
    x, y = np.meshgrid(np.linspace(-40, 40, 400, dtype=np.float32), np.float32([0.3, 0.7]))
    field = noise(x, y, 1.0, np.random.default_rng(1), 1)
    assert np.abs(np.diff(field, axis=1)).max() < 0.4


def test_even_noise_is_the_same_at_any_resolution():
    coarse = even_noise((60, 90), 20.0, np.random.default_rng(2), 2)
    fine = even_noise((240, 360), 80.0, np.random.default_rng(2), 2)
    reduced = cv2.resize(fine, (90, 60), interpolation=cv2.INTER_AREA)
    assert np.abs(reduced - coarse).max() < 0.02
    assert coarse.std() > 0.08


def test_two_colours_of_a_material_can_be_told_apart():
    rng = np.random.default_rng(5)
    for material in MATERIALS.values():
        for _ in range(5):
            one, other = two_colours(material.look, rng)
            assert np.abs(one - other).max() > 30
            assert min(one.min(), other.min()) >= 0


def test_colours_are_in_levels():
    assert colour(0, 1, 1).tolist() == [255, 0, 0]
    assert colour(480, 1, 0.5).tolist() == [0, 127.5, 0]
