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
from operators.nn.capture.geometry import EYE_DISTANCE_MM, Face, View, as_f32
from operators.nn.capture.light import F32, REC709, LightParameters
from operators.nn.capture.ranges import Choice, Drawn, Range, drawn
from operators.nn.capture.shell import Grid
from operators.nn.capture.surround import Layers

SUBKINDS = ("latex", "silicone", "resin", "paper")
EYES_MM = ((-31.5, 0.0), (31.5, 0.0))
MOUTH_MM = (0.0, 72.8)
OUTLINE_POWER = 2.5
GAMMA = 2.2  # of paint levels: about even to the eye


@dataclass(frozen=True)
class MaskParameters:
    """A mask. Defaults of the ranges are latex; `NARROWED` has the other materials."""

    subkind: str
    detail_mm: float = drawn(
        Range(1.8, 4.0, "mm", "deviation of the blur of cast and painted skin", log=True)
    )
    paint_levels: float = drawn(Range(8, 24, "levels", "layers of paint", log=True, mirrored=True))
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
    ambient: float = drawn(Range(0.25, 0.6, "1", "share of light from everywhere"))
    view_x_deg: float = drawn(Range(-16, 16, "deg", "camera beside the mask's axis: parallax"))
    view_y_deg: float = drawn(Range(-12, 12, "deg", "the same, up and down"))


NARROWED: Mapping[str, Mapping[str, Drawn]] = {
    "latex": {},
    "silicone": {
        "detail_mm": Range(1.2, 2.6, "mm", "finer casting, coloured in depth", log=True),
        "paint_levels": Range(14, 40, "levels", "airbrush", log=True, mirrored=True),
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
        "paint_levels": Range(
            6, 16, "levels", "coats, or full-colour print", log=True, mirrored=True
        ),
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
        "paint_levels": Range(16, 48, "levels", "print", log=True, mirrored=True),
        "uniform": Range(0.0, 0.25, "1", "print of a face"),
        "tint_red": Range(0.92, 1.12, "1", "printer"),
        "tint_blue": Range(0.85, 1.12, "1", "printer"),
        "wrap": Range(0.0, 0.05, "1", "opaque"),
        "exponent": Range(3, 9, "1", "matte card", log=True),
        "specular": Range(0.005, 0.05, "white", "matte card", log=True),
        "facet_mm": Choice((12.0, 15.0, 18.0, 22.0), "folded card"),
        "bump_slope": Range(0.003, 0.02, "1", "warped card"),
        "relief": Range(0.45, 0.95, "1", "flatter than a head"),
        "rim_mm": Range(0.6, 1.4, "mm", "card and its white core"),
        "mouth_open": Choice((True, False, False), "mostly closed"),
    },
}


class Outline(NamedTuple):
    """Where a mask is; [g, g] float32 maps, distances in mm, positive inside the named region."""

    outer: F32  # inside the rim
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
    over = parts.cover[..., None] * (parts.skin - parts.wearer)
    return Layers(parts.wearer + over, None)


