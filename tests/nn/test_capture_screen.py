"""Replays: the grid's frequency where the camera samples it, gamma, black, bands, glare."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from operators.nn.capture import camera as cameras
from operators.nn.capture import dots, geometry, screen
from operators.nn.capture.geometry import Face, FramingParameters, Pose, View
from operators.nn.capture.light import REC709, to_linear
from operators.nn.capture.scene import sample

POINTS = np.array([(80, 100), (140, 100), (110, 134), (85, 168), (135, 168)], float)
WHITE = Face.of(np.full((220, 220, 3), 255, np.uint8), POINTS)
SENSOR_PX = 180
CAMERA = replace(
    sample("replay", 0, "train").camera, lens_sigma_px=0.36, defocus_px=0.0, fill_factor=0.85
)
SHOWN = replace(
    sample("replay", 0, "train", "monitor").attack,
    yaw_deg=0.0, pitch_deg=0.0, margin_x=9.0, margin_y=9.0, layout="rgb_stripe", turned=False,
    pwm_depth=0.0, thumb=False,
)  # fmt: skip


def seen_grid(period_px: float, roll_deg: float, **changes) -> tuple[np.ndarray, np.ndarray]:
    """(picture [n, n, 3] on the sensor, waves per sensor pixel along the panel's rows [2])."""
    view = View.of(WHITE, FramingParameters(roll_deg, 1.0, 0.0, 0.0), SENSOR_PX)
    panel = geometry.surface(WHITE, view, Pose(0, 0, 8), 30.0)
    shown = replace(SHOWN, pitch_mm=period_px * panel.mm_per_sensor_px, **changes)
    picture = cameras.optics(screen.grid(panel, shown), CAMERA)
    angle = math.radians(roll_deg)
    return picture, np.array([math.cos(angle), -math.sin(angle)]) / period_px


def peak(plane: np.ndarray) -> np.ndarray:
    """[2] waves per pixel (x, y) of the strongest one, in -0.5 to 0.5."""
    window = np.hanning(len(plane))
    spectrum = np.abs(np.fft.fft2((plane - plane.mean()) * window[:, None] * window[None]))
    row, column = np.unravel_index(spectrum.argmax(), spectrum.shape)
    return np.array([np.fft.fftfreq(len(plane))[column], np.fft.fftfreq(len(plane))[row]])


@pytest.mark.parametrize("roll_deg", [0.0, 4.0])
@pytest.mark.parametrize("period_px", [2.7, 1.12, 0.9])
def test_the_grid_peaks_where_pitch_and_sampling_say(period_px, roll_deg):
    """Also where it folds: 1.12 and 0.9 px are beyond the sensor's limit, what is seen is moire."""
    picture, wave = seen_grid(period_px, roll_deg)
    folded = wave - np.rint(wave)
    found = peak(picture[..., 0])
    near = min(np.abs(found - folded).max(), np.abs(found + folded).max())
    assert near <= 1 / SENSOR_PX
    assert picture[..., 0].std() > 1e-4


def test_too_fine_a_grid_is_an_even_light():
    assert seen_grid(0.3, 2.0)[0].std() < 1e-4
    coarse, fine = (seen_grid(period, 2.0)[0].std() for period in (3.0, 0.9))
    assert coarse > 5 * fine


def test_colours_stand_beside_each_other_in_the_order_of_the_layout():
    for layout, order in (("rgb_stripe", 1), ("bgr_stripe", -1)):
        tile = dots.panel_tile(layout, 0.6, 0.05)
        middles = [np.angle(np.fft.fft(tile[..., colour].mean(axis=0))[1]) for colour in range(3)]
        step = (middles[0] - middles[1]) / (2 * math.pi) * 3
        assert (step * order + 1.5) % 3 - 1.5 == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("layout", dots.LAYOUTS)
def test_panels_keep_their_light_and_lit_share(layout):
    bare = dots.panel_tile(layout, 0.5, 0.0)
    assert np.allclose(bare.mean(axis=(0, 1)), 1, atol=1e-5)
    assert (bare < 1e-3).mean() > 0.4  # dark between sub-pixels
    assert dots.panel_tile(layout, 0.5, 3.0).std() < 1e-3
    with pytest.raises(ValueError, match="layout"):
        dots.panel_tile("quad", 0.5, 0.1)


def test_diamonds_have_a_green_at_every_pixel_and_red_at_every_second():
    tile = dots.panel_tile("rgbg_diamond", 0.5, 0.0)
    red, green, blue = (np.abs(np.fft.fft2(tile[..., colour])) for colour in range(3))
    assert green[0, 2] > 10 * green[1, 1]  # one period a pixel
    assert red[1, 1] > 0.3 * red[0, 0]  # a chequer of two pixels
    assert np.allclose(np.roll(tile[..., 0], 32, axis=1), tile[..., 2], atol=1e-4)
    assert blue[1, 1] > 0.3 * blue[0, 0]


def test_a_turned_panel_has_its_stripes_across():
    picture, _ = seen_grid(2.7, 0.0, turned=True)
    found = np.abs(peak(picture[..., 0]))
    assert found[0] == 0
    assert found[1] == pytest.approx(1 / 2.7, abs=1 / SENSOR_PX)


def test_gamma_black_and_white_point():
    shown = replace(SHOWN, gamma=2.4, contrast=300.0, saturation=1.0, white_kelvin=9300.0)
    codes = np.array([0, 64, 128, 255], np.uint8)
    linear = to_linear(np.repeat(codes[None, :, None], 3, axis=2))
    light = screen.panel_light(linear, shown)[0]
    expected = 1 / 300 + (1 - 1 / 300) * (codes / 255) ** 2.4
    assert np.allclose(light @ REC709, expected, rtol=2e-3)
    assert light[-1][2] > 1.05 * light[-1][0]
    deeper = screen.panel_light(linear, replace(shown, contrast=2000.0))[0]
    assert deeper[0].max() < 0.2 * light[0].max()


def test_saturation_draws_colours_to_white_or_away():
    colour = np.array([[[0.5, 0.2, 0.1]]], np.float32)
    spreads = [
        np.ptp(screen.panel_light(colour, replace(SHOWN, saturation=s, white_kelvin=6504.0)))
        for s in (0.75, 1.0, 1.2)
    ]
    assert spreads[0] < spreads[1] < spreads[2]


def test_bands_follow_the_backlight_and_the_shutter():
    shown = replace(SHOWN, pwm_hz=240.0, duty=0.5, pwm_depth=1.0, pwm_phase=0.0)
    whole = screen.scan_bands(shown, 400, 25.0, 1000 / 240)  # exposure of one period: none
    assert np.ptp(whole) < 1e-3
    short = screen.scan_bands(shown, 400, 25.0, 0.5)
    assert np.abs(np.fft.rfft(short - short.mean())).argmax() == 6  # 240 Hz for 25 ms
    assert short.max() == pytest.approx(2, abs=1e-3)  # all of the light in half of the time
    assert short.min() == pytest.approx(0, abs=1e-3)
    assert short.mean() == pytest.approx(1, abs=0.02)
    half = screen.scan_bands(replace(shown, pwm_depth=0.3), 400, 25.0, 0.5)
    assert half.min() == pytest.approx(0.7, abs=1e-3)


def test_glare_shows_the_lamp_where_it_is_and_adds_light_to_black():
    view = View.of(WHITE, FramingParameters(0.0, 1.0, 0.0, 0.0), 100)
    shown = replace(SHOWN, lamp_x=0.5, lamp_y=-0.5, lamp_size=0.2, haze=0.01, reflectance=0.04,
                    lamp_luminance=10.0)  # fmt: skip
    mirror = screen.glare(WHITE, view, shown) @ REC709
    row, column = np.unravel_index(mirror.argmax(), mirror.shape)
    assert 200 < column < 250
    assert 50 < row < 100
    assert mirror.max() == pytest.approx(0.04 * 10, rel=0.15)
    hazy = screen.glare(WHITE, view, replace(shown, haze=0.25)) @ REC709
    assert hazy.max() < 0.7 * mirror.max()
    assert mirror.min() > 0


def test_the_bezel_and_a_thumb_give_no_light():
    view = View.of(WHITE, FramingParameters(0.0, 1.0, 0.0, 0.0), 120)
    close = replace(SHOWN, margin_x=1.4, margin_y=1.8, eye_distance_mm=15.0, bezel_mm=5.0)
    layers, _ = screen.render(WHITE, view, close, CAMERA)
    assert layers.emitted[180, 180].min() > 0.1
    assert layers.emitted[180, 3].max() == 0
    covers = []
    for backdrop in range(6):  # it is held here and there, not always in view
        by_hand = replace(close, thumb=True, bezel_mm=1.5, backdrop=backdrop)
        held, _ = screen.render(WHITE, view, by_hand, CAMERA)
        covered = (layers.emitted.max(axis=2) > 0.1) & (held.emitted.max(axis=2) < 1e-6)
        covers.append(float(covered.mean()))
        assert covers[-1] < 0.1
        if covers[-1] > 1e-3:
            assert held.reflected[covered].mean() > 0.05  # the thumb itself
    assert max(covers) > 1e-3
