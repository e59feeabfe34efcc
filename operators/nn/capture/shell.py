"""The shape of a face mask: a smooth head with brow, sockets, nose, lips and chin, laid on a face.

Heights are millimetres towards the camera over the plane of a mean face (x right, y down, origin
between the eyes). Sizes: Farkas, Anthropometry of the Head and Face (1994): face 130 to 140 mm
wide, nose 19 to 21 mm high and 33 to 36 mm wide, lips 50 mm. The surface is laid on five points of
a face by the thin-plate spline of Bookstein, IEEE TPAMI 11/6 (1989). Inferred, ours: a sum of
Gaussians on an ellipsoid; a 468-point mesh has no triangles here, and shading needs normals alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from operators.nn.capture.geometry import EYE_DISTANCE_MM, MEAN_FACE, Face, View
from operators.nn.capture.light import F32, F64
from operators.nn.capture.pixels import as_f32

STEP_MM = 0.75  # of the height map
LEFT_MM, TOP_MM = -120.0, -130.0
WIDTH, HEIGHT = 321, 381  # cells: to 120 and 155 mm
HEAD_MM = (78.0, 118.0, 78.0)  # half axes of the head
HEAD_MIDDLE_Y_MM = 22.0
# Height, middle x, y, deviation x, y, all mm. Mirrored where x is not 0.
RELIEF = (
    (7.0, 0.0, 20.0, 4.5, 15.0),  # bridge of the nose
    (14.0, 0.0, 35.0, 7.0, 9.0),  # its tip
    (5.0, 10.0, 40.0, 4.5, 4.5),  # its wings
    (4.5, 20.0, -15.0, 17.0, 6.0),  # brows
    (-8.0, 30.0, 1.0, 13.0, 8.0),  # sockets
    (4.0, 37.0, 32.0, 16.0, 14.0),  # cheeks
    (4.0, 0.0, 68.5, 16.0, 3.5),  # upper lip
    (4.5, 0.0, 77.5, 14.0, 4.0),  # lower lip
    (-3.0, 0.0, 72.8, 20.0, 1.6),  # between them
    (-2.5, 0.0, 88.0, 15.0, 5.0),  # under them
    (6.0, 0.0, 105.0, 14.0, 11.0),  # chin
)
SPLINE_CELL_PX = 8


@dataclass(frozen=True)
class Grid:
    """A view at about half its resolution, for what is smooth."""

    count: int
    matrix: F64  # [2, 3] grid pixels -> source pixels
    mm_per_px: float  # on a life-size face

    @staticmethod
    def of(face: Face, view: View) -> Grid:
        """Half as many pixels along a side; their centres lie where `enlarge` puts them."""
        count = (view.count + 1) // 2
        ratio = view.count / count
        turn = view.matrix[:, :2] * ratio
        shift = view.matrix[:, 2] + view.matrix[:, :2] @ np.full(2, (ratio - 1) / 2)
        scale = float(np.sqrt(abs(np.linalg.det(turn)))) * EYE_DISTANCE_MM / face.eye_px
        return Grid(count, np.column_stack([turn, shift]), scale)


def enlarge(grid_map: F32, count: int) -> F32:
    """[g, g] or [g, g, C] -> [count, count, ...]."""
    return as_f32(cv2.resize(grid_map, (count, count), interpolation=cv2.INTER_LINEAR))


def face_mm(face: Face, grid: Grid) -> tuple[F32, F32]:
    """Two [g, g] maps: where on the mean face (mm) each grid pixel lies."""
    cells = -(-grid.count // SPLINE_CELL_PX) + 2  # one more at each side: enlarging needs them
    line = (np.arange(cells) - 1 + 0.5) * SPLINE_CELL_PX - 0.5
    x, y = np.meshgrid(line, line)
    at = np.stack([x.ravel(), y.ravel(), np.ones(x.size)], axis=1) @ grid.matrix.T
    mapped = spline(face.points, MEAN_FACE, at).reshape(cells, cells, 2).astype(np.float32)
    size = (cells * SPLINE_CELL_PX, cells * SPLINE_CELL_PX)
    smooth = as_f32(cv2.resize(mapped, size, interpolation=cv2.INTER_CUBIC))
    inner = slice(SPLINE_CELL_PX, SPLINE_CELL_PX + grid.count)
    x, y = cv2.split(np.ascontiguousarray(smooth[inner, inner]))
    return as_f32(x), as_f32(y)


def spline(source: F64, target: F64, at: F64) -> F64:
    """[N, 2] images of `at` under the thin-plate spline that takes `source` [K, 2] to `target`.

    Falls back on the least-squares affine map where the points leave the spline undetermined.
    """
    unit = float(np.linalg.norm(source - source.mean(axis=0), axis=1).mean())
    knots, places = source / unit, at / unit
    count = len(knots)
    affine = np.column_stack([np.ones(count), knots])
    system = np.zeros((count + 3, count + 3))
    system[:count, :count] = _bend(knots, knots)
    system[:count, count:], system[count:, :count] = affine, affine.T
    wanted = np.vstack([target, np.zeros((3, 2))])
    weights, *_ = np.linalg.lstsq(system, wanted, rcond=1e-9)
    lifted = np.column_stack([_bend(places, knots), np.ones(len(places)), places])
    images: F64 = lifted @ weights
    return images


def slopes(x_mm: F32, y_mm: F32, relief: float, facet_mm: float) -> tuple[F32, F32]:
    """[g, g] dz/dx and dz/dy of the shell; `relief` scales it, folded flat every `facet_mm` if > 0.

    The head ends at its outline: beyond, slopes stay as steep as there.
    """
    shape = _folded(round(facet_mm, 1)) if facet_mm > 0 else _smooth_slopes()
    column = (x_mm - np.float32(LEFT_MM)) * np.float32(1 / STEP_MM)
    row = (y_mm - np.float32(TOP_MM)) * np.float32(1 / STEP_MM)
    border = cv2.BORDER_REPLICATE
    both = as_f32(cv2.remap(shape, column, row, cv2.INTER_LINEAR, borderMode=border))
    both *= np.float32(relief)
    return np.ascontiguousarray(both[..., 0]), np.ascontiguousarray(both[..., 1])


def fold_distance(x_mm: F32, y_mm: F32, facet_mm: float) -> F32:
    """[g, g] mm to the nearest fold of a shell of flat triangles, capped at 5."""
    column = (x_mm - np.float32(LEFT_MM)) * np.float32(1 / facet_mm)
    row = (y_mm - np.float32(TOP_MM)) * np.float32(1 / facet_mm)
    line = np.minimum(np.abs(column - np.rint(column)), np.abs(row - np.rint(row)))
    both = column + row
    slant = np.abs(both - np.rint(both)) * np.float32(math.sqrt(0.5))
    return as_f32(np.minimum(np.minimum(line, slant) * np.float32(facet_mm), 5))


@lru_cache(maxsize=1)
def heights() -> F32:
    """[381, 321] z in mm, every 0.75 mm from (-120, -130)."""
    x, y = np.meshgrid(LEFT_MM + STEP_MM * np.arange(WIDTH), TOP_MM + STEP_MM * np.arange(HEIGHT))
    a, b, c = HEAD_MM
    share = (np.abs(x) / a) ** 2.4 + (np.abs(y - HEAD_MIDDLE_Y_MM) / b) ** 2.4
    z = c * np.sqrt(np.maximum(1 - share, 0.02))
    for height, middle_x, middle_y, wide_x, wide_y in RELIEF:
        for side in (1.0, -1.0) if middle_x else (1.0,):
            across = ((x - side * middle_x) / wide_x) ** 2 + ((y - middle_y) / wide_y) ** 2
            z += height * np.exp(-0.5 * across)
    return as_f32(z)


@lru_cache(maxsize=1)
def _smooth_slopes() -> F32:
    down, across = np.gradient(heights(), STEP_MM)
    return as_f32(np.clip(np.stack([across, down], axis=-1), -2.5, 2.5))


@lru_cache(maxsize=16)
def _folded(facet_mm: float) -> F32:
    """Slopes of flat triangles between heights at every `facet_mm`: a mask folded from card."""
    step = facet_mm / STEP_MM
    row, column = np.mgrid[0:HEIGHT, 0:WIDTH] / step
    i, j = np.floor(row).astype(int), np.floor(column).astype(int)
    z = as_f32(cv2.GaussianBlur(heights(), (0, 0), step / 5))

    def corner(down: int, right: int) -> F32:
        at_row = np.clip(np.rint((i + down) * step).astype(int), 0, HEIGHT - 1)
        at_column = np.clip(np.rint((j + right) * step).astype(int), 0, WIDTH - 1)
        return as_f32(z[at_row, at_column])

    upper = (row - i) + (column - j) < 1
    across = np.where(upper, corner(0, 1) - corner(0, 0), corner(1, 1) - corner(1, 0)) / facet_mm
    down = np.where(upper, corner(1, 0) - corner(0, 0), corner(1, 1) - corner(0, 1)) / facet_mm
    return as_f32(np.clip(np.stack([across, down], axis=-1), -2.5, 2.5))


def _bend(places: F64, knots: F64) -> F64:
    """[N, K] r^2 log r^2, the energy of a bent thin plate."""
    r2 = ((places[:, None] - knots[None]) ** 2).sum(axis=2)
    bent: F64 = r2 * np.log(np.maximum(r2, math.ulp(1.0)))
    return bent
