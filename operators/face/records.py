"""What the face operators say about a frame. Coordinates are frame pixels, origin top left."""

from __future__ import annotations

from engine import Record

Box = tuple[float, float, float, float]  # left, top, right, bottom
Point = tuple[float, float]  # x, y


class Face(Record, frozen=True):
    """A face found on this frame.

    `points` are right eye, left eye, nose tip, mouth centre, right ear, left ear (the person's own
    right and left) from BlazeFace; right eye, left eye, nose tip, right and left mouth corner from
    CenterFace.
    """

    box: Box
    score: float  # 0 to 1
    points: tuple[Point, ...]


class Track(Record, frozen=True):
    """A face followed over time. Ids begin at 1 in each stream and are never given twice."""

    track_id: int
    box: Box
    score: float  # of the detection this frame; the last one's where only predicted
    points: tuple[Point, ...]
    hits: int  # detections so far
    age_ms: int  # since the first detection, in pts
    predicted: bool  # no detection this frame: the box is where the motion model expects it
