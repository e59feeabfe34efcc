"""Light: the sRGB curve, lamps, white balance and flicker under a rolling shutter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from operators.nn.capture.light import (
    balance,
    kelvin_rgb,
    lamp_field,
    to_linear,
    to_srgb,
)
from operators.nn.capture.scene import sample

STILL = replace(sample("bonafide", 0, "train").light, gradient=0.0, flicker_phase=0.0)


def test_every_code_survives_linear_light():
    codes = np.arange(256, dtype=np.uint8)
    linear = to_linear(codes)
    assert linear.dtype == np.float32
    assert linear[0] == 0
    assert linear[255] == 1
    assert abs(linear[118] - 0.18) < 0.003  # mid grey of photography
    assert np.array_equal(np.rint(to_srgb(linear) * 255), codes)
    assert to_srgb(np.float32([-1, 2])).tolist() == pytest.approx([0, 1])


def test_lamps_are_coloured_as_black_bodies_are():
    assert np.allclose(kelvin_rgb(6504), 1, atol=1e-6)
    warm, cold = kelvin_rgb(2856), kelvin_rgb(9300)
    assert warm[0] > 1.5
    assert warm[2] < 0.45  # illuminant A: CIE 15 gives 0.28 to 0.36 in such spaces
    assert cold[2] > 1.1
    assert cold[0] < 0.95
    reds = [float(kelvin_rgb(kelvin)[0]) for kelvin in range(2500, 10000, 500)]
    assert reds == sorted(reds, reverse=True)
    with pytest.raises(ValueError, match="locus"):
        kelvin_rgb(1000)


def test_whole_white_balance_makes_the_lamp_grey():
    lamp = kelvin_rgb(3000)
    balanced = lamp * balance(lamp, 1.0)
    assert np.allclose(balanced, balanced[0], rtol=1e-5)
    assert balance(lamp, 1.0).min() == pytest.approx(1)  # what clips stays white
    half = lamp * balance(lamp, 0.5)
    assert half[0] > half[1] > half[2]


def test_flicker_is_averaged_over_whole_periods_and_seen_in_short_ones():
    light = replace(STILL, flicker_depth=0.2, flicker_hz=100.0)
    whole = lamp_field(light, 200, 20.0, 10.0)  # an exposure of one period
    assert np.ptp(whole) < 1e-4
    short = lamp_field(light, 200, 20.0, 1.0)[:, 0]  # two periods while the rows are read
    assert np.abs(np.fft.rfft(short - short.mean())).argmax() == 2
    expected = 0.2 * np.sinc(0.1)
    assert short.max() - 1 == pytest.approx(expected, rel=0.01)


def test_a_lamp_near_by_lights_one_side_more():
    light = replace(STILL, gradient=0.3, azimuth_deg=0.0, flicker_depth=0.0)
    field = lamp_field(light, 50, 10.0, 10.0)
    assert field[:, -1].mean() == pytest.approx(1.3, abs=1e-3)
    assert field[:, 0].mean() == pytest.approx(0.7, abs=1e-3)


def test_the_lamp_is_in_front_of_the_face():
    for seed in range(20):
        direction = np.array(sample("mask3d", seed, "train").light.direction())
        assert np.linalg.norm(direction) == pytest.approx(1)
        assert direction[2] > 0.4
