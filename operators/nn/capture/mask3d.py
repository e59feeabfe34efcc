"""A rigid or soft 3D mask over a wearer's face: shell, material, holes, rim, lit from one side.

Sources: Blinn 1977 (specular lobe), wrapped diffuse light for scattering skins (Green, GPU Gems
ch. 16, 2004), Fresnel's 4 % and gloss of latex, silicone, cured resin and card; Jimenez and others
2009 for the scale of skin's scattering (millimetres); reviews of 3D-mask attacks (Jia, Guo and Xu,
Pattern Recognition 98, 2020) for what masks lack: pores and fine wrinkles, even colour, wet eyes
behind holes. The wearer's own pixels are seen through the holes and beyond the rim.
Inferred, ours: the source's own shading is divided out coarsely (its luminance at the scale of the
head), so that the mask can be lit anew from `light.direction()`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from operators.nn.capture import shell, surround
from operators.nn.capture.geometry import EYE_DISTANCE_MM, Face, View, sampled
from operators.nn.capture.light import F32, F64, REC709, LightParameters
from operators.nn.capture.pixels import as_f32, over, plus, times
from operators.nn.capture.ranges import Choice, Drawn, Range, drawn
from operators.nn.capture.shell import Grid
from operators.nn.capture.surround import Layers

SUBKINDS = ("latex", "silicone", "resin", "paper")
EYES_X_MM = (-31.5, 31.5)
MOUTH_Y_MM = 72.8
CARD_WHITE = 0.75
OUTLINE_POWER = 2.5
GAMMA = 2.2  # of paint levels: about even to the eye


@dataclass(frozen=True)
class MaskParameters:
    """A mask. Defaults of the ranges are latex; `NARROWED` has the other materials."""

    subkind: str
    detail_mm: float = drawn(
        Range(1.8, 4.0, "mm", "deviation of the blur of cast and painted skin", log=True)
    )
    paint_levels: float = drawn(Range(8, 24, "levels", "layers of paint", log=True))
    uniform: float = drawn(Range(0.35, 0.75, "1", "share of skin colour that is one base colour"))
    tint_red: float = drawn(Range(0.95, 1.18, "1", "base colour by skin's, red"))
    tint_blue: float = drawn(Range(0.75, 1.0, "1", "base colour by skin's, blue: latex yellows"))
    wrap: float = drawn(Range(0.05, 0.25, "1", "scattering below the surface; skin is about 0.5"))
    exponent: float = drawn(Range(8, 28, "1", "Blinn's lobe: rubber is dull to satin", log=True))
    specular: float = drawn(Range(0.05, 0.2, "white", "peak of the highlight", log=True))
    bump_slope: float = drawn(Range(0.02, 0.09, "1", "uneven casting, deviation of slope"))
    bump_mm: float = drawn(Range(4, 14, "mm", "its wavelength", log=True))
    facet_mm: float = drawn(Choice((0.0,), "edge of flat facets; 0 is smooth"))
    relief: float = drawn(Range(0.75, 1.15, "1", "height by a mean head's"))
    eye_half_mm: float = drawn(Range(13, 19, "mm", "half width of an eye hole"))
    eye_height_mm: float = drawn(Range(5.5, 10, "mm", "half height of an eye hole"))
    mouth_open: bool = drawn(Choice((True, True, False), "with a slit or closed"))
    mouth_half_mm: float = drawn(Range(16, 27, "mm", "half width of the mouth's hole"))
    mouth_height_mm: float = drawn(Range(2.5, 8, "mm", "half height of the mouth's hole"))
    rim_mm: float = drawn(Range(1.0, 3.5, "mm", "wall: pulled-over latex 1 to 3 mm"))
    gap_mm: float = drawn(Range(3, 10, "mm", "mask to skin"))
    outline_x_mm: float = drawn(Range(66, 80, "mm", "half width: Farkas, 130 to 140 mm and more"))
    outline_y_mm: float = drawn(Range(88, 104, "mm", "half height, hairline to chin"))
    view_x_deg: float = drawn(Range(-16, 16, "deg", "camera beside the mask's axis: parallax"))
    view_y_deg: float = drawn(Range(-12, 12, "deg", "the same, up and down"))


NARROWED: Mapping[str, Mapping[str, Drawn]] = {
    "latex": {},
    "silicone": {
        "detail_mm": Range(1.2, 2.6, "mm", "finer casting, coloured in depth", log=True),
        "paint_levels": Range(14, 40, "levels", "airbrush", log=True),
        "uniform": Range(0.25, 0.6, "1", "pigmented base"),
        "tint_red": Range(0.98, 1.15, "1", "pinkish base"),
        "tint_blue": Range(0.88, 1.08, "1", "pinkish base"),
        "wrap": Range(0.25, 0.5, "1", "translucent: near skin"),
        "exponent": Range(14, 50, "1", "satin to glossy", log=True),
        "specular": Range(0.08, 0.3, "white", "sheen", log=True),
        "bump_slope": Range(0.01, 0.04, "1", "even casting"),
        "rim_mm": Range(1.0, 2.5, "mm", "thin at the edge"),
        "eye_half_mm": Range(12, 16, "mm", "fitted"),
        "eye_height_mm": Range(4.5, 8, "mm", "fitted"),
    },
    "resin": {
        "detail_mm": Range(0.9, 2.2, "mm", "printed and painted", log=True),
        "paint_levels": Range(6, 16, "levels", "coats, or full-colour print", log=True),
        "uniform": Range(0.3, 0.85, "1", "coats of paint"),
        "tint_red": Range(0.88, 1.1, "1", "paint"),
        "tint_blue": Range(0.85, 1.15, "1", "paint"),
        "wrap": Range(0.0, 0.08, "1", "opaque"),
        "exponent": Range(40, 180, "1", "cured and lacquered", log=True),
        "specular": Range(0.25, 0.9, "white", "hard gloss of a lamp 6 to 20 times white", log=True),
        "bump_slope": Range(0.005, 0.02, "1", "print layers, sanded"),
        "rim_mm": Range(2.0, 4.5, "mm", "rigid wall"),
        "gap_mm": Range(5, 15, "mm", "rigid: stands off"),
        "mouth_open": Choice((True, False, False), "mostly closed"),
    },
    "paper": {
        "detail_mm": Range(0.5, 1.3, "mm", "ink on card", log=True),
        "paint_levels": Range(16, 48, "levels", "print", log=True),
        "uniform": Range(0.0, 0.25, "1", "print of a face"),
        "tint_red": Range(0.92, 1.12, "1", "printer"),
        "tint_blue": Range(0.85, 1.12, "1", "printer"),
        "wrap": Range(0.0, 0.05, "1", "opaque"),
        "exponent": Range(3, 9, "1", "matte card", log=True),
        "specular": Range(0.005, 0.05, "white", "matte card", log=True),
        "facet_mm": Choice(
            (22.0, 27.0, 33.0, 40.0), "folded card: card patterns of 60 to 200 facets"
        ),
        "bump_slope": Range(0.003, 0.02, "1", "warped card"),
        "relief": Range(0.45, 0.95, "1", "flatter than a head"),
        "rim_mm": Range(0.6, 1.4, "mm", "card and its white core"),
        "mouth_open": Choice((True, False, False), "mostly closed"),
    },
}


class Fit(NamedTuple):
    """A mask laid on a face; [g, g] float32 maps, distances in mm, positive inside."""

    grid: Grid
    x_mm: F32  # place on the mean face
    y_mm: F32
    holes: F32  # inside the nearest hole
    material: F32  # inside the material: within the rim, outside every hole
    cover: F32  # 1 on material, 0 elsewhere


class Parts(NamedTuple):
    """A mask's pieces before they are put together; [n, n] or [n, n, 3] float32."""

    skin: F32  # radiance of the material
    specular: F32  # [n, n] its highlight alone
    cover: F32  # [n, n] 1 on material
    wearer: F32  # what is behind and beside it
    through: F32  # [n, n] 1 in the holes


