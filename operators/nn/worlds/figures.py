"""Figures seen from the side: how a walker's legs and arms are held, and how they are drawn.

A leg swings about the hip as A sin(phase), where sin A = stride / (4 leg): the standing foot then
covers half a stride under the body, as it must; the knee bends while the leg swings forward. The
body is as high as the longer leg allows. Lengths are in heights of the walker.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from operators.nn.worlds.spec import F32, U8
from operators.nn.worlds.sprites import blend, box_around, reduced, shade
from operators.nn.worlds.textures import rgb

THIGH, SHIN, TORSO, HEAD = 0.25, 0.24, 0.3, 0.075
UPPER_ARM, FOREARM = 0.17, 0.16
SHOE = rgb(40, 34, 32)
TALL_PX = 60  # from there on drawing twice as fine is enough
BITS = 3  # behind the point in OpenCV's coordinates
Point = tuple[float, float]


@dataclass(frozen=True)
class Dress:
    """What tells one walker from another."""

    kind: str
    texture: str
    skin: F32  # [3] sRGB, as all
    top: F32
    second: F32  # of the top's pattern, hat and bag; the hair is darker
    trousers: F32


class Pen:
    """Draws forward and up from the point of the floor under the hip, in heights of the walker."""

    def __init__(self, canvas: U8, foot_px: Point, tall_px: float, facing: int) -> None:
        self._canvas, self._tall, self._facing = canvas, tall_px, facing
        self._foot = foot_px

    def line(self, points: Sequence[Point], wide: float, paint: F32) -> None:
        px, thick = self._px(points), max(1, round(wide * self._tall))
        for k in range(len(px) - 1):
            cv2.line(self._canvas, px[k], px[k + 1], _ink(paint), thick, cv2.LINE_8, BITS)

    def dot(self, centre: Point, radius: float, paint: F32) -> None:
        (place,) = self._px([centre])
        size = round(radius * self._tall * (1 << BITS))
        cv2.circle(self._canvas, place, size, _ink(paint), cv2.FILLED, cv2.LINE_8, BITS)

    def fill(self, points: Sequence[Point], paint: F32) -> None:
        corners = np.array(self._px(points), np.int32)
        cv2.fillPoly(self._canvas, [corners], _ink(paint), cv2.LINE_8, BITS)

    def _px(self, points: Sequence[Point]) -> list[tuple[int, int]]:
        (x, y), one = self._foot, 1 << BITS
        return [
            (round((x + self._facing * dx * self._tall) * one), round((y - dy * self._tall) * one))
            for dx, dy in points
        ]


@dataclass(frozen=True)
class Stance:
    """Where and how somebody stands at one moment."""

    foot_px: Point  # the point of the floor under the hip, array coordinates of the frame
    tall_px: float
    phase: float  # rad, of the gait
    stride: float  # heights
    facing: int  # 1 to the right, -1 to the left


def draw_figure(frame: U8, dress: Dress, stance: Stance, mask: U8 | None, number: int) -> None:
    """A walker with a soft shadow into [H, W, 3]; `mask` becomes `number` where he covers it."""
    (x, y), tall = stance.foot_px, stance.tall_px
    shade(frame, (x, y + 0.01 * tall), (0.2 * tall, 0.045 * tall), 0.5)
    box = box_around(frame, (x, y - tall / 2), (0.45 * tall + 1, 0.56 * tall + 1))
    if box is None:
        return
    finer = 2 if tall > TALL_PX else 4
    rows, columns = box
    size = (rows.stop - rows.start) * finer, (columns.stop - columns.start) * finer
    canvas = np.zeros((*size, 4), np.uint8)
    foot = (x - columns.start + 0.5) * finer - 0.5, (y - rows.start + 0.5) * finer - 0.5
    _figure(Pen(canvas, foot, tall * finer, stance.facing), dress, stance)
    rgba = reduced(canvas.astype(np.float32), finer)
    blend(frame, box, rgba[..., :3], rgba[..., 3:] / np.float32(255))
    if mask is not None:
        mask[box][rgba[..., 3] > 127] = number


def _figure(pen: Pen, dress: Dress, stance: Stance) -> None:
    legs = [leg(stance.phase + shift, stance.stride) for shift in (math.pi, 0.0)]
    hip = max(_lowest(points) for points in legs)
    shoulder, swing = (0.02, hip + TORSO - 0.04), 0.7 * math.sin(stance.phase)
    pen.line(_arm(shoulder, swing), 0.05, dress.top * np.float32(0.7))
    for points, gain in zip(legs, (0.7, 1.0), strict=True):
        placed = [(dx, hip - dy) for dx, dy in points]
        pen.line(placed[:3], 0.075, dress.trousers * np.float32(gain))
        pen.line(placed[2:], 0.05, SHOE)
    if dress.kind == "carrier":
        pen.line([(-0.11, hip + 0.08), (-0.11, hip + 0.24)], 0.13, dress.second * np.float32(0.8))
    if dress.kind == "hatted":
        low, high = hip - 0.16, hip + 0.05
        pen.fill([(-0.12, low), (0.13, low), (0.06, high), (-0.06, high)], dress.top)
    pen.line([(0.0, hip + 0.03), (0.03, hip + TORSO - 0.05)], 0.15, dress.top)
    _pattern(pen, dress, hip)
    pen.line(_arm(shoulder, -swing), 0.05, dress.top * np.float32(0.88))
    _head(pen, dress, hip + TORSO)


def _head(pen: Pen, dress: Dress, neck: float) -> None:
    x, y = 0.045, neck + 0.07
    pen.line([(0.03, neck), (x, y)], 0.05, dress.skin)
    pen.dot((x, y), HEAD, dress.skin)
    pen.dot((x - 0.036, y + 0.03), HEAD * 0.72, dress.second * np.float32(0.35))
    if dress.kind == "hatted":
        pen.line([(x - 0.12, y + 0.05), (x + 0.12, y + 0.05)], 0.03, dress.second)
        pen.line([(x, y + 0.06), (x, y + 0.1)], 0.1, dress.second)


def _pattern(pen: Pen, dress: Dress, hip: float) -> None:
    if dress.texture == "halved":
        pen.line([(0.0, hip + 0.02), (0.012, hip + 0.1)], 0.15, dress.second)
    elif dress.texture == "banded":
        for up in (0.02, 0.11, 0.2):
            pen.line([(-0.05, hip + up), (0.07, hip + up)], 0.035, dress.second)
    elif dress.texture == "sashed":
        pen.line([(-0.05, hip + 0.22), (0.07, hip + 0.02)], 0.045, dress.second)


def leg(phase: float, stride: float) -> list[Point]:
    """Hip, knee, ankle, toe: forward and down from the hip."""
    reach = math.asin(min(0.9, stride / (4 * (THIGH + SHIN))))
    hip = reach * math.sin(phase)
    knee = hip - 0.9 * max(0.0, math.cos(phase)) ** 1.5  # bent while it swings forward
    x, y = THIGH * math.sin(hip), THIGH * math.cos(hip)
    ankle = (x + SHIN * math.sin(knee), y + SHIN * math.cos(knee))
    tip = 0.5 * (hip + knee)
    toe = (ankle[0] + 0.085 * math.cos(tip), ankle[1] - 0.085 * math.sin(tip))
    return [(0.0, 0.0), (x, y), ankle, toe]


def _lowest(points: Sequence[Point]) -> float:
    return max(down for _, down in points) + 0.02


def _arm(shoulder: Point, swing: float) -> list[Point]:
    x, y = shoulder
    elbow = (x + UPPER_ARM * math.sin(swing), y - UPPER_ARM * math.cos(swing))
    bent = swing + 0.35
    hand = (elbow[0] + FOREARM * math.sin(bent), elbow[1] - FOREARM * math.cos(bent))
    return [shoulder, elbow, hand]


def _ink(paint: F32) -> list[float]:
    return [*(float(c) for c in paint), 255.0]
