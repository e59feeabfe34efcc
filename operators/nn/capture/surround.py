"""What is around a print or a panel: the room behind, the shadow at an edge, a thumb, shading."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from operators.nn.capture.geometry import OVERSAMPLING, Face, Surface, View
from operators.nn.capture.light import F32, LightParameters
from operators.nn.capture.pixels import as_f32, over, times

ROOM_PX = 24  # the room behind is out of focus: it is kept this small
THUMB_MM = 9.5  # half width of a thumb: Greiner, Hand Anthropometry (1991), 19 to 23 mm wide
HAND_TINT: F32 = np.array([1.08, 0.97, 0.93], np.float32)  # hands are redder than cheeks


@dataclass(frozen=True)
class Layers:
    """A scene by where its light comes from; [n, n, 3] radiance, white in room light = 1."""

    reflected: F32  # takes the lamp's colour, fall-off and flicker
    emitted: F32 | None  # a panel's own light


def lambert(sheet: Surface, light: LightParameters) -> F32:
    """[n, n] light on the sheet by that on one that faces the camera: cosine law and ambient."""
    x, y, z = light.direction()
    steep = (sheet.slope_x * np.float32(x) + sheet.slope_y * np.float32(y)) * np.float32(1 / z)
    ambient = np.float32(light.ambient)
    return ambient + (1 - ambient) * as_f32(np.clip(1 + steep, 0, 2))


def box_cover(sheet: Surface, box_mm: tuple[float, float, float, float]) -> F32:
    """[n, n] 1 inside left, top, right, bottom on the sheet, 0 outside, soft by one view pixel."""
    left, top, right, bottom = (np.float32(side) for side in box_mm)
    sharp = np.float32(OVERSAMPLING / sheet.mm_per_sensor_px)
    inside = np.minimum(sheet.x_mm - left, right - sheet.x_mm)
    np.minimum(inside, sheet.y_mm - top, out=inside)
    np.minimum(inside, bottom - sheet.y_mm, out=inside)
    return as_f32(np.clip(inside * sharp + np.float32(0.5), 0, 1))


def room(face: Face, seed: int) -> F32:
    """[24, 24, 3] a room out of focus: the source's outer parts, mixed up, lighter and darker.

    Made of the source itself, so that its colours tell nothing about the kind of capture.
    """
    rng = np.random.default_rng([seed, 77])
    small = as_f32(cv2.resize(face.linear, (ROOM_PX, ROOM_PX), interpolation=cv2.INTER_AREA))
    rim = np.concatenate([small[:5], small[-2:], small[:, :4].swapaxes(0, 1)], axis=0)
    picked = rim[rng.integers(len(rim), size=(4, 4)), rng.integers(ROOM_PX, size=(4, 4))]
    big = cv2.resize(as_f32(picked), (ROOM_PX, ROOM_PX), interpolation=cv2.INTER_CUBIC)
    gains = np.exp(rng.normal(-0.2, 0.35, (5, 5, 1))).astype(np.float32)
    uneven = cv2.resize(gains, (ROOM_PX, ROOM_PX), interpolation=cv2.INTER_NEAREST)
    scene = np.maximum(as_f32(big), 0.01) * as_f32(uneven)[..., None]
    return as_f32(np.clip(cv2.GaussianBlur(scene, (0, 0), 1.2), 0.005, 0.9))


def backdrop(face: Face, view: View, seed: int, cover: F32) -> F32:
    """[n, n, 3] the room behind an object, in its shadow; `cover` [n, n] is 1 on the object."""
    size = (view.count, view.count)
    behind = as_f32(cv2.resize(room(face, seed), size, interpolation=cv2.INTER_CUBIC))
    return times(behind, _edge_shadow(cover, view))


def _edge_shadow(cover: F32, view: View) -> F32:
    """[n, n] share of light that reaches what is behind an object's edge."""
    small = cv2.resize(cover, (96, 96), interpolation=cv2.INTER_AREA)
    soft = cv2.GaussianBlur(small, (0, 0), 3.0)
    size = (view.count, view.count)
    return 1 - np.float32(0.45) * as_f32(cv2.resize(soft, size, interpolation=cv2.INTER_LINEAR))


