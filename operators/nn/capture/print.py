"""A printed face: inks as halftone or stochastic dots on paper that is bent, held and lit.

Sources: ISO 12647-2 (solids of paper type 1, tone value increase); ISO 12640 screens of cyan 15,
magenta 75, yellow 0, black 45 degrees; Neugebauer 1937 with Demichel's overlaps and multiplicative
primaries (R = paper prod_i (1 - a_i (1 - T_i))); Murray and Davies 1936 (coverage from density);
Yule, Principles of Color Reproduction (1967), ch. 3 and 11 (masking equations, grey component
replacement, surface reflection); Blinn 1977 (highlight about the half vector).
Inferred, ours: the separation inverts the masking equations and not the halftone model; a printer's
profile is wrong by about as much.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np

from operators.nn.capture import dots, surround
from operators.nn.capture.geometry import PREFILTER_PX, Face, Pose, Surface, View, surface
from operators.nn.capture.light import F32, F64, REC709, XYZ_TO_RGB, LightParameters
from operators.nn.capture.pixels import as_f32, over, plus, times
from operators.nn.capture.ranges import Choice, Drawn, Range, drawn
from operators.nn.capture.surround import Layers

SUBKINDS = ("laser", "inkjet", "photo", "magazine")
ANGLES_DEG = (15.0, 75.0, 0.0, 45.0)  # cyan, magenta, yellow, black
# CIE L*a*b* (D50) of cyan, magenta, yellow, black solids and of paper: ISO 12647-2:2004, type 1.
SOLIDS_LAB = ((55, -37, -50), (48, 74, -3), (89, -5, 93), (16, 0, 0))
PAPER_LAB = (95, 0, -2)
MM_PER_INCH = 25.4
STRIP_ROWS = 48
FM_TILE_SHIFTS = ((0.0, 0.0), (0.37, 0.61), (0.71, 0.23), (0.13, 0.83))


@dataclass(frozen=True)
class PrintParameters:
    """A print and how it is held."""

    subkind: str
    eye_distance_mm: float = drawn(
        Range(14, 63, "mm", "ISO/IEC 19794-5 identity photographs to life size", log=True)
    )
    screen: str = drawn(Choice(("am",), "clustered dots (am) or stochastic ones (fm)"))
    lpi: float = drawn(Range(53, 106, "1/inch", "laser printers of 300 to 600 dpi", log=True))
    dot_um: float = drawn(Range(35, 90, "um", "inkjet drops of 2 to 12 pl on paper", log=True))
    dot_gain: float = drawn(
        Range(0.02, 0.15, "1", "tone value increase at 50 % that the profile does not undo: "
              "ISO 12647-2 gives 0.14 to 0.20 in all")
    )  # fmt: skip
    ink_density: float = drawn(
        Range(0.6, 1.0, "solid", "density by that of ISO 12647-2; toner saved, drafts")
    )
    gcr: float = drawn(Range(0.3, 1.0, "1", "grey component replacement: Yule, ch. 11"))
    misregister_mm: float = drawn(Range(0.0, 0.12, "mm", "colour to colour, office and press"))
    paper_white: float = drawn(Range(0.72, 0.9, "1", "reflectance: ISO 12647-2 papers, copy paper"))
    paper_b: float = drawn(Range(-6, 5, "CIE b*", "bluish with brightener to yellowed"))
    fibre: float = drawn(Range(0.004, 0.03, "1", "mottle of reflectance, deviation", log=True))
    flare: float = drawn(Range(0.012, 0.04, "1", "diffuse part of Fresnel's 4 %: rough paper most"))
    gloss: float = drawn(Range(0.002, 0.05, "white", "peak of the lamp's highlight", log=True))
    gloss_width_deg: float = drawn(Range(9, 22, "deg", "spread of surface slopes"))
    gloss_x_deg: float = drawn(Range(-12, 12, "deg", "half vector, free", held_out=False))
    gloss_y_deg: float = drawn(Range(-12, 12, "deg", "half vector, free", held_out=False))
    curl_radius_mm: float = drawn(Range(130, 1500, "mm", "held sheet of 80 to 250 g/m2", log=True))
    curl_axis_deg: float = drawn(Range(-90, 90, "deg", "direction of bending", held_out=False))
    yaw_deg: float = drawn(Range(-16, 16, "deg", "held by hand"))
    pitch_deg: float = drawn(Range(-14, 14, "deg", "held by hand"))
    distance: float = drawn(Range(5, 12, "eye distances", "camera to sheet"))
    margin_x: float = drawn(Range(1.25, 3.6, "eye distances", "face's middle to side edges"))
    margin_y: float = drawn(Range(1.6, 3.6, "eye distances", "face's middle to top and bottom"))
    border_mm: float = drawn(Range(0.0, 4.0, "mm", "unprinted edge: printers leave 3 to 5 mm"))
    thumb: bool = drawn(Choice((True, False), "held at an edge, or on a support"))
    backdrop: int = drawn(Choice(tuple(range(64)), "seed of what is behind"))


NARROWED: Mapping[str, Mapping[str, Drawn]] = {
    "laser": {},
    "inkjet": {
        "screen": Choice(("fm",), "drops spread by error diffusion"),
        "flare": Range(0.018, 0.045, "1", "ink soaks into copy paper: dull blacks"),
        "gloss": Range(0.001, 0.01, "white", "matte", log=True),
        "ink_density": Range(0.5, 0.85, "solid", "ink soaks in"),
    },
    "photo": {
        "screen": Choice(("fm",), "drops spread by error diffusion"),
        "dot_um": Range(25, 50, "um", "drops of 1 to 4 pl on coated paper", log=True),
        "dot_gain": Range(0.01, 0.08, "1", "coated paper"),
        "ink_density": Range(0.85, 1.1, "solid", "coated paper"),
        "paper_white": Range(0.82, 0.93, "1", "photographic paper"),
        "fibre": Range(0.001, 0.006, "1", "resin-coated: nearly even", log=True),
        "flare": Range(0.004, 0.015, "1", "smooth surface"),
        "gloss": Range(0.12, 0.9, "white", "Fresnel 4 % of a lamp 3 to 22 times white", log=True),
        "gloss_width_deg": Range(1.5, 6, "deg", "glossy and lustre paper"),
        "curl_radius_mm": Range(200, 1500, "mm", "stiffer", log=True),
    },
    "magazine": {
        "lpi": Range(100, 175, "1/inch", "ISO 12647-3 newspapers to 12647-2 offset", log=True),
        "eye_distance_mm": Range(14, 40, "mm", "portraits on a page", log=True),
        "paper_white": Range(0.6, 0.85, "1", "newsprint to light-weight coated"),
        "paper_b": Range(-3, 8, "CIE b*", "newsprint is yellowish"),
        "gloss": Range(0.01, 0.15, "white", "light-weight coated", log=True),
        "gloss_width_deg": Range(5, 14, "deg", "light-weight coated"),
    },
}


class Separation(NamedTuple):
    """The plates of a print."""

    amounts: F32  # [H, W, 4] coverage of cyan, magenta, yellow, black in the source's frame
    misses_mm: F64  # [4, 2] how far each is off its place


class Pattern(NamedTuple):
    """The dots of a print, filtered."""

    table: F32  # [levels, phases, phases] share of ink
    side_mm: float  # of the tile


def render(
    face: Face, view: View, made: PrintParameters, light: LightParameters, rng: np.random.Generator
) -> tuple[Layers, Surface]:
    """The print before its surroundings, radiance with diffuse white = 1, and where it lies."""
    curl = math.copysign(1 / made.curl_radius_mm, made.curl_axis_deg)
    pose = Pose(made.yaw_deg, made.pitch_deg, made.distance, curl, made.curl_axis_deg)
    sheet = surface(face, view, pose, made.eye_distance_mm)
    lit = _before_lamp(face, sheet, made, light, rng)
    return _before_backdrop(face, view, sheet, lit, made), sheet


def _before_lamp(
    face: Face,
    sheet: Surface,
    made: PrintParameters,
    light: LightParameters,
    rng: np.random.Generator,
) -> F32:
    """[n, n, 3] radiance of the whole sheet; strip by strip, which stays in the cache."""
    separation, pattern = separated(face, made, rng), pattern_of(sheet, made)
    grain = paper_grain(sheet, made, rng)
    lit = np.empty((*grain.shape, 3), np.float32)
    for top in range(0, len(lit), STRIP_ROWS):
        rows = slice(top, top + STRIP_ROWS)
        strip = sheet.rows(top, top + STRIP_ROWS)
        paper = times(neugebauer(dotted(face, strip, separation, pattern, made), made), grain[rows])
        paper *= np.float32(1 - made.flare)
        paper += np.float32(made.flare)
        lit[rows] = plus(times(paper, surround.lambert(strip, light)), highlight(strip, made))
    return lit


def dotted(
    face: Face, sheet: Surface, separation: Separation, pattern: Pattern, made: PrintParameters
) -> list[F32]:
    """Four inks [h, w] as they lie on the sheet, in dots."""
    inside = _inside(sheet, made, made.border_mm)
    planes = cv2.split(sheet.show(face, separation.amounts))
    return [
        dots.screened(
            as_f32(plane) * inside, pattern.table, *_phase(sheet, made, ink, miss, pattern)
        )
        for ink, (plane, miss) in enumerate(zip(planes, separation.misses_mm, strict=True))
    ]


def neugebauer(inks: list[F32], made: PrintParameters) -> F32:
    """[h, w, 3] reflectance of four inks' coverages [h, w] on paper, each multiplying the rest."""
    planes = [np.full(inks[0].shape, white, np.float32) for white in paper_colour(made)]
    for ink, stops in zip(inks, 1 - _transmittance(made.ink_density), strict=True):
        for plane, stop in zip(planes, stops, strict=True):
            plane *= 1 - ink * np.float32(stop)
    return as_f32(cv2.merge(planes))


