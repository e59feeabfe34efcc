"""Prints: the screen's frequency and angle, dots, gamut, paper, the bent sheet."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import ConvexHull

from operators.nn.capture import camera as cameras
from operators.nn.capture import dots, geometry
from operators.nn.capture import print as prints
from operators.nn.capture.geometry import Face, FramingParameters, Pose, View
from operators.nn.capture.light import REC709
from operators.nn.capture.scene import sample

POINTS = np.array([(80, 100), (140, 100), (110, 134), (85, 168), (135, 168)], float)
STRAIGHT = FramingParameters(0.0, 1.0, 0.0, 0.0)
MADE = replace(
    sample("print", 1, "train", "laser").attack,
    yaw_deg=0.0, pitch_deg=0.0, margin_x=9.0, margin_y=9.0, misregister_mm=0.0, thumb=False,
    fibre=1e-6, dot_gain=0.0, gloss=0.0,
)  # fmt: skip


def grey(level: int = 128) -> Face:
    return Face.of(np.full((220, 220, 3), level, np.uint8), POINTS)


def facing(face: Face, view: View, eye_distance_mm: float) -> geometry.Surface:
    return geometry.surface(face, view, Pose(0, 0, 8), eye_distance_mm)


def peak(picture: np.ndarray) -> tuple[float, float]:
    """(frequency, angle in degrees) of the strongest wave, cycles per pixel, windowed."""
    side = picture.shape[0]
    window = np.hanning(side)
    spectrum = np.abs(np.fft.fft2((picture - picture.mean()) * window[:, None] * window[None]))
    row, column = np.unravel_index(spectrum.argmax(), spectrum.shape)
    fy, fx = np.fft.fftfreq(side)[row], np.fft.fftfreq(side)[column]
    return math.hypot(fx, fy), math.degrees(math.atan2(fy, fx))


@pytest.mark.parametrize("ink", range(4))
@pytest.mark.parametrize("lpi", [45.0, 75.0])
def test_each_ink_has_its_screen_and_angle(lpi, ink):
    face = grey()
    view = View.of(face, STRAIGHT, 160)
    sheet = facing(face, view, 20.0)
    made = replace(MADE, lpi=lpi)
    plates = prints.Separation(np.full((220, 220, 4), 0.4, np.float32), np.zeros((4, 2)))
    inks = prints.dotted(face, sheet, plates, prints.pattern_of(sheet, made), made)
    frequency, angle = peak(inks[ink])
    mm_per_px = sheet.mm_per_sensor_px / geometry.OVERSAMPLING
    assert frequency == pytest.approx(lpi / 25.4 * mm_per_px, abs=1 / view.count)
    off = (angle - prints.ANGLES_DEG[ink] + 45) % 90 - 45  # a square screen: every 90 degrees
    assert abs(off) < 2
    assert inks[ink].mean() == pytest.approx(0.4, abs=0.01)


def test_the_camera_sees_the_black_screen_at_its_frequency():
    """Grey is printed black (gcr 1, strong under-colour removal): 45 degrees through the lens."""
    face = grey(70)
    view = View.of(face, STRAIGHT, 200)
    made = replace(MADE, lpi=60.0, gcr=1.0, eye_distance_mm=14.0, curl_radius_mm=1e6)
    light = sample("print", 1, "train").light
    layers, sheet = prints.render(face, view, made, light, np.random.default_rng(0))
    camera = replace(sample("print", 0, "train").camera, defocus_px=0.0, lens_sigma_px=0.4)
    seen = cameras.optics(layers.reflected, camera) @ REC709
    frequency, angle = peak(seen)
    assert frequency == pytest.approx(60 / 25.4 * sheet.mm_per_sensor_px, abs=1.5 / 200)
    assert abs(angle) % 90 == pytest.approx(45, abs=2)


@pytest.mark.parametrize("table", [dots.am_table(0.2), dots.fm_table(0.5)])
def test_dots_cover_what_they_should(table):
    shares = table.mean(axis=(1, 2))
    assert np.allclose(shares, np.linspace(0, 1, len(shares)), atol=2e-3)
    assert np.ptp(table[len(table) // 2]) > 0.3
    assert dots.am_table(5.0)[48].std() < 1e-3  # far finer than a pixel: a flat grey


def test_stochastic_dots_are_blue_noise():
    ranks = dots.blue_noise_ranks()
    assert np.array_equal(np.sort(ranks.ravel()), np.arange(ranks.size))
    pattern = (ranks < ranks.size // 2).astype(float)
    power = np.abs(np.fft.fft2(pattern - pattern.mean())) ** 2
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(32), np.fft.fftfreq(32)))
    low, high = power[(radius > 0) & (radius < 0.15)].mean(), power[radius > 0.3].mean()
    assert low < 0.05 * high


@pytest.mark.parametrize("subkind", prints.SUBKINDS)
def test_a_print_has_less_gamut_than_its_source(subkind):
    rng = np.random.default_rng(6)
    colours = np.concatenate([rng.random((400, 3)), np.indices((2, 2, 2)).reshape(3, -1).T])
    linear = colours.astype(np.float32)[None]
    for seed in range(4):
        made = sample("print", seed, "train", subkind).attack
        inks = np.moveaxis(prints.separate(linear, made), -1, 0)
        paper = prints.neugebauer(list(inks), made)[0]
        assert ConvexHull(paper).volume < 0.5 * ConvexHull(colours).volume
        chroma = [np.ptp(each, axis=1).max() for each in (paper, colours)]
        assert chroma[0] < 0.9 * chroma[1]
        assert paper.min() >= 0


def test_prints_keep_order_and_hue_of_plain_colours():
    ramp = np.linspace(0, 1, 9, dtype=np.float32)[None, :, None] * np.ones(3, np.float32)
    inks = np.moveaxis(prints.separate(ramp, MADE), -1, 0)
    printed = prints.neugebauer(list(inks), MADE)[0]
    assert (np.diff(printed @ REC709) > 0).all()
    assert np.ptp(printed[1:] / printed[1:].max(axis=1, keepdims=True), axis=1).max() < 0.25
    skin = np.array([[[0.6, 0.35, 0.25]]], np.float32)
    brown = prints.neugebauer(list(np.moveaxis(prints.separate(skin, MADE), -1, 0)), MADE)[0, 0]
    assert brown[0] > brown[1] > brown[2]


def test_solids_are_those_of_the_standard():
    cyan, magenta, yellow, black = prints._solids()
    assert cyan[0] < 0.05
    assert cyan[2] > 0.4
    assert magenta[1] < 0.06
    assert yellow[2] < 0.05
    assert yellow[0] > 0.85
    assert black.max() < 0.035
    assert np.allclose(prints.lab_to_linear((100, 0, 0)), 1, atol=2e-3)


def test_more_dot_gain_darkens_and_mottle_follows_its_figure():
    linear = np.full((1, 1, 3), 0.3, np.float32)
    sums = [prints.separate(linear, replace(MADE, dot_gain=gain)).sum() for gain in (0.0, 0.15)]
    assert sums[1] > sums[0] + 0.1
    face = grey()
    sheet = facing(face, View.of(face, STRAIGHT, 150), 15.0)
    spread = [
        prints.paper_grain(sheet, replace(MADE, fibre=fibre), np.random.default_rng(0)).std()
        for fibre in (0.005, 0.02)
    ]
    assert spread[1] == pytest.approx(4 * spread[0], rel=1e-3)
    assert 0.2 * 0.02 < spread[1] < 1.2 * 0.02


def test_a_bent_sheet_keeps_its_lengths():
    """Along the bend a cylinder of radius R shows R sin(s / R) of every arc s, and less light."""
    face = grey()
    view = View.of(face, STRAIGHT, 150)
    bent = geometry.surface(face, view, Pose(0, 0, 1e4, 1 / 60, 0.0), 20.0)
    flat = geometry.surface(face, view, Pose(0, 0, 1e4), 20.0)
    row = view.count // 2
    seen, arc = flat.x_mm[row], bent.x_mm[row]
    middle = np.abs(seen) < 25
    assert np.allclose(seen[middle], 60 * np.sin(arc[middle] / 60), atol=0.15)
    assert np.allclose(bent.y_mm[:, row], flat.y_mm[:, row], atol=0.02)


def test_a_turned_sheet_is_smaller_on_the_side_that_is_away():
    face = grey()
    view = View.of(face, STRAIGHT, 100)
    turned = geometry.surface(face, view, Pose(20, 0, 6), 63.0)
    row, middle = view.count // 2, view.count // 2
    left = turned.x_mm[row, middle] - turned.x_mm[row, middle - 60]
    right = turned.x_mm[row, middle + 60] - turned.x_mm[row, middle]
    assert right > left > 0  # the same part of the view holds more of what is further away
    x, y = turned.source_xy(face)
    found = geometry.locate(x, y, POINTS, view.place(POINTS), view.matrix)
    at = np.rint(found).astype(int)
    assert np.abs(x[at[:, 1], at[:, 0]] - POINTS[:, 0]).max() < 1
    assert np.abs(y[at[:, 1], at[:, 0]] - POINTS[:, 1]).max() < 1


def test_gloss_is_brightest_at_the_half_vector_and_grows():
    face = grey()
    sheet = facing(face, View.of(face, STRAIGHT, 100), 40.0)
    made = replace(MADE, gloss=0.4, gloss_width_deg=2.0, gloss_x_deg=2.0, gloss_y_deg=0.0)
    lobe = prints.highlight(sheet, made)
    assert lobe.max() == pytest.approx(0.4, rel=0.01)
    _, column = np.unravel_index(lobe.argmax(), lobe.shape)
    assert column > 160
    areas = [
        float((prints.highlight(sheet, replace(made, gloss=gloss)) > 0.1).mean())
        for gloss in (0.15, 0.3, 0.6)
    ]
    assert areas[0] < areas[1] < areas[2]


def test_paper_edges_border_and_thumb_are_seen():
    face = grey(200)
    view = View.of(face, STRAIGHT, 120)
    light = sample("print", 1, "train").light
    close = replace(MADE, margin_x=1.3, margin_y=1.6, border_mm=2.0, curl_radius_mm=1e6)
    layers = [
        prints.render(face, view, made, light, np.random.default_rng(0))[0].reflected
        for made in (MADE, close, replace(close, thumb=True))
    ]
    inside = np.abs(layers[0] - layers[1]).max(axis=2) < 0.05
    assert inside[180, 180]
    assert not inside[180, 2]  # beyond the edge
    held = np.abs(layers[1] - layers[2]).max(axis=2) > 0.02
    assert 0.002 < held.mean() < 0.3