def render(
    face: Face, view: View, worn: MaskParameters, light: LightParameters, rng: np.random.Generator
) -> Layers:
    """The wearer with the mask; radiance with diffuse white = 1."""
    parts = assemble(face, view, worn, light, rng)
    return Layers(over(parts.wearer, parts.skin, parts.cover), None)


def assemble(
    face: Face, view: View, worn: MaskParameters, light: LightParameters, rng: np.random.Generator
) -> Parts:
    """The pieces of `render`, each as the camera's view sees it."""
    fit = fitted(face, view, worn)
    shade, specular = lit(fit, worn, light, rng)
    albedo = view.look(texture(face, worn))
    if worn.facet_mm > 0:
        core = shell.enlarge(creases(fit, worn), view.count)
        albedo = plus(times(albedo, 1 - core), core * np.float32(CARD_WHITE))
    highlight = shell.enlarge(specular, view.count)
    skin = plus(times(albedo, shell.enlarge(shade, view.count)), highlight)
    through = as_f32(np.clip(fit.holes / np.float32(fit.grid.mm_per_px) + np.float32(0.5), 0, 1))
    return Parts(
        skin,
        highlight,
        shell.enlarge(fit.cover, view.count),
        wearer(face, view, fit, worn, light),
        shell.enlarge(through, view.count),
    )