def separate(linear: F32, made: PrintParameters) -> F32:
    """[H, W, 3] linear RGB -> [H, W, 4] coverage of cyan, magenta, yellow, black in [0, 1]."""
    inks = _transmittance(made.ink_density)
    darkest = np.float32(inks.prod(axis=0).max())  # black-point compensation: no ink goes below
    density = -np.log(inks[:3])  # [ink, colour], natural
    wanted = cv2.log(darkest + (1 - darkest) * linear)  # its negative: exponents need no sign
    amounts = as_f32(cv2.transform(wanted, np.linalg.inv(density).T))
    planes = []
    for plane, main in zip(cv2.split(amounts), np.diag(density), strict=True):
        through = cv2.exp(np.clip(plane, -1, 0) * np.float32(main))
        planes.append(
            (1 - as_f32(through)) * np.float32(1 / (1 - math.exp(-main)))
        )  # Murray-Davies
    least = np.minimum(np.minimum(planes[0], planes[1]), planes[2])
    black = np.float32(made.gcr) * np.clip((least - np.float32(0.2)) * np.float32(1.25), 0, 1)
    under = 1 / np.maximum(1 - black, np.float32(1e-3))
    inked = as_f32(cv2.merge([*(np.maximum(plane - black, 0) * under for plane in planes), black]))
    inked += np.float32(4 * made.dot_gain) * inked * (1 - inked)
    return as_f32(np.clip(inked, 0, 1, out=inked))


