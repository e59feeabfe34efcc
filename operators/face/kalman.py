"""Constant-velocity Kalman filter of a box: where it will be, and how sure that is."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
POSITION_SD = 0.05  # of the box height, per observation
VELOCITY_SD = 0.5  # of the box height, per second, how fast the velocity may change


class BoxFilter:
    """State: centre x, y, width, height and their velocities per second."""

    def __init__(self, box: F64) -> None:
        size = max(box[3] - box[1], 1.0)
        self.mean: F64 = np.concatenate([to_centre(box), np.zeros(4)])
        spread = np.array([POSITION_SD] * 4 + [2 * VELOCITY_SD] * 4) * size
        self.covariance: F64 = np.diag(spread**2)

    def predict(self, seconds: float) -> F64:
        """Move on in time; the expected box."""
        transition = np.eye(8)
        transition[:4, 4:] = np.eye(4) * seconds
        size = max(self.mean[3], 1.0)
        noise = np.array([POSITION_SD] * 4 + [VELOCITY_SD] * 4) * size * max(seconds, 1e-3)
        self.mean = transition @ self.mean
        self.mean[2:4] = np.maximum(self.mean[2:4], 1.0)
        self.covariance = transition @ self.covariance @ transition.T + np.diag(noise**2)
        return self.box

    def update(self, box: F64) -> None:
        """Take an observation in."""
        size = max(self.mean[3], 1.0)
        noise = np.eye(4) * (POSITION_SD * size) ** 2
        gain: Any = np.linalg.solve(self.covariance[:4, :4] + noise, self.covariance[:4]).T
        self.mean = self.mean + gain @ (to_centre(box) - self.mean[:4])
        self.covariance = self.covariance - gain @ self.covariance[:4]

    @property
    def box(self) -> F64:
        centre, half = self.mean[:2], self.mean[2:4] / 2
        return np.concatenate([centre - half, centre + half])


def to_centre(box: F64) -> F64:
    """Left, top, right, bottom -> centre x, y, width, height."""
    return np.array(
        [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]]
    )