def assemble(
    face: Face, view: View, worn: MaskParameters, light: LightParameters, rng: np.random.Generator
) -> Parts:
    """The pieces of `render`, each as the camera's view sees it."""
    grid = Grid.of(face, view)
    x_mm, y_mm = shell.face_mm(face, grid)
    shape = outline(x_mm, y_mm, worn, grid)
    shade, specular = lit(x_mm, y_mm, shape, worn, light, grid, rng)
    albedo = view.look(texture(face, worn))
    highlight = shell.enlarge(specular, view.count)
    skin = albedo * shell.enlarge(shade, view.count)[..., None] + highlight[..., None]
    through = as_f32(np.clip(shape.holes / grid.mm_per_px + 0.5, 0, 1))
    return Parts(
        skin,
        highlight,
        shell.enlarge(shape.cover, view.count),
        wearer(face, view, shape, worn, light, grid),
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
    signal = np.maximum(even, 0) ** np.float32(1 / GAMMA)
    levels = np.float32(worn.paint_levels)
    coats = np.rint(signal * levels) / levels
    soft = _blurred(as_f32(coats), 0.6 * px_per_mm)  # coats run into each other
    return as_f32(np.clip(soft, 0, 1) ** np.float32(GAMMA))


def outline(x_mm: F32, y_mm: F32, worn: MaskParameters, grid: Grid) -> Outline:
    """Rim and holes, from first-order distances to a superellipse and to ellipses."""
    outer = -_ellipse(x_mm, y_mm - np.float32(shell.HEAD_MIDDLE_Y_MM),
                      (worn.outline_x_mm, worn.outline_y_mm), OUTLINE_POWER)  # fmt: skip
    size = (worn.eye_half_mm, worn.eye_height_mm)
    holes = np.maximum(
        *(-_ellipse(x_mm - np.float32(x), y_mm - np.float32(y), size, 2.0) for x, y in EYES_MM)
    )
    if worn.mouth_open:
        size = (worn.mouth_half_mm, worn.mouth_height_mm)
        mouth = -_ellipse(x_mm, y_mm - np.float32(MOUTH_MM[1]), size, 2.0)
        holes = np.maximum(holes, mouth)
    material = np.minimum(outer, -holes)
    cover = np.clip(material / np.float32(grid.mm_per_px) + np.float32(0.5), 0, 1)
    return Outline(as_f32(outer), as_f32(holes), as_f32(material), as_f32(cover))


def lit(
    x_mm: F32,
    y_mm: F32,
    shape: Outline,
    worn: MaskParameters,
    light: LightParameters,
    grid: Grid,
    rng: np.random.Generator,
) -> tuple[F32, F32]:
    """[g, g] diffuse light by that on a facing surface, and the highlight's radiance."""
    slope_x, slope_y = shell.slopes(x_mm, y_mm, worn.relief, worn.facet_mm)
    bump_x, bump_y = _bumps(worn, grid, rng)
    round_x, round_y = _rounded_edge(shape, worn, grid)
    normal_x, normal_y = bump_x - slope_x + round_x, bump_y - slope_y + round_y
    length = np.sqrt(1 + normal_x * normal_x + normal_y * normal_y)
    lx, ly, lz = light.direction()
    toward = (normal_x * np.float32(lx) + normal_y * np.float32(ly) + np.float32(lz)) / length
    wrap, ambient = np.float32(worn.wrap), np.float32(worn.ambient)
    diffuse = np.maximum(toward + wrap, 0) / np.float32(lz + worn.wrap)
    half = np.array([lx + math.sin(math.radians(worn.view_x_deg)),
                     ly + math.sin(math.radians(worn.view_y_deg)), lz + 1])  # fmt: skip
    hx, hy, hz = (np.float32(part) for part in half / np.linalg.norm(half))
    lobe = np.maximum((normal_x * hx + normal_y * hy + hz) / length, 1e-4)
    specular = cv2.exp(cv2.log(lobe) * np.float32(worn.exponent)) * np.float32(worn.specular)
    return ambient + (1 - ambient) * as_f32(diffuse), as_f32(specular)


def wearer(
    face: Face, view: View, shape: Outline, worn: MaskParameters, light: LightParameters, grid: Grid
) -> F32:
    """[n, n, 3] the person behind: moved by parallax in the holes, in the mask's shadow."""
    near_hole = as_f32(np.clip(1.5 + shape.holes / np.float32(worn.rim_mm + 2.0), 0, 1))
    moved = shell.enlarge(near_hole, view.count)
    px_per_mm = face.eye_px / EYE_DISTANCE_MM
    x, y = view.source_xy()
    x += moved * np.float32(worn.gap_mm * math.tan(math.radians(worn.view_x_deg)) * px_per_mm)
    y += moved * np.float32(worn.gap_mm * math.tan(math.radians(worn.view_y_deg)) * px_per_mm)
    border = cv2.BORDER_REFLECT_101
    behind = as_f32(cv2.remap(face.linear, x, y, cv2.INTER_CUBIC, borderMode=border))
    return behind * shell.enlarge(shadow(shape, worn, light, grid), view.count)[..., None]


def shadow(shape: Outline, worn: MaskParameters, light: LightParameters, grid: Grid) -> F32:
    """[g, g] light that reaches the wearer: the mask's cast shadow, and dark crevices at edges."""
    lx, ly, lz = light.direction()
    reach = worn.gap_mm / grid.mm_per_px / max(lz, 0.3)
    shift = np.array([[1, 0, reach * lx], [0, 1, reach * ly]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = (grid.count, grid.count)
    border = cv2.BORDER_REPLICATE
    cast = cv2.warpAffine(shape.cover, shift, size, flags=flags, borderMode=border)
    soft = cv2.GaussianBlur(cast, (0, 0), max(0.15 * worn.gap_mm / grid.mm_per_px, 0.4))
    crevice = cv2.exp(-np.abs(shape.material) * np.float32(1 / (0.22 * worn.gap_mm)))
    direct = 1 - np.float32(0.85 * (1 - worn.ambient)) * as_f32(soft)
    return direct * (1 - np.float32(0.8) * as_f32(crevice))


def _bumps(worn: MaskParameters, grid: Grid, rng: np.random.Generator) -> tuple[F32, F32]:
    """[g, g] slopes of uneven casting: two independent smooth noises."""
    cells = int(np.clip(grid.count * grid.mm_per_px / worn.bump_mm * 2, 4, grid.count))
    noise = rng.standard_normal((cells, cells, 2), dtype=np.float32) * np.float32(worn.bump_slope)
    size = (grid.count, grid.count)
    smooth = as_f32(cv2.resize(noise, size, interpolation=cv2.INTER_CUBIC))
    return np.ascontiguousarray(smooth[..., 0]), np.ascontiguousarray(smooth[..., 1])


def _rounded_edge(shape: Outline, worn: MaskParameters, grid: Grid) -> tuple[F32, F32]:
    """[g, g] slopes of the wall's rounded edge, outward over the last `rim_mm` of material."""
    fall = np.clip(1 - shape.material / np.float32(worn.rim_mm), 0, 1) * np.float32(1.4)
    scale = 1 / (8 * grid.mm_per_px)
    border = cv2.BORDER_REPLICATE
    across = cv2.Sobel(shape.material, cv2.CV_32F, 1, 0, ksize=3, scale=scale, borderType=border)
    down = cv2.Sobel(shape.material, cv2.CV_32F, 0, 1, ksize=3, scale=scale, borderType=border)
    return as_f32(-fall * across), as_f32(-fall * down)


def _ellipse(x: F32, y: F32, half_mm: tuple[float, float], power: float) -> F32:
    """[g, g] signed distance, negative inside, exact on the outline and to first order near it."""
    a, b = half_mm
    share_x, share_y = np.abs(x) * np.float32(1 / a), np.abs(y) * np.float32(1 / b)
    px, py = (as_f32(cv2.pow(part, power - 1)) for part in (share_x, share_y))
    level = px * share_x + py * share_y  # 1 on the outline
    rho = as_f32(cv2.pow(level, 1 / power))
    steep = as_f32(cv2.magnitude(px * np.float32(1 / a), py * np.float32(1 / b)))
    steep = steep * as_f32(cv2.pow(np.maximum(rho, np.float32(1e-3)), 1 - power))
    return (rho - 1) / np.maximum(steep, np.float32(1e-4))


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