def paper_colour(made: PrintParameters) -> F32:
    """[3] reflectance of the bare paper."""
    tint = lab_to_linear((95, 0, made.paper_b)) / lab_to_linear((95, 0, 0))
    return as_f32(made.paper_white * tint / float(REC709 @ tint))


def paper_grain(sheet: Surface, made: PrintParameters, rng: np.random.Generator) -> F32:
    """[n, n] mottle about 1: fibres of 0.3 mm and clouds of 2 mm, as the view resolves them."""
    count = sheet.x_mm.shape[0]
    grain = np.zeros((count, count), np.float32)
    for size_mm, share in ((0.3, 0.7), (2.0, 0.7)):
        cell = max(size_mm / sheet.mm_per_sensor_px * 3, 2.0)  # view pixels
        small = max(int(count / cell), 2)
        seen = min(size_mm / sheet.mm_per_sensor_px * 1.5, 1.0)  # averaged within a cell
        noise = rng.standard_normal((small, small), dtype=np.float32)
        size = (count, count)
        grain += np.float32(share * seen) * cv2.resize(noise, size, interpolation=cv2.INTER_LINEAR)
    return 1 + np.float32(made.fibre) * grain


def highlight(sheet: Surface, made: PrintParameters) -> F32:
    """[n, n] the lamp mirrored by the surface: a lobe about the half vector."""
    off_x = sheet.slope_x - np.float32(math.radians(made.gloss_x_deg))
    off_y = sheet.slope_y - np.float32(math.radians(made.gloss_y_deg))
    width = math.radians(made.gloss_width_deg)
    lobe = cv2.exp((off_x * off_x + off_y * off_y) * np.float32(-0.5 / width**2))
    return as_f32(lobe) * np.float32(made.gloss)


