"""What is around a print or a panel: the room behind, the shadow at an edge, a thumb, shading."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from operators.nn.capture.geometry import OVERSAMPLING, Face, Surface, View, as_f32
from operators.nn.capture.light import F32, LightParameters

ROOM_PX = 24  # the room behind is out of focus: it is kept this small
THUMB_EYES = 0.17  # half width of a thumb (11 mm) by the distance of a life-size face's eyes


@dataclass(frozen=True)
class Layers:
    """A scene by where its light comes from; [n, n, 3] radiance, white in room light = 1."""

    reflected: F32  # takes the lamp's colour, fall-off and flicker
    emitted: F32 | None  # a panel's own light


def lambert(sheet: Surface, light: LightParameters) -> F32:
    """[n, n] cosine of the lamp's angle of incidence by that on a facing sheet, 0.02 to 2."""
    x, y, z = light.direction()
    steep = (sheet.slope_x * np.float32(x) + sheet.slope_y * np.float32(y)) * np.float32(1 / z)
    return as_f32(np.clip(1 + steep, 0.02, 2.0))


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
    gains = np.exp(rng.normal(0, 0.5, (5, 5, 1))).astype(np.float32)
    uneven = cv2.resize(gains, (ROOM_PX, ROOM_PX), interpolation=cv2.INTER_NEAREST)
    scene = np.maximum(as_f32(big), 0.01) * as_f32(uneven)[..., None]
    return as_f32(np.clip(cv2.GaussianBlur(scene, (0, 0), 1.0), 0.005, 1.5))


def backdrop(face: Face, view: View, seed: int) -> F32:
    """[n, n, 3] the room behind the object."""
    size = (view.count, view.count)
    return as_f32(cv2.resize(room(face, seed), size, interpolation=cv2.INTER_CUBIC))


def contact_shadow(cover: F32, view: View) -> F32:
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
    rng = np.random.default_rng([seed, 78])
    radius = THUMB_EYES * 63.0
    reach = float(rng.uniform(1.0, 2.2)) * radius
    along = float(rng.uniform(-0.6, 0.6))
    side = int(rng.integers(3))  # right, left, bottom
    if side < 2:
        sign = 1.0 if side == 0 else -1.0
        tip, root = (sign * (edge[0] - reach), along * edge[1]), (sign * (edge[0] + 90), edge[1])
    else:
        tip, root = (along * edge[0], edge[1] - reach), (along * edge[0], edge[1] + 90)
    off, out = _capsule(sheet, tip, root)
    across = np.clip(off / np.float32(radius), 0, 1)
    round_light = np.sqrt(np.maximum(1 - across * across, 0)) * np.float32(0.75) + np.float32(0.25)
    sharp = np.float32(OVERSAMPLING / sheet.mm_per_sensor_px)
    cover = np.clip((np.float32(radius) - off) * sharp + np.float32(0.5), 0, 1)[..., None]
    shade = 1 - np.float32(0.5) * np.clip(np.float32(1.35) - out / np.float32(radius), 0, 1)
    skin = skin_colour(face) * np.array([1.08, 0.97, 0.93], np.float32)
    held = lit * shade[..., None]
    return held + cover * (round_light[..., None] * skin - held), cover[..., 0]


def _capsule(
    sheet: Surface, tip: tuple[float, float], root: tuple[float, float]
) -> tuple[F32, F32]:
    """[n, n] distance from the capsule's axis, and the same a little aside (for its shadow)."""
    axis = np.array([root[0] - tip[0], root[1] - tip[1]])
    length2 = float(axis @ axis)
    maps = []
    for aside in (0.0, 2.5):
        x = sheet.x_mm - np.float32(tip[0] + aside)
        y = sheet.y_mm - np.float32(tip[1] + aside)
        share = np.clip(x * np.float32(axis[0] / length2) + y * np.float32(axis[1] / length2), 0, 1)
        dx, dy = x - share * np.float32(axis[0]), y - share * np.float32(axis[1])
        maps.append(as_f32(cv2.magnitude(dx, dy)))
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
