"""A record of an event, for the tests of event sinks."""

from __future__ import annotations

from engine import Record


class Sighting(Record, frozen=True):
    """Something seen."""

    kind: str
    track_id: int
    box: tuple[float, float, float, float]
    score: float
    zone: str = "door"


ONE = Sighting("face_entered", 4, (1.5, 2.0, 30.25, 40.0), 0.9375)
TWO = Sighting("face_left", 4, (1.5, 2.0, 30.25, 40.0), 0.5, zone="Tür\n2")
