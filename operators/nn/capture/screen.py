"""A face replayed on a panel: sub-pixels, gamma, black level, white, glare, scan bands, bezel.

The camera meets the panel's own grid of sub-pixels and samples it; moire is what comes of that.
Sources: IEC 61966-2-1 and ITU-R BT.1886 (signal to light), IEC 61747-30 (contrast, aperture ratio),
Fresnel's equations (4 % from glass of n = 1.5), pulse-width modulated backlights (IEEE 1789-2015)
under a rolling shutter, product sheets of phones to monitors for pitch and bezel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from operators.nn.capture import dots, surround
from operators.nn.capture.camera import CameraParameters
from operators.nn.capture.geometry import PREFILTER_PX, Face, Pose, Surface, View, surface
from operators.nn.capture.light import F32, F64, REC709, kelvin_rgb, to_srgb
from operators.nn.capture.pixels import as_f32, over, plus, times
from operators.nn.capture.ranges import Choice, Drawn, Range, drawn
from operators.nn.capture.surround import Layers

SUBKINDS = ("phone", "tablet", "laptop", "monitor")
LCD = ("rgb_stripe", "rgb_stripe", "bgr_stripe")


@dataclass(frozen=True)
class ScreenParameters:
    """A panel, what it shows and how it is held."""

    subkind: str
    pitch_mm: float = drawn(Range(0.055, 0.16, "mm", "phones of 460 to 160 per inch", log=True))
    eye_distance_mm: float = drawn(
        Range(7, 20, "mm", "portrait or window on 4 to 6.5 inches", log=True)
    )
    layout: str = drawn(Choice((*LCD, "rgbg_diamond", "rgbg_diamond"), "LCD and OLED panels"))
    turned: bool = drawn(Choice((False, False, True), "held upright or on its side"))
    fill: float = drawn(Range(0.4, 0.8, "1", "aperture ratio of LCD and OLED"))
    gamma: float = drawn(Range(1.8, 2.6, "1", "BT.1886 2.4, sRGB 2.2, presets"))
    contrast: float = drawn(
        Range(150, 2000, "1", "white by black, IEC 61747-30; TN low, IPS and VA high", log=True)
    )  # fmt: skip
    saturation: float = drawn(
        Range(0.72, 1.2, "1", "chroma by sRGB's: 45 % NTSC panels to vivid presets")
    )
    white_kelvin: float = drawn(Range(5800, 10500, "K", "warm preset to bluish 9300 K", log=True))
    luminance: float = drawn(
        Range(0.8, 5.0, "white", "panel 100 to 500 cd/m2, room's white 60 to 200 cd/m2", log=True)
    )
    reflectance: float = drawn(
        Range(0.004, 0.05, "1", "Fresnel: 0.043 bare glass, 0.005 coated", log=True)
    )
    lamp_luminance: float = drawn(
        Range(3, 40, "white", "window or luminaire in the mirror image", log=True)
    )
    lamp_x: float = drawn(Range(-1.2, 1.2, "crop", "its place, free", held_out=False))
    lamp_y: float = drawn(Range(-1.2, 0.8, "crop", "its place, free", held_out=False))
    lamp_size: float = drawn(Range(0.08, 0.5, "crop", "its half side"))
    haze: float = drawn(Range(0.004, 0.12, "crop", "blur of the mirror image: glossy to matte",
                              log=True))  # fmt: skip
    pwm_hz: float = drawn(
        Range(60, 480, "Hz", "refresh of the panel (60 to 120) or its dimming (180 up)", log=True)
    )
    pwm_depth: float = drawn(
        Range(0.05, 0.7, "1", "share of light that is switched; phosphors and smoothing keep on",
              log=True)
    )  # fmt: skip
    duty: float = drawn(Range(0.35, 1.0, "1", "lit share of a period: dimmed to full"))
    pwm_phase: float = drawn(Range(0, 1, "period", "free", held_out=False))
    yaw_deg: float = drawn(Range(-14, 14, "deg", "held by hand or stood"))
    pitch_deg: float = drawn(Range(-12, 12, "deg", "held by hand or stood"))
    distance: float = drawn(Range(5, 12, "eye distances", "camera to panel"))
    margin_x: float = drawn(Range(1.3, 4.0, "eye distances", "face's middle to side edges"))
    margin_y: float = drawn(Range(1.7, 4.5, "eye distances", "face's middle to top and bottom"))
    bezel_mm: float = drawn(Range(1.5, 8.0, "mm", "frame around the lit area", log=True))
    bezel_grey: float = drawn(Range(0.01, 0.5, "1", "reflectance: black to silver", log=True))
    thumb: bool = drawn(Choice((True, False), "held at an edge, or on a stand"))
    backdrop: int = drawn(Choice(tuple(range(64)), "seed of what is behind"))


NARROWED: Mapping[str, Mapping[str, Drawn]] = {
    "phone": {},
    "tablet": {
        "pitch_mm": Range(0.09, 0.2, "mm", "tablets of 282 to 127 per inch", log=True),
        "eye_distance_mm": Range(8, 28, "mm", "portrait or window on 8 to 11 inches", log=True),
        "layout": Choice(LCD, "LCD"),
        "bezel_mm": Range(6, 22, "mm", "frame of a tablet", log=True),
    },
    "laptop": {
        "pitch_mm": Range(0.11, 0.265, "mm", "laptops of 230 to 96 per inch", log=True),
        "eye_distance_mm": Range(9, 32, "mm", "window of a call or larger", log=True),
        "layout": Choice(LCD, "LCD"),
        "turned": Choice((False,), "stands"),
        "thumb": Choice((False,), "stands"),
        "bezel_mm": Range(4, 20, "mm", "frame of a laptop", log=True),
        "haze": Range(0.01, 0.2, "crop", "many are matte", log=True),
    },
    "monitor": {
        "pitch_mm": Range(0.155, 0.31, "mm", "monitors of 163 to 82 per inch", log=True),
        "eye_distance_mm": Range(10, 38, "mm", "window of a call or larger", log=True),
        "layout": Choice(LCD, "LCD"),
        "turned": Choice((False,), "stands"),
        "thumb": Choice((False,), "stands"),
        "bezel_mm": Range(6, 28, "mm", "frame of a monitor", log=True),
        "haze": Range(0.02, 0.25, "crop", "most are matte", log=True),
        "reflectance": Range(0.004, 0.025, "1", "matte or coated", log=True),
    },
}


def render(
    face: Face, view: View, shown: ScreenParameters, camera: CameraParameters
) -> tuple[Layers, Surface]:
    """The panel before its surroundings; radiance with diffuse white in room light = 1."""
    pose = Pose(shown.yaw_deg, shown.pitch_deg, shown.distance)
    panel = surface(face, view, pose, shown.eye_distance_mm)
    content = panel.show(face, panel_light(face.linear, shown))
    light = as_f32(cv2.multiply(content, grid(panel, shown), content))
    bands = scan_bands(shown, view.count, camera.readout_ms, camera.exposure_ms)
    half_x, half_y = _half_sides(shown)
    lit_area = surround.box_cover(panel, (-half_x, -half_y, half_x, half_y))
    device = _before_backdrop(face, view, panel, shown, lit_area)
    if shown.thumb:
        edge = (half_x + shown.bezel_mm, half_y + shown.bezel_mm)
        device, held = surround.thumb(face, panel, device, edge, shown.backdrop)
        lit_area = lit_area * (1 - held)
    light = times(light, lit_area * (np.float32(shown.luminance) * bands)[:, None])
    return Layers(device, light), panel


def panel_light(linear: F32, shown: ScreenParameters) -> F32:
    """[H, W, 3] linear source -> linear light of the panel, its white's luminance = 1.

    Signal to the power of gamma above the black level; primaries drawn towards white or away;
    tinted by the panel's white point.
    """
    black = np.float32(1 / shown.contrast)
    light = black + (1 - black) * to_srgb(linear) ** np.float32(shown.gamma)
    grey = as_f32(light @ REC709)[..., None]
    light = np.maximum(grey + np.float32(shown.saturation) * (light - grey), 0)
    return as_f32(light * white_of(shown))


def white_of(shown: ScreenParameters) -> F32:
    """[3] the panel's white, luminance 1."""
    white = kelvin_rgb(shown.white_kelvin)
    return as_f32(white / float(REC709 @ white))