def texture(face: Face, worn: MaskParameters) -> F32:
    """[H, W, 3] colour of the material in the source's frame: unlit, blurred, evened, in coats."""
    px_per_mm = face.eye_px / EYE_DISTANCE_MM
    head_light = _blurred(as_f32(face.linear @ REC709), 20 * px_per_mm)
    flat = np.clip(head_light / np.float32(head_light.mean()), 0.4, 2.0)
    albedo = _blurred(face.linear / flat[..., None], worn.detail_mm * px_per_mm)
    base = surround.skin_colour(face) * np.array([worn.tint_red, 1, worn.tint_blue], np.float32)
    tinted = albedo * np.array([worn.tint_red, 1, worn.tint_blue], np.float32)
    even = tinted + np.float32(worn.uniform) * (base - tinted)
    signal = np.maximum(as_f32(even @ REC709), np.float32(1e-3)) ** np.float32(1 / GAMMA)
    levels = np.float32(worn.paint_levels)
    coats = np.maximum(np.rint(signal * levels), 0.5) / levels  # of lighter and darker paint
    soft = _blurred(as_f32(coats / signal), 1.2 * px_per_mm)  # coats run into each other
    return as_f32(np.clip(even * (soft ** np.float32(GAMMA))[..., None], 0, 1))


def fitted(face: Face, view: View, worn: MaskParameters) -> Fit:
    """Rim and holes, from first-order distances to a superellipse and to ellipses."""
    grid = Grid.of(face, view)
    x, y = shell.face_mm(face, grid)
    size = (worn.outline_x_mm, worn.outline_y_mm)
    outer = -_ellipse(x, y - np.float32(shell.HEAD_MIDDLE_Y_MM), size, OUTLINE_POWER)
    size = (worn.eye_half_mm, worn.eye_height_mm)
    right, left = (-_ellipse(x - np.float32(at), y, size, 2.0) for at in EYES_X_MM)
    holes = np.maximum(right, left)
    if worn.mouth_open:
        size = (worn.mouth_half_mm, worn.mouth_height_mm)
        holes = np.maximum(holes, -_ellipse(x, y - np.float32(MOUTH_Y_MM), size, 2.0))
    material = np.minimum(outer, -holes)
    cover = np.clip(material / np.float32(grid.mm_per_px) + np.float32(0.5), 0, 1)
    return Fit(grid, x, y, as_f32(holes), as_f32(material), as_f32(cover))


def lit(
    fit: Fit, worn: MaskParameters, light: LightParameters, rng: np.random.Generator
) -> tuple[F32, F32]:
    """[g, g] diffuse light by that on a facing surface, and the highlight's radiance."""
    normal = normals(fit, worn, rng)
    to_lamp = np.array(light.direction())
    wrap, ambient = np.float32(worn.wrap), np.float32(light.ambient)
    toward = _dot(normal, to_lamp) + wrap
    diffuse = np.maximum(toward, 0) / np.float32(to_lamp[2] + worn.wrap)
    beside, above = math.radians(worn.view_x_deg), math.radians(worn.view_y_deg)
    half = to_lamp + np.array([math.sin(beside), math.sin(above), 1.0])
    lobe = np.maximum(_dot(normal, half / np.linalg.norm(half)), np.float32(1e-4))
    specular = as_f32(cv2.pow(lobe, worn.exponent)) * np.float32(worn.specular)
    return ambient + (1 - ambient) * as_f32(diffuse), specular


def normals(fit: Fit, worn: MaskParameters, rng: np.random.Generator) -> tuple[F32, F32, F32]:
    """[g, g] unit normal: x right, y down, z to the camera. Shell, uneven casting, round edges."""
    slope_x, slope_y = shell.slopes(fit.x_mm, fit.y_mm, worn.relief, worn.facet_mm)
    bump_x, bump_y = _bumps(worn, fit.grid, rng)
    round_x, round_y = _rounded_edge(fit, worn)
    x, y = bump_x - slope_x + round_x, bump_y - slope_y + round_y
    z = 1 / np.sqrt(1 + x * x + y * y)
    return x * z, y * z, z


def creases(fit: Fit, worn: MaskParameters) -> F32:
    """[g, g] share of bare card that a fold shows: ink cracks over 0.5 mm."""
    near = shell.fold_distance(fit.x_mm, fit.y_mm, worn.facet_mm)
    return np.float32(0.35) * as_f32(cv2.exp(near * near * np.float32(-0.5 / 0.5**2)))


