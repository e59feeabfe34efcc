"""What the face operators say about a frame. Coordinates are frame pixels, origin top left."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from engine import Record
from operators.video.layers import Placement

Box = tuple[float, float, float, float]  # left, top, right, bottom
Point = tuple[float, float]  # x, y
Point3 = tuple[float, float, float]  # x, y, depth relative to the face's centre, near is negative


class Face(Record, frozen=True):
    """A face found on this frame.

    `points` are right eye, left eye, nose tip, mouth centre, right ear, left ear (the person's own
    right and left) from BlazeFace; right eye, left eye, nose tip, right and left mouth corner from
    CenterFace.
    """

    box: Box
    score: float  # 0 to 1
    points: tuple[Point, ...]

    def moved(self, place: Placement) -> Face:
        """Where the face is in a changed frame."""
        return _moved(self, place)


class Unsearched(Record, frozen=True):
    """The detector did not look at this frame: that it has no `Face` says nothing."""


class Landmarks(Record, frozen=True):
    """The surface of one face: 468 points in the order of MediaPipe's face mesh."""

    face: int  # which of the frame's `Face` records
    presence: float  # 0 to 1: how sure it is that there is a face at all
    points: tuple[Point3, ...]  # pixels; the depth has the scale of x

    def moved(self, place: Placement) -> Landmarks:
        """The surface in a changed frame."""
        points = tuple((*place.point(x, y), z * place.scale_x) for x, y, z in self.points)
        return msgspec.structs.replace(self, points=points)


class Crop(Record, frozen=True):
    """Says on an aligned crop which face of which place it shows."""

    face: int  # index among the frame's records of the kind it was cut from
    track_id: int  # 0 when the face was not tracked
    matrix: tuple[Point3, Point3]  # frame pixels (x, y, 1) -> crop pixels


class Track(Record, frozen=True):
    """A face followed over time. Ids begin at 1 in each stream and are never given twice."""

    track_id: int
    box: Box
    score: float  # of the detection this frame; the last one's where only predicted
    points: tuple[Point, ...]
    hits: int  # detections so far
    age_ms: int  # since the first detection, in pts
    predicted: bool  # no detection this frame: the box is where the motion model expects it
    lost: bool = False  # the last frame that was searched did not show it

    def moved(self, place: Placement) -> Track:
        """Where the track is in a changed frame."""
        return _moved(self, place)


F = TypeVar("F", Face, Track)


def _moved(seen: F, place: Placement) -> F:
    points = tuple(place.point(x, y) for x, y in seen.points)
    return msgspec.structs.replace(seen, box=place.box(seen.box), points=points)
