"""What a long film is watched for: does it live, or turn grey, or to noise, or stand still?"""

from __future__ import annotations

from array import array
from typing import Annotated

import cv2
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from bench.common import quantile
from engine import Caps, Config, Frame, OpContext, Operator
from operators.ports import Yuv
from operators.video.yuv import frame_size, planes_of

F32 = npt.NDArray[np.float32]
ARRIVAL, CAPTURE, EPOCH, FIRST_STATISTIC = range(4)  # columns of `PictureNotes`
STATISTICS = ("brightness", "contrast", "colour", "detail", "motion")
LOW, HIGH = 5, 95  # percent of the early frames between which the late ones' median must lie


class PictureNotesConfig(Config, frozen=True):
    """Where the notes go."""

    path: Annotated[str, Meta(min_length=1, description=".npy file below the run's output")]


class PictureNotes(Operator[PictureNotesConfig]):
    """Passes frames on and notes of each: [N, 3 + 5] float64, arrival and capture in ns, epoch,
    `STATISTICS`.
    """

    pixels = "kept"

    def open(self, ctx: OpContext) -> None:
        self._clock = ctx.clock
        self._path = ctx.output_path(self.config.path)
        self._notes = array("d")
        self._last: F32 | None = None

    def process(self, frames: Yuv) -> Annotated[Frame, Caps(media="video", like="frames")]:
        stamp, now_ns = frames.stamp, self._clock.now_ns()
        self._last, statistics = look(frames, self._last)
        self._notes.extend((now_ns, stamp.capture_ns, stamp.epoch, *statistics))
        return frames

    def close(self) -> None:
        rows = np.array(self._notes, np.float64).reshape(-1, FIRST_STATISTIC + len(STATISTICS))
        np.save(self._path, rows, allow_pickle=False)


def look(frame: Frame, last: F32 | None) -> tuple[F32, tuple[float, ...]]:
    """The luma, and `STATISTICS` in grey levels: mean and deviation of luma, deviation of chroma,
    mean of the Laplacian's amount, mean of the change since the `last` luma.
    """
    planes = planes_of(frame.data, *frame_size(frame))
    luma = planes.y.astype(np.float32)
    motion = 0.0 if last is None else float(np.abs(luma - last).mean())
    return luma, (
        float(luma.mean()),
        float(luma.std()),
        float((planes.u.std() + planes.v.std()) / 2),
        float(np.abs(cv2.Laplacian(luma, cv2.CV_32F)).mean()),
        motion,
    )


def drift(early: np.ndarray, late: np.ndarray) -> dict[str, float]:
    """Rows of `STATISTICS`: the median of both, and how many of the late medians lie beyond what
    the early frames were like (their 5th to 95th percentile).
    """
    figures: dict[str, float] = {}
    beyond = 0
    for name, before, after in zip(STATISTICS, early.T, late.T, strict=True):
        middle = quantile(after, 50)
        figures[f"{name}_early"] = round(quantile(before, 50), 2)
        figures[f"{name}_late"] = round(middle, 2)
        beyond += not quantile(before, LOW) <= middle <= quantile(before, HIGH)
    figures["statistics_drifted"] = beyond
    return figures
