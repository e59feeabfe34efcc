"""Where things are: the source's face, the camera's view of it, a sheet or panel held before it.

A view samples the scene `OVERSAMPLING` times finer than the sensor. Everything that is finer still
(halftone dots, sub-pixels) is filtered beforehand with a Gaussian of `PREFILTER_PX`, which is part
of every lens, so that nothing folds back into the view that the lens would not let pass: at twice
the view's own limit of 1.5 cycles per sensor pixel, exp(-2 pi^2 0.3^2 3^2) = 1e-7 is left.

Coordinates: pixel centres are integers, x right, y down; millimetres on the object's surface from
the middle of the five points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from operators.nn.capture.light import F32, F64, U8, to_linear
from operators.nn.capture.pixels import as_f32, not_negative
from operators.nn.capture.ranges import Range, drawn

OVERSAMPLING = 3
PREFILTER_PX = 0.3  # of a sensor pixel
EYE_DISTANCE_MM = 63.0  # mean distance of the pupils: Dodgson, Proc. SPIE 5291 (2004)
# Right eye, left eye, nose tip, right and left mouth corner of a mean face, millimetres.
MEAN_FACE: F64 = np.array([(-31.5, 0.0), (31.5, 0.0), (0.0, 36.0), (-26.0, 72.8), (26.0, 72.8)])
MIN_SIDE_PX, MIN_EYE_PX = 32, 8.0


@dataclass(frozen=True)
class FramingParameters:
    """How the detector happened to cut the crop; one distribution for every kind of capture."""

    roll_deg: float = drawn(Range(-5, 5, "deg", "head and hand held freely", held_out=False))
    zoom: float = drawn(Range(0.94, 1.06, "1", "spread of a detector's boxes", held_out=False))
    shift_x: float = drawn(Range(-0.025, 0.025, "crop", "the same", held_out=False))
    shift_y: float = drawn(Range(-0.025, 0.025, "crop", "the same", held_out=False))


@dataclass(frozen=True)
class Face:
    """A face crop in linear light."""

    linear: F32  # [H, W, 3], in [0, 1]
    points: F64  # [5, 2] pixels: right eye, left eye, nose, right and left mouth corner
    eye_px: float  # distance of the eyes as if seen from the front

    @property
    def centre(self) -> F64:
        """[2] middle of the five points."""
        middle: F64 = self.points.mean(axis=0)
        return middle

    @staticmethod
    def of(image: U8, points: F64) -> Face:
        """From an RGB crop. ValueError for other shapes, tiny faces or points far outside."""
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"image {image.dtype} {image.shape}: uint8 [H, W, 3] is needed")
        height, width = image.shape[:2]
        if min(height, width) < MIN_SIDE_PX:
            raise ValueError(f"image {width}x{height}: sides of {MIN_SIDE_PX} px are needed")
        five = np.asarray(points, np.float64)
        if five.shape != (5, 2) or not np.isfinite(five).all():
            raise ValueError(f"points {five.shape}: five finite pairs are needed")
        if (five < -0.2 * width).any() or (five > 1.2 * np.array([width, height])).any():
            raise ValueError("the five points lie far outside the image")
        across = np.linalg.norm(five[1] - five[0])
        down = np.linalg.norm(five[3:].mean(axis=0) - five[:2].mean(axis=0))
        eye_px = float(max(across, down * EYE_DISTANCE_MM / MEAN_FACE[3, 1]))
        if eye_px < MIN_EYE_PX:
            raise ValueError(f"eyes {eye_px:.1f} px apart: {MIN_EYE_PX} are needed")
        return Face(to_linear(image), five, eye_px)


@dataclass(frozen=True)
class View:
    """The camera's square view of the source crop, finer than its sensor."""

    matrix: F64  # [2, 3] view pixels -> source pixels
    count: int  # view pixels along a side
    source_per_sensor: float  # source pixels per sensor pixel

    @staticmethod
    def of(face: Face, framing: FramingParameters, sensor_px: int) -> View:
        """The largest square of the source, rolled, zoomed and shifted."""
        height, width = face.linear.shape[:2]
        side, count = min(height, width), sensor_px * OVERSAMPLING
        angle, step = math.radians(framing.roll_deg), side / framing.zoom / count
        turn = step * np.array(
            [(math.cos(angle), -math.sin(angle)), (math.sin(angle), math.cos(angle))]
        )
        middle = np.array([(width - 1) / 2, (height - 1) / 2])
        middle += side * np.array([framing.shift_x, framing.shift_y])
        shift = middle - turn @ np.full(2, (count - 1) / 2)
        return View(np.column_stack([turn, shift]), count, step * OVERSAMPLING)

    def source_xy(self) -> tuple[F32, F32]:
        """Two [count, count] maps: where in the source each view pixel looks."""
        return _plane(self.matrix[0], self.count), _plane(self.matrix[1], self.count)

    def place(self, source_points: F64) -> F64:
        """[N, 2] source pixels -> view pixels."""
        back: F64 = (source_points - self.matrix[:, 2]) @ np.linalg.inv(self.matrix[:, :2]).T
        return back

    def look(self, picture: F32) -> F32:
        """[count, count, C] of a picture of the source's size, through cubic convolution; >= 0."""
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        border = cv2.BORDER_REFLECT_101
        size = (self.count, self.count)
        seen = cv2.warpAffine(picture, self.matrix, size, flags=flags, borderMode=border)
        return not_negative(as_f32(seen))


@dataclass(frozen=True)
class Pose:
    """How a flat object is held before the camera."""

    yaw_deg: float
    pitch_deg: float
    distance: float  # of the camera, in eye distances of the face on it
    curl_per_mm: float = 0.0  # curvature of a bent sheet, 1/mm; 0 is flat
    curl_axis_deg: float = 0.0  # direction across which it is bent


