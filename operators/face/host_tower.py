"""Faces of frames in host memory through the image tower."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from engine import CapsError, Frame
from operators.engines import Run
from operators.face.records import Track
from operators.face.square import cut_out, face_square

if TYPE_CHECKING:
    from operators.nn.vlm.interface import Vlm

U8 = npt.NDArray[np.uint8]
F16 = npt.NDArray[np.float16]
LEAST_COLOUR = 4.0  # levels between a pixel's channels on average; less is a grey or dark picture


class Encoded(NamedTuple):
    """Features of faces that were asked for together."""

    features: F16  # [n, 1 + N, dim]
    rows: list[int]  # of each face in `features`; -1: its picture has no colour


class HostTower:
    """One call at a time."""

    def __init__(self, vlm: Vlm, image: Run, largest: int) -> None:
        """`image` takes images and gives their features, `largest` of them at most."""
        self._vlm = vlm
        self._image, self._largest = image, largest
        black = np.zeros((vlm.image.size_px, vlm.image.size_px, 3), np.uint8)
        self._none = self._encode([black])[:0]  # also has the first face not pay for warming up

    def __call__(self, faces: Sequence[tuple[Frame, Track]]) -> Encoded:
        """CapsError for frames that are not 8-bit."""
        crops: list[U8] = []
        rows: list[int] = []
        for frame, track in faces:
            crop = self._crop(frame, track)
            rows.append(len(crops) if has_colour(crop) else -1)
            if rows[-1] >= 0:
                crops.append(crop)
        parts = [
            self._encode(crops[first : first + self._largest])
            for first in range(0, len(crops), self._largest)
        ]
        return Encoded(np.concatenate(parts) if parts else self._none, rows)

    def _crop(self, frame: Frame, track: Track) -> U8:
        square = face_square(track.points)
        assert square is not None
        if frame.data.dtype != np.uint8:
            raise CapsError(f"faces are cut out of 8-bit frames, these are {frame.data.dtype}")
        return cut_out(frame, square, self._vlm.image.size_px)

    def _encode(self, crops: list[U8]) -> F16:
        import torch

        from operators.nn.vlm.preprocess import preprocess

        with torch.inference_mode():
            found = self._image(preprocess(crops, self._vlm.image))
            joined = torch.cat([found.pooled[:, None], found.patches_value], dim=1)
        array: F16 = joined.to(torch.float16).numpy()
        return array


def has_colour(crop: U8) -> bool:
    """Whether a [H, W, 3] crop has any: what detectors look for is mostly in the colours of skin,
    so a grey camera or the night mode of another says nothing they were made for.
    """
    spread = np.asarray(crop.max(axis=2) - crop.min(axis=2))
    return float(spread.mean()) >= LEAST_COLOUR
