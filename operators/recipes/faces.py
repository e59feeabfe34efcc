"""Faces out of folders of pictures and videos: square crops with five points, by our own detector.

Layout: `DOMAIN/live/SUBJECT/*`. A domain is where and with what was filmed, a subject one person.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engine import Batch, Frame
from engine.recipe import RecipeError
from engine.testing import HarnessContext
from operators.face.detect import FaceDetect, FaceDetectConfig
from operators.face.records import Face
from operators.face.square import cut_out, face_square, square_matrix
from operators.recipes.media import PICTURES, VIDEOS, each_frame
from operators.video.warp import apply

U8 = npt.NDArray[np.uint8]
F64 = npt.NDArray[np.float64]
WIDER = 1.12  # side of a kept crop by that of the square: room for a detector's tremble
SMALLEST_PX = 56  # of a face's square: below that there is nothing to learn from


@dataclass(frozen=True)
class FaceImage:
    """One face as it was filmed, with what is around it."""

    domain: str
    subject: str
    source: str  # file name and frame number
    image: U8  # [S, S, 3] RGB
    points: F64  # [5, 2] pixels: right eye, left eye, nose, right and left mouth corner
    native_px: float  # side of its square in the file: finer detail than that is not there


@dataclass(frozen=True)
class Sampling:
    """How many faces of each file, and how large."""

    per_file: int = 12
    size_px: int = 352


class FaceReader:
    """Finds the largest face of a frame with CenterFace, whose five points are the template's."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._detector = FaceDetect(
            FaceDetectConfig(model="crowd", crowd_width_px=640, min_score=0.5, min_face_px=24)
        )
        self._ctx = HarnessContext()
        self._detector.open(self._ctx)

    def read(self, path: Path) -> Iterator[tuple[int, U8, F64, float]]:
        """(frame number, crop, points, native side), spread evenly over the file.

        RecipeError if it cannot be read.
        """
        frames = list(each_frame(path))
        wanted = self._sampling.per_file
        step = max(1, len(frames) // wanted)
        for number in range(0, len(frames), step)[:wanted]:
            found = self.largest(frames[number])
            if found is not None:
                yield number, *found

    def close(self) -> None:
        self._detector.close()
        self._ctx.exits.close()

    def largest(self, frame: Frame) -> tuple[U8, F64, float] | None:
        (searched,) = self._detector.process(Batch((frame,))).frames
        faces = sorted(searched.of(Face), key=lambda face: face.box[0] - face.box[2])
        square = face_square(faces[0].points) if faces else None
        if square is None or square[2] < SMALLEST_PX:
            return None
        x, y, side = square
        wider, size_px = (x, y, side * WIDER), self._sampling.size_px
        points = apply(square_matrix(wider, size_px), np.array(faces[0].points))
        return cut_out(frame, wider, size_px), points, side


def read_faces(folder: Path, sampling: Sampling) -> Iterator[tuple[int, int, list[FaceImage]]]:
    """(files done, of so many, the faces of one file). RecipeError for a folder without any."""
    files = live_files(folder)
    reader = FaceReader(sampling)
    try:
        for count, (domain, subject, path) in enumerate(files, 1):
            faces = [
                FaceImage(domain, subject, f"{path.name}:{number}", image, points, side)
                for number, image, points, side in reader.read(path)
            ]
            yield count, len(files), faces
    finally:
        reader.close()


def live_files(folder: Path) -> list[tuple[str, str, Path]]:
    """(domain, subject, file) of `DOMAIN/live/SUBJECT/*`, in the order of the names."""
    found = [
        (path.parts[-4], path.parts[-2], path)
        for path in sorted(folder.glob("*/live/*/*"))
        if path.suffix.lower() in PICTURES | VIDEOS
    ]
    if not found:
        raise RecipeError(
            f"{folder}: no picture or video in DOMAIN/live/SUBJECT/; e.g. office/live/anna/1.mp4"
        )
    return found
