"""Kalman filter of a box that moves on, slower and slower: where it will be, and how sure that is.

The velocity is the integral of white noise (Bar-Shalom et al. 2001, section 6.2.2) and fades while
nothing is observed: heads start and stop, few fly on. Everything is per second, so that the frame
rate, dropped frames and frames that nobody searched make no difference.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
# All in heights of the box. Chosen among 27 on ten clips (a still head to a moving camera) by how
# far the box expected after 1 to 7 frames without a search overlaps with the one found there.
OBSERVATION_SD = 0.02
SPEED_SD = 1.0  # per second, before anything is known
ACCELERATION = 3.0, 1.5  # per second^1.5: of the centre, of the size
FADE_S = 0.5  # after which a velocity nobody observed is down to 1/e


class BoxFilter:
    """State: centre x, y, width, height and their velocities per second."""

    def __init__(self, box: F64) -> None:
        size = max(box[3] - box[1], 1.0)
        self.mean: F64 = np.concatenate([to_centre(box), np.zeros(4)])
        spread = np.array([OBSERVATION_SD] * 4 + [SPEED_SD] * 4) * size
        self.covariance: F64 = np.diag(spread**2)

    def predict(self, seconds: float) -> F64:
        """Move on in time; the expected box."""
        left = math.exp(-seconds / FADE_S)
        transition = np.diag([1.0] * 4 + [left] * 4)
        transition[:4, 4:] = np.eye(4) * FADE_S * (1 - left)
        self.covariance = transition @ self.covariance @ transition.T + self._drift(seconds)
        self.mean = transition @ self.mean
        self.mean[2:4] = np.maximum(self.mean[2:4], 1.0)
        return self.box

    def update(self, box: F64) -> None:
        """Take an observation in."""
        noise = np.eye(4) * (OBSERVATION_SD * self._size) ** 2
        gain: Any = np.linalg.solve(self.covariance[:4, :4] + noise, self.covariance[:4]).T
        self.mean = self.mean + gain @ (to_centre(box) - self.mean[:4])
        self.mean[2:4] = np.maximum(self.mean[2:4], 1.0)
        self.covariance = self.covariance - gain @ self.covariance[:4]

    @property
    def box(self) -> F64:
        centre, half = self.mean[:2], self.mean[2:4] / 2
        return np.concatenate([centre - half, centre + half])

    @property
    def _size(self) -> float:
        return max(float(self.mean[3]), 1.0)

    def _drift(self, seconds: float) -> F64:
        """What white noise in the acceleration adds to the covariance in that time."""
        centre, size = ACCELERATION
        power = np.diag((np.array([centre, centre, size, size]) * self._size) ** 2)
        return np.block(
            [
                [power * seconds**3 / 3, power * seconds**2 / 2],
                [power * seconds**2 / 2, power * seconds],
            ]
        )


def to_centre(box: F64) -> F64:
    """Left, top, right, bottom -> centre x, y, width, height."""
    return np.array(
        [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]]
    )
