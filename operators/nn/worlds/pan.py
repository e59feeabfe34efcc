"""`pan`: a camera glides, turns and zooms over a photograph or a drawn landscape.

Scene coordinates are in heights of the picture, (0, 0) its upper left corner: times the height of
a photograph, less 0.5, they are its pixels. Each of the camera's four numbers is a sum of two
sines, so that it is smooth, never leaves the picture and never ends.

Photographs come from the caller; PHOTOGRAPHS names those of `skimage.data` that scikit-image ships
in its wheel and calls public domain (astronaut and hubble_deep_field, NASA; rocket, SpaceX) or CC0
(coffee by Michetti, chelsea by van der Walt, camera by Varshney; brick, gravel and grass from
CC0Textures), and keeps the splits apart. The last four are grey: repeat them over three channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from operators.nn.worlds.landscapes import LANDSCAPES, draw_landscape
from operators.nn.worlds.spec import F64, U8, ClipSpec, Split, Truth
from operators.nn.worlds.sprites import FINER

_TRAIN = ("astronaut", "coffee", "brick", "gravel", "hubble_deep_field")
PHOTOGRAPHS: Mapping[Split, tuple[str, ...]] = {
    "train": _TRAIN,
    "validation": _TRAIN,
    "development": ("chelsea", "grass"),
    "test": ("rocket", "camera"),
}
VIEW = (0.4, 0.62)  # height of what is seen / of the largest view that fits
WIDER = 1.5  # a drawing than the frame
LARGEST_DRAWING_PX = 640  # high; beyond it only becomes softer
TURN_RAD = 0.05
PERIODS_S = (4.0, 13.0)
WAVES = 4  # across, down, zoom, turn


class PanWorld:
    """See `World`; there are no objects, only `Truth.camera`."""

    def __init__(self, spec: ClipSpec, photographs: Sequence[U8] = ()) -> None:
        self._spec = spec
        rng = spec.generator("scene")
        fine = round(spec.height * FINER / VIEW[1])  # at the widest view nothing is left out
        if len(photographs):
            index = int(rng.integers(len(photographs)))
            self._scene, picture = f"photograph {index}", photographs[index]
            fit = min(1.0, picture.shape[1] / picture.shape[0] / spec.aspect)
            self._picture = _no_finer(picture, round(fine / fit))
        else:
            styles = LANDSCAPES[spec.split]
            self._scene = styles[rng.integers(len(styles))]
            high = min(fine, LARGEST_DRAWING_PX)
            self._picture = draw_landscape(
                self._scene, round(high * spec.aspect * WIDER), high, rng
            )
        self._wide = self._picture.shape[1] / self._picture.shape[0]
        widest = VIEW[1] * min(1.0, self._wide / spec.aspect) * self._picture.shape[0]
        self._finer = FINER if widest > 1.2 * spec.height else 1  # else the picture is the coarser
        camera = spec.generator("camera")
        self._rates: F64 = 2 * np.pi / camera.uniform(*PERIODS_S, (WAVES, 2))  # rad/s
        self._phases: F64 = camera.uniform(0, 2 * np.pi, (WAVES, 2))
        self._shares: F64 = camera.uniform(0.25, 0.75, WAVES)

    def render(self, time_s: float, mask: U8 | None = None) -> U8:
        height, width = self._spec.height, self._spec.width
        # Into the finer frame: pixel centres move by half a pixel at either end.
        to_scene = np.array([(1.0, 0.0, 0.5), (0.0, 1.0, 0.5), (0.0, 0.0, self._picture.shape[0])])
        matrix = self.camera(time_s) @ (to_scene / self._picture.shape[0])
        matrix *= self._finer
        matrix[:, 2] += (self._finer - 1) / 2
        size = width * self._finer, height * self._finer
        fine = cv2.warpAffine(self._picture, matrix, size, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(
            cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8
        )

    def camera(self, time_s: float) -> F64:
        """[2, 3]: scene -> frame px."""
        waves = np.sin(self._rates * time_s + self._phases)
        across, down, zoom, turn = self._shares * waves[:, 0] + (1 - self._shares) * waves[:, 1]
        aspect = self._spec.aspect
        view = min(1.0, self._wide / aspect) * (VIEW[0] + (VIEW[1] - VIEW[0]) * (zoom + 1) / 2)
        c, s = np.cos(TURN_RAD * turn), np.sin(TURN_RAD * turn)
        free_x = self._wide - view * (aspect * c + abs(s))
        free_y = 1 - view * (c + aspect * abs(s))
        x, y = (self._wide + across * free_x) / 2, (1 + down * free_y) / 2
        scale = self._spec.height / view
        turned = scale * np.array([(c, s), (-s, c)])
        middle = np.array((self._spec.width - 1, self._spec.height - 1)) / 2
        return np.column_stack((turned, middle - turned @ (x, y)))

    def truth(self, times_s: F64, end_s: float) -> Truth:
        none = np.zeros((len(times_s), 0))
        pairs = np.zeros((len(times_s), 0, 2))
        return Truth(
            fps=self._spec.fps,
            times_s=times_s,
            centre=pairs,
            centre_px=pairs,
            size_px=none,
            velocity=pairs,
            angle=none,
            visible=none > 0,
            energy=none,
            objects=(),
            scene=self._scene,
            contacts=(),
            events=(),
            camera=np.stack([self.camera(float(t)) for t in times_s]),
        )

    def forget(self, time_s: float) -> None:
        """Nothing is kept."""


def _no_finer(picture: U8, height: int) -> U8:
    """A photograph averaged down to a height, so that looking at it does not alias."""
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ValueError(f"a photograph is [h, w, 3] uint8, not {picture.shape} {picture.dtype}")
    if picture.shape[0] <= height:
        return picture
    size = round(picture.shape[1] * height / picture.shape[0]), height
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
