"""Sprites: where they land, to a fraction of a pixel, and what stays untouched."""

from __future__ import annotations

import numpy as np
import pytest

from operators.nn.worlds.sprites import FINER, Sprite, box_around, paste, quantised, shade


def disc(radius_px: float, **looks) -> Sprite:
    side = 2 * int(np.ceil((radius_px + 1) * FINER))
    axis = (np.arange(side) - (side - 1) / 2) / FINER
    inside = (np.hypot(*np.meshgrid(axis, axis)) < radius_px).astype(np.float32)
    return Sprite(inside[..., None] * np.float32((200, 200, 200, 1)), **looks)


def arrow() -> Sprite:
    """A bar from the middle to the right."""
    image = np.zeros((48, 48, 4), np.float32)
    image[20:28, 24:44] = 250, 250, 250, 1
    return Sprite(image)


@pytest.mark.parametrize(("x", "y"), [(20.0, 20.0), (20.3, 19.6), (12.75, 27.5)])
def test_the_centroid_is_where_it_was_asked(x, y):
    frame = np.zeros((40, 40, 3), np.uint8)
    paste(frame, disc(6.0), (x, y, 0.4), None, 1)
    weight = frame[..., 0].astype(float)
    rows, columns = np.mgrid[:40, :40]
    assert (weight * columns).sum() / weight.sum() == pytest.approx(x, abs=0.03)
    assert (weight * rows).sum() / weight.sum() == pytest.approx(y, abs=0.03)
    assert weight.sum() / 200 == pytest.approx(np.pi * 36, rel=0.03)


def test_a_third_of_a_pixel_is_seen():
    frames = []
    for x in (20.0, 20.3):
        frame = np.full((40, 40, 3), 90, np.uint8)
        paste(frame, disc(6.0), (x, 20.0, 0.0), None, 1)
        frames.append(frame.astype(int))
    change = frames[1] - frames[0]
    assert change[:, 24:].max() > 15  # the right edge moves into new pixels,
    assert change[:, :16].min() < -15  # the left one out of some


def test_angles_go_counter_clockwise():
    for angle, row, column in ((0.0, 20, 27), (np.pi / 2, 13, 20), (np.pi, 20, 13)):
        frame = np.zeros((41, 41, 3), np.uint8)
        paste(frame, arrow(), (20.0, 20.0, angle), None, 1)
        assert frame[row, column, 0] > 200


def test_the_mask_is_what_is_more_than_half_covered():
    frame, mask = np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40), np.uint8)
    sprite = disc(7.0)
    thin = Sprite(sprite.image * np.float32(0.6), opacity=0.6)
    paste(frame, thin, (20.0, 20.0, 0.0), mask, 5)
    assert set(np.unique(mask)) == {0, 5}
    assert (mask == 5).sum() == pytest.approx(np.pi * 49, rel=0.08)


def test_gloss_lights_the_upper_left_and_slope_the_top():
    for looks in ({"gloss": 0.8}, {"slope": 0.5}):
        frame = np.zeros((40, 40, 3), np.uint8)
        paste(frame, disc(8.0, **looks), (20.0, 20.0, 2.0), None, 1)
        assert frame[16, 18, 0] > frame[24, 22, 0] + 10


@pytest.mark.parametrize(("x", "y"), [(-30, 20), (20, 90), (100, -50)])
def test_what_is_outside_changes_nothing(x, y):
    frame = np.full((40, 40, 3), 7, np.uint8)
    paste(frame, disc(6.0), (x, y, 0.0), None, 1)
    shade(frame, (x, y), (3.0, 3.0), 0.5)
    assert np.all(frame == 7)
    assert box_around(frame, (x, y), (2, 2)) is None


def test_edges_cut_a_sprite():
    frame = np.zeros((40, 40, 3), np.uint8)
    paste(frame, disc(6.0), (0.0, 39.0, 0.0), None, 1)
    assert frame[..., 0].sum() / 200 == pytest.approx(np.pi * 36 / 4 + 6 + 0.25, rel=0.05)


def test_a_shadow_darkens_its_middle_by_its_depth():
    frame = np.full((60, 60, 3), 200, np.uint8)
    shade(frame, (30.0, 30.0), (5.0, 2.0), 0.4)
    assert frame[30, 30, 0] == 120
    assert frame[30, 35, 0] == pytest.approx(200 * (1 - 0.4 * np.exp(-0.5)), abs=1)
    assert frame[32, 30, 0] == frame[30, 35, 0]
    assert frame[30, 50, 0] == 200


def test_levels_are_rounded_and_clipped():
    assert quantised(np.float32([-3, 0.4, 0.6, 254.6, 300])).tolist() == [0, 0, 1, 255, 255]