def grid(panel: Surface, shown: ScreenParameters) -> F32:
    """[n, n, 3] the sub-pixels where the view meets them, each colour about 1."""
    sigma_pixels = PREFILTER_PX * panel.mm_per_sensor_px / shown.pitch_mm
    tile = dots.panel_tile(shown.layout, shown.fill, sigma_pixels)
    across = np.float32(1 / (shown.pitch_mm * dots.PANEL_SPAN[shown.layout]))
    u, v = panel.x_mm * across, panel.y_mm * across
    return dots.tiled(tile, v, u) if shown.turned else dots.tiled(tile, u, v)


def scan_bands(shown: ScreenParameters, rows: int, readout_ms: float, exposure_ms: float) -> F32:
    """[rows] light of each row by the mean: a square wave of the lit part of every period,
    integrated exactly over that row's exposure."""
    begin = np.arange(rows) / rows * readout_ms * 1e-3 * shown.pwm_hz + shown.pwm_phase
    length = exposure_ms * 1e-3 * shown.pwm_hz
    lit = _lit_until(begin + length, shown.duty) - _lit_until(begin, shown.duty)
    switched = lit / (length * shown.duty)
    return as_f32(1 + shown.pwm_depth * (switched - 1))


def _lit_until(periods: F64, duty: float) -> F64:
    """[N] periods lit since 0."""
    whole = np.floor(periods)
    lit: F64 = whole * duty + np.minimum(periods - whole, duty)
    return lit


