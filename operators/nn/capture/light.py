"""Light: sRGB and linear light, the colour of lamps, mains flicker under a rolling shutter.

Sources: IEC 61966-2-1 (sRGB transfer); Kim, Moon and others, US patent 7024034 (2006), the cubic
fit of the Planckian locus from 1667 to 25000 K that most tools use; von Kries adaptation (1902).
Inferred, ours: adaptation is done in linear sRGB itself, not in cone space: a camera's raw gains
act per colour channel as well, and a face crop says nothing about the sensor's own primaries.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from operators.nn.capture.ranges import Choice, Range, drawn

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
REC709 = np.array([0.2126, 0.7152, 0.0722], np.float32)  # luminance of linear sRGB
XYZ_TO_RGB: F64 = np.array(
    [(3.2406, -1.5372, -0.4986), (-0.9689, 1.8758, 0.0415), (0.0557, -0.2040, 1.0570)]
)  # IEC 61966-2-1, D65
KELVIN_LIMITS = (1667.0, 25000.0)
D65_KELVIN = 6504.0
DARKEST_CHANNEL = 0.02  # of a lamp's colour: warm lamps lie outside sRGB, and gains divide by it


@dataclass(frozen=True)
class LightParameters:
    """The lamp of the room; one distribution for every kind of capture."""

    kelvin: float = drawn(Range(2700, 7500, "K", "CIE 15: lamps F12 to daylight D75", log=True))
    azimuth_deg: float = drawn(
        Range(-180, 180, "deg", "where the lamp is, from the right, down", held_out=False)
    )
    elevation_deg: float = drawn(
        Range(25, 75, "deg", "of the lamp over the face's plane; 90 is the camera's own place")
    )
    ambient: float = drawn(
        Range(0.2, 0.55, "1", "share of light from everywhere: walls reflect 0.3 to 0.7 of it")
    )
    gradient: float = drawn(
        Range(0.0, 0.35, "1", "inverse square law: change over half a crop, lamp 0.5 to 3 m away")
    )
    flicker_depth: float = drawn(
        Range(0.0, 0.25, "1", "IEEE 1789-2015: modulation of mains lamps, most below 0.25")
    )
    flicker_hz: float = drawn(Choice((100.0, 120.0), "twice the mains frequency"))
    flicker_phase: float = drawn(Range(0.0, 1.0, "period", "free", held_out=False))
    awb: float = drawn(
        Range(0.65, 1.0, "1", "share of the lamp's colour that white balance removes: incomplete")
    )

    def direction(self) -> tuple[float, float, float]:
        """Unit vector to the lamp: x right, y down, z to the camera."""
        azimuth, elevation = math.radians(self.azimuth_deg), math.radians(self.elevation_deg)
        flat = math.cos(elevation)
        return flat * math.cos(azimuth), flat * math.sin(azimuth), math.sin(elevation)


def to_linear(rgb: U8) -> F32:
    """[...] sRGB uint8 -> linear light, float32 in [0, 1]."""
    return _linear_table()[rgb]


def to_srgb(linear: F32) -> F32:
    """[...] linear light -> sRGB signal, float32 in [0, 1]; what lies outside is clipped."""
    clipped = np.clip(linear, 0, 1)
    encoded = np.where(
        clipped <= 0.0031308, 12.92 * clipped, 1.055 * np.power(clipped, 1 / 2.4) - 0.055
    )
    return encoded.astype(np.float32)


def kelvin_rgb(kelvin: float) -> F32:
    """[3] linear sRGB of a black body, green = 1, as D65 sees it (6504 K is nearly 1, 1, 1).

    ValueError outside 1667 to 25000 K.
    """
    low, high = KELVIN_LIMITS
    if not low <= kelvin <= high:
        raise ValueError(f"{kelvin} K: the locus is fitted from {low} to {high} K")
    rgb = _black_body(kelvin) / _black_body(D65_KELVIN)
    return np.asarray(np.maximum(rgb / rgb[1], DARKEST_CHANNEL), np.float32)


def balance(illuminant: F32, awb: float) -> F32:
    """[3] gains of the camera's white balance for `illuminant` [3], the least of them 1.

    The colour is removed by the share `awb`. No gain is below 1, so that what clips stays white.
    """
    gains = illuminant ** -np.float32(awb)
    return np.asarray(gains / gains.min(), np.float32)


def lamp_field(light: LightParameters, count: int, readout_ms: float, exposure_ms: float) -> F32:
    """[count, count] brightness of the lamp over a square view, about 1: fall-off and flicker.

    Flicker 1 + d cos(2 pi f t), integrated over the exposure of each row: the rows of a rolling
    shutter begin `readout_ms` apart between the first and the last.
    """
    side = np.linspace(-1, 1, count, dtype=np.float32)
    azimuth = math.radians(light.azimuth_deg)
    across = light.gradient * (
        math.cos(azimuth) * side[None, :] + math.sin(azimuth) * side[:, None]
    ).astype(np.float32)
    begin_s = np.arange(count) / count * readout_ms * 1e-3
    cycles = light.flicker_hz * (begin_s + exposure_ms * 0.5e-3) + light.flicker_phase
    depth = light.flicker_depth * np.sinc(light.flicker_hz * exposure_ms * 1e-3)
    rows = (1 + depth * np.cos(2 * math.pi * cycles)).astype(np.float32)
    return ((1 + across) * rows[:, None]).astype(np.float32)


def _black_body(kelvin: float) -> F64:
    k = 1e3 / kelvin
    if kelvin <= 4000:
        x = -0.2661239 * k**3 - 0.2343589 * k**2 + 0.8776956 * k + 0.179910
    else:
        x = -3.0258469 * k**3 + 2.1070379 * k**2 + 0.2226347 * k + 0.240390
    if kelvin <= 2222:
        y = -1.1063814 * x**3 - 1.34811020 * x**2 + 2.18555832 * x - 0.20219683
    elif kelvin <= 4000:
        y = -0.9549476 * x**3 - 1.37418593 * x**2 + 2.09137015 * x - 0.16748867
    else:
        y = 3.0817580 * x**3 - 5.87338670 * x**2 + 3.75112997 * x - 0.37001483
    rgb: F64 = XYZ_TO_RGB @ np.array([x / y, 1.0, (1 - x - y) / y])
    return np.maximum(rgb, DARKEST_CHANNEL)


@cache
def _linear_table() -> F32:
    code = np.arange(256) / 255
    linear = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    table = linear.astype(np.float32)
    table.setflags(write=False)
    return table