def thumb(
    face: Face, sheet: Surface, lit: F32, edge: tuple[float, float], seed: int
) -> tuple[F32, F32]:
    """A thumb over one edge of the sheet (half sides `edge`, mm): a lit capsule of skin colour.

    Returns the scene with it, and [n, n] where it is. Its width is that of a hand, whatever the
    size of the face on the sheet.
    """
    tip, root = _thumb_axis(edge, np.random.default_rng([seed, 78]))
    radius = THUMB_MM
    where = _near(sheet, tip, root, radius)
    cover = np.zeros(sheet.x_mm.shape, np.float32)
    if where is None:
        return lit, cover
    off, aside = _capsule(sheet, tip, root, where)
    across = np.minimum(off / np.float32(radius), 1)
    bulge = np.sqrt(1 - across * across) * np.float32(0.75) + np.float32(0.25)
    sharp = np.float32(OVERSAMPLING / sheet.mm_per_sensor_px)
    cover[where] = np.clip((np.float32(radius) - off) * sharp + np.float32(0.5), 0, 1)
    shade = 1 - np.float32(0.5) * np.clip(np.float32(1.35) - aside / np.float32(radius), 0, 1)
    flesh = as_f32(cv2.merge([bulge * part for part in skin_colour(face) * HAND_TINT]))
    below = times(np.ascontiguousarray(lit[where]), as_f32(shade))
    lit[where] = over(below, flesh, np.ascontiguousarray(cover[where]))
    return lit, cover


def _thumb_axis(
    edge: tuple[float, float], rng: np.random.Generator
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Tip and root of a thumb that reaches 1 to 8 mm over one edge, below the eyes."""
    outside = THUMB_MM * float(rng.uniform(0.2, 0.9))
    along = float(rng.uniform(0.1, 0.9))
    side = int(rng.integers(3))  # right, left, bottom
    if side == 2:
        tip = (along * edge[0], edge[1] + outside)
        return tip, (along * edge[0] + 30, edge[1] + 60)
    sign = 1.0 if side == 0 else -1.0
    tip = (sign * (edge[0] + outside), along * edge[1])
    return tip, (sign * (edge[0] + 60), along * edge[1] + 45)


def _near(
    sheet: Surface, tip: tuple[float, float], root: tuple[float, float], radius: float
) -> tuple[slice, slice] | None:
    """Rows and columns of the view that a thumb and its shadow can touch."""
    step = 8
    coarse = (slice(None, None, step), slice(None, None, step))
    off, _ = _capsule(sheet, tip, root, coarse)
    rows, columns = np.nonzero(off < 1.6 * radius + step * sheet.mm_per_sensor_px)
    if not len(rows):
        return None
    low_row, high_row = int(rows.min()) - 1, int(rows.max()) + 2
    low_column, high_column = int(columns.min()) - 1, int(columns.max()) + 2
    return (
        slice(max(low_row, 0) * step, high_row * step),
        slice(max(low_column, 0) * step, high_column * step),
    )


def _capsule(
    sheet: Surface, tip: tuple[float, float], root: tuple[float, float], where: tuple[slice, slice]
) -> tuple[F32, F32]:
    """Distance from the capsule's axis, and the same a little aside (for its shadow)."""
    axis = np.array([root[0] - tip[0], root[1] - tip[1]])
    unit_x, unit_y = (np.float32(part) for part in axis / float(axis @ axis))
    maps = []
    for aside in (0.0, 2.5):
        x = sheet.x_mm[where] - np.float32(tip[0] + aside)
        y = sheet.y_mm[where] - np.float32(tip[1] + aside)
        share = np.clip(x * unit_x + y * unit_y, 0, 1)
        x, y = x - share * np.float32(axis[0]), y - share * np.float32(axis[1])
        maps.append(as_f32(cv2.magnitude(x, y)))
    return maps[0], maps[1]


def skin_colour(face: Face) -> F32:
    """[3] colour of the cheeks, between eyes and mouth corners."""
    cheeks = (face.points[:2] + face.points[3:]) / 2
    reach = max(int(face.eye_px * 0.12), 1)
    height, width = face.linear.shape[:2]
    patches = []
    for x, y in np.rint(cheeks).astype(int):
        left, top = (
            int(np.clip(x, reach, width - reach - 1)),
            int(np.clip(y, reach, height - reach - 1)),
        )
        patch = face.linear[top - reach : top + reach + 1, left - reach : left + reach + 1]
        patches.append(np.median(patch.reshape(-1, 3), axis=0))
    return as_f32(np.mean(patches, axis=0))