@dataclass(frozen=True)
class Surface:
    """What a view sees of a sheet or panel; all maps [count, count] float32."""

    x_mm: F32  # place on the sheet
    y_mm: F32
    slope_x: F32  # of the normal against the half of the line of sight, radians: mirrors the lamp
    slope_y: F32
    mm_per_sensor_px: float  # in the middle
    source_per_mm: float

    def rows(self, top: int, bottom: int) -> Surface:
        """Some rows of the view."""
        maps = (part[top:bottom] for part in (self.x_mm, self.y_mm, self.slope_x, self.slope_y))
        x, y, slope_x, slope_y = maps
        return Surface(x, y, slope_x, slope_y, self.mm_per_sensor_px, self.source_per_mm)

    def source_xy(self, face: Face) -> tuple[F32, F32]:
        """Where in the source picture, shown on the sheet, each view pixel looks."""
        x, y = face.centre
        scale = np.float32(self.source_per_mm)
        return self.x_mm * scale + np.float32(x), self.y_mm * scale + np.float32(y)

    def show(self, face: Face, picture: F32) -> F32:
        """[count, count, C] of a picture of the source's size that the sheet carries; >= 0."""
        return sampled(picture, *self.source_xy(face))


def surface(face: Face, view: View, pose: Pose, eye_distance_mm: float) -> Surface:
    """A sheet that carries the face, its eyes `eye_distance_mm` apart, turned by `pose`.

    Pinhole camera before the middle of the face. A bent sheet is a cylinder (developable: lengths
    along it are kept), its sagitta s^2 c / 2 taken to second order.
    """
    scale = eye_distance_mm / face.eye_px
    away = pose.distance * eye_distance_mm
    to_sheet = _rays_to_plane(pose, away) @ _view_to_mm(face, view, scale)
    over = 1 / _plane(to_sheet[2], view.count)
    x, y = _plane(to_sheet[0], view.count) * over, _plane(to_sheet[1], view.count) * over
    tilt_x = x * np.float32(0.5 / away) + np.float32(math.radians(pose.yaw_deg))
    tilt_y = y * np.float32(0.5 / away) + np.float32(math.radians(pose.pitch_deg))
    if pose.curl_per_mm:
        axis = math.radians(pose.curl_axis_deg)
        ux, uy = np.float32(math.cos(axis)), np.float32(math.sin(axis))
        bend = (x * ux + y * uy) * np.float32(pose.curl_per_mm)  # radians
        square = bend * bend
        nearer = square * np.float32(0.5 / pose.curl_per_mm / away) + np.float32(1)
        longer = square * bend * np.float32(1 / 6 / pose.curl_per_mm)
        x, y = x * nearer + longer * ux, y * nearer + longer * uy
        tilt_x, tilt_y = tilt_x + bend * ux, tilt_y + bend * uy
    per_px, per_mm = view.source_per_sensor * scale, 1 / scale
    return Surface(as_f32(x), as_f32(y), as_f32(tilt_x), as_f32(tilt_y), per_px, per_mm)


def sampled(picture: F32, x: F32, y: F32) -> F32:
    """[h, w, C] of `picture` at the source pixels `x`, `y` [h, w], by cubic convolution; >= 0."""
    border = cv2.BORDER_REFLECT_101
    return not_negative(as_f32(cv2.remap(picture, x, y, cv2.INTER_CUBIC, borderMode=border)))


def locate(x: F32, y: F32, wanted: F64, start: F64, matrix: F64) -> F64:
    """[N, 2] view pixels at which the maps `x`, `y` say `wanted`; Newton with a constant slope.

    `matrix` [2, 3] is the undistorted map, `start` [N, 2] where to begin.
    """
    back = np.linalg.inv(matrix[:, :2]).T
    found = start.copy()
    for _ in range(6):
        spots = np.clip(np.rint(found), 0, np.array(x.shape[::-1]) - 1).astype(int)
        here = np.stack([x[spots[:, 1], spots[:, 0]], y[spots[:, 1], spots[:, 0]]], axis=1)
        found = spots + (wanted - here) @ back
    return found


def _plane(row: F64, count: int) -> F32:
    """[count, count] row[0] x + row[1] y + row[2]."""
    line = np.arange(count)
    across = (row[0] * line + row[2]).astype(np.float32)
    return as_f32(across[None] + (row[1] * line).astype(np.float32)[:, None])


def _view_to_mm(face: Face, view: View, scale: float) -> F64:
    """[3, 3] view pixels -> millimetres on a sheet that faces the camera."""
    shifted = view.matrix.copy()
    shifted[:, 2] -= face.centre
    return np.vstack([shifted * scale, [0.0, 0.0, 1.0]])


def _rays_to_plane(pose: Pose, away: float) -> F64:
    """[3, 3] homography: where a ray through a point of the facing sheet meets the turned one."""
    yaw, pitch = math.radians(pose.yaw_deg), math.radians(pose.pitch_deg)
    right = np.array([math.cos(yaw), 0.0, math.sin(yaw)])
    down = np.array(
        [-math.sin(yaw) * math.sin(pitch), math.cos(pitch), math.cos(yaw) * math.sin(pitch)]
    )
    normal = np.cross(right, down)
    rays = np.diag([1.0, 1.0, away])  # through (x, y, 0) from (0, 0, -away)
    over = normal @ rays  # the ray's length is away * normal_z / over
    reach = away * normal[2]
    x_row = right @ rays * reach - right[2] * away * over
    y_row = down @ rays * reach - down[2] * away * over
    rows: F64 = np.stack([x_row, y_row, over])
    return rows