def wearer(face: Face, view: View, fit: Fit, worn: MaskParameters, light: LightParameters) -> F32:
    """[n, n, 3] the person behind: moved by parallax in the holes, in the mask's shadow."""
    near_hole = as_f32(np.clip(1.5 + fit.holes / np.float32(worn.rim_mm + 2.0), 0, 1))
    moved = shell.enlarge(near_hole, view.count)
    px_per_mm = face.eye_px / EYE_DISTANCE_MM
    x, y = view.source_xy()
    x += moved * np.float32(worn.gap_mm * math.tan(math.radians(worn.view_x_deg)) * px_per_mm)
    y += moved * np.float32(worn.gap_mm * math.tan(math.radians(worn.view_y_deg)) * px_per_mm)
    behind = sampled(face.linear, x, y)
    return times(behind, shell.enlarge(shadow(fit, worn, light), view.count))


def shadow(fit: Fit, worn: MaskParameters, light: LightParameters) -> F32:
    """[g, g] light that reaches the wearer: the mask's cast shadow, and dark crevices at edges."""
    lx, ly, lz = light.direction()
    grid = fit.grid
    reach = worn.gap_mm / grid.mm_per_px / max(lz, 0.3)
    shift = np.array([[1, 0, reach * lx], [0, 1, reach * ly]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = (grid.count, grid.count)
    border = cv2.BORDER_REPLICATE
    cast = cv2.warpAffine(fit.cover, shift, size, flags=flags, borderMode=border)
    soft = cv2.GaussianBlur(cast, (0, 0), max(0.12 * worn.gap_mm / grid.mm_per_px, 0.4))
    crevice = as_f32(cv2.exp(np.abs(fit.material) * np.float32(-1 / (0.25 * worn.gap_mm))))
    direct = 1 - np.float32(0.9 * (1 - light.ambient)) * as_f32(soft)
    return direct * (1 - np.float32(0.8) * crevice)


def _dot(normal: tuple[F32, F32, F32], to: F64) -> F32:
    x, y, z = (np.float32(part) for part in to)
    return as_f32(normal[0] * x + normal[1] * y + normal[2] * z)


def _bumps(worn: MaskParameters, grid: Grid, rng: np.random.Generator) -> tuple[F32, F32]:
    """[g, g] slopes of uneven casting: two independent smooth noises."""
    cells = int(np.clip(grid.count * grid.mm_per_px / worn.bump_mm * 2, 4, grid.count))
    noise = rng.standard_normal((cells, cells, 2), dtype=np.float32) * np.float32(worn.bump_slope)
    size = (grid.count, grid.count)
    smooth = as_f32(cv2.resize(noise, size, interpolation=cv2.INTER_CUBIC))
    return np.ascontiguousarray(smooth[..., 0]), np.ascontiguousarray(smooth[..., 1])


def _rounded_edge(fit: Fit, worn: MaskParameters) -> tuple[F32, F32]:
    """[g, g] slopes of the wall's rounded edge, outward over the last `rim_mm` of material."""
    fall = np.clip(1 - fit.material / np.float32(worn.rim_mm), 0, 1) * np.float32(-1.4)
    scale = 1 / (8 * fit.grid.mm_per_px)
    border = cv2.BORDER_REPLICATE
    across = cv2.Sobel(fit.material, cv2.CV_32F, 1, 0, ksize=3, scale=scale, borderType=border)
    down = cv2.Sobel(fit.material, cv2.CV_32F, 0, 1, ksize=3, scale=scale, borderType=border)
    return fall * as_f32(across), fall * as_f32(down)


def _ellipse(x: F32, y: F32, half_mm: tuple[float, float], power: float) -> F32:
    """[g, g] signed distance, negative inside, exact on the outline and to first order near it."""
    a, b = half_mm
    share_x, share_y = np.abs(x) * np.float32(1 / a), np.abs(y) * np.float32(1 / b)
    px, py = (as_f32(cv2.pow(part, power - 1)) for part in (share_x, share_y))
    level = px * share_x + py * share_y  # 1 on the outline
    rho = as_f32(cv2.pow(level, 1 / power))
    steep = as_f32(cv2.magnitude(px * np.float32(1 / a), py * np.float32(1 / b)))
    steep = steep * as_f32(cv2.pow(np.maximum(rho, np.float32(1e-3)), 1 - power))
    return as_f32((rho - 1) / np.maximum(steep, np.float32(1e-4)))


def _blurred(picture: F32, sigma_px: float) -> F32:
    """Gaussian blur; wide ones on a picture made smaller first."""
    if sigma_px < 0.3:
        return picture
    shrink = int(sigma_px // 4)
    if shrink < 2:
        return as_f32(cv2.GaussianBlur(picture, (0, 0), sigma_px))
    height, width = picture.shape[:2]
    size = (max(width // shrink, 4), max(height // shrink, 4))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    soft = cv2.GaussianBlur(small, (0, 0), sigma_px / shrink)
    return as_f32(cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR))