def _half_sides(shown: ScreenParameters) -> tuple[float, float]:
    return shown.margin_x * shown.eye_distance_mm, shown.margin_y * shown.eye_distance_mm


def _before_backdrop(
    face: Face, view: View, panel: Surface, shown: ScreenParameters, lit_area: F32
) -> F32:
    """[n, n, 3] what the dark panel throws back, its bezel, and what is around it."""
    device = plus(glare(face, view, shown), np.float32(shown.bezel_grey) * (1 - lit_area))
    half_x, half_y = (side + shown.bezel_mm for side in _half_sides(shown))
    cover = surround.box_cover(panel, (-half_x, -half_y, half_x, half_y))
    if float(cover.min()) < 1:
        device = over(surround.backdrop(face, view, shown.backdrop, cover), device, cover)
    return device


def glare(face: Face, view: View, shown: ScreenParameters) -> F32:
    """[n, n, 3] mirror image of the room and of a lamp in it, blurred by the surface."""
    small = 96
    side = np.linspace(-1, 1, small, dtype=np.float32)
    off_x, off_y = np.abs(side - np.float32(shown.lamp_x)), np.abs(side - np.float32(shown.lamp_y))
    inside = np.minimum(shown.lamp_size - off_x[None], shown.lamp_size - off_y[:, None])
    lamp = np.clip(inside * np.float32(small / 2) + np.float32(0.5), 0, 1)
    sigma = max(shown.haze * small / 2, 0.4)
    lamp = as_f32(cv2.GaussianBlur(as_f32(lamp), (0, 0), sigma))
    far = surround.room(face, shown.backdrop + 64)[:, ::-1]
    mirror = as_f32(cv2.resize(as_f32(far), (small, small), interpolation=cv2.INTER_CUBIC))
    mirror = np.float32(shown.reflectance) * (
        mirror + np.float32(shown.lamp_luminance) * lamp[..., None]
    )
    size = (view.count, view.count)
    return as_f32(cv2.resize(mirror, size, interpolation=cv2.INTER_LINEAR))
