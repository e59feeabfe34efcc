"""Events: what happened, as records on frames without pixels."""

from __future__ import annotations

import numpy as np

from engine import Caps, Frame, Record, Stamp

EVENT_CAPS = Caps(media="event", dtype="uint8", device="cpu")
_NO_PIXELS = np.empty(0, np.uint8)


class Event(Record, frozen=True):
    """Something that happened to a track at the moment of the frame's stamp."""

    kind: str  # face_entered | face_seen | face_left
    track_id: int
    box: tuple[float, float, float, float]  # left, top, right, bottom in pixels
    score: float  # 0 to 1
    duration_ms: int  # since the track began, in pts


def event_frame(stamp: Stamp, *records: Record) -> Frame:
    """A frame that carries nothing but records."""
    return Frame(_NO_PIXELS, EVENT_CAPS, stamp, records)