def lab_to_linear(lab: tuple[float, float, float]) -> F64:
    """[3] linear sRGB of CIE L*a*b*, white adapted (D50 white becomes 1, 1, 1), not clipped."""
    lightness, a, b = lab
    middle = (lightness + 16) / 116
    f = np.array([middle + a / 500, middle, middle - b / 200])
    relative = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29))
    rgb: F64 = XYZ_TO_RGB @ (relative * np.array([0.95047, 1.0, 1.08883]))
    return rgb


@cache
def _solids() -> F64:
    """[4, 3] transmittance of the solid inks: light through them and back, by bare paper's."""
    paper = lab_to_linear(PAPER_LAB)
    rows = [np.clip(lab_to_linear(solid) / paper, 0.015, 0.985) for solid in SOLIDS_LAB]
    return np.stack(rows)


def _transmittance(ink_density: float) -> F64:
    thinner: F64 = _solids() ** ink_density
    return thinner


def separated(face: Face, made: PrintParameters, rng: np.random.Generator) -> Separation:
    """The plates of this print, each a little off its place."""
    misses = rng.normal(0, made.misregister_mm / 2, (len(ANGLES_DEG), 2))
    misses[-1] = 0.0  # the others are placed against black
    return Separation(separate(face.linear, made), misses)


def pattern_of(sheet: Surface, made: PrintParameters) -> Pattern:
    """The dots of this print as the view's prefilter leaves them."""
    sigma_mm = PREFILTER_PX * sheet.mm_per_sensor_px
    if made.screen == "am":
        period = MM_PER_INCH / made.lpi
        return Pattern(dots.am_table(sigma_mm / period), period)
    dot_mm = made.dot_um * 1e-3
    return Pattern(dots.fm_table(sigma_mm / dot_mm), dot_mm * dots.FM_CELLS)


def _phase(
    sheet: Surface, made: PrintParameters, ink: int, miss_mm: F64, pattern: Pattern
) -> tuple[F32, F32]:
    """Place on the sheet in tiles of this ink's pattern."""
    turn = math.radians(ANGLES_DEG[ink]) if made.screen == "am" else 0.0
    cos, sin = math.cos(turn) / pattern.side_mm, math.sin(turn) / pattern.side_mm
    shift_u, shift_v = FM_TILE_SHIFTS[ink] if made.screen == "fm" else (0.0, 0.0)
    shift_u += float(miss_mm[0] * cos + miss_mm[1] * sin)
    shift_v += float(miss_mm[1] * cos - miss_mm[0] * sin)
    return (
        as_f32(cv2.addWeighted(sheet.x_mm, cos, sheet.y_mm, sin, shift_u)),
        as_f32(cv2.addWeighted(sheet.y_mm, cos, sheet.x_mm, -sin, shift_v)),
    )


def _inside(sheet: Surface, made: PrintParameters, inset_mm: float) -> F32:
    """[n, n] 1 on the sheet, 0 beyond its edges, one view pixel of slope between."""
    half_x = made.margin_x * made.eye_distance_mm - inset_mm
    half_y = made.margin_y * made.eye_distance_mm - inset_mm
    return surround.box_cover(sheet, (-half_x, -half_y, half_x, half_y))


def _before_backdrop(
    face: Face, view: View, sheet: Surface, lit: F32, made: PrintParameters
) -> Layers:
    """The sheet over what is behind it, its edge's shadow, and the thumb that holds it."""
    cover = _inside(sheet, made, 0.0)
    if float(cover.min()) < 1:
        lit = over(surround.backdrop(face, view, made.backdrop, cover), lit, cover)
    if made.thumb:
        edge = (made.margin_x * made.eye_distance_mm, made.margin_y * made.eye_distance_mm)
        lit, _ = surround.thumb(face, sheet, lit, edge, made.backdrop)
    return Layers(lit, None)
