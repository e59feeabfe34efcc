"""Say what faces do: one event when a face enters, at intervals while it is seen, when it left."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from engine import Config, Frame, OpContext, Operator, Stamp
from operators.events import Event, event_frame
from operators.face.records import Track
from operators.ports import Events, Video


class FaceEventsConfig(Config, frozen=True):
    """How often to speak."""

    seen_every_ms: Annotated[
        int, Meta(ge=0, description="face_seen at most this often in pts; 0 on every frame")
    ] = 1000
    gone_ms: Annotated[
        int, Meta(ge=0, description="face_left once a track was not seen for so long in pts")
    ] = 500


class Presence:
    """What is known of one track."""

    __slots__ = ("alive_ns", "seen", "told_ns", "track")

    def __init__(self, track: Track, stamp: Stamp) -> None:
        self.track = track
        self.seen = stamp  # of the last frame it was detected on
        self.told_ns = self.alive_ns = stamp.pts_ns


class FaceEvents(Operator[FaceEventsConfig]):
    """Frames with `Track` records in, event frames out. An event carries the stamp it speaks of."""

    def open(self, ctx: OpContext) -> None:
        self._present = ctx.per_stream(lambda _: dict[int, Presence]())

    def process(self, frames: Video) -> list[Events] | None:
        """At most one event frame: all events of this moment; None when nothing happened."""
        stamp = frames.stamp
        present = self._present[stamp.stream_id]
        events = [
            event
            for track in frames.of(Track)
            if not track.lost and (event := self._see(present, track, stamp))
        ]
        events += self._leave(present, stamp)
        return [event_frame(stamp, *events)] if events else None

    def reset(self, stream_id: str) -> list[Events] | None:
        """At the end of a stream everybody leaves, at the moment they were last seen."""
        if stream_id not in self._present:
            return None
        rest: list[Frame] = [
            event_frame(presence.seen, left(presence))
            for presence in self._present[stream_id].values()
        ]
        return rest or None

    def _see(self, present: dict[int, Presence], track: Track, stamp: Stamp) -> Event | None:
        presence = present.get(track.track_id)
        if track.predicted:  # nobody searched this frame: no sighting, no absence either
            if presence:
                presence.alive_ns = stamp.pts_ns
            return None
        if presence is None:
            present[track.track_id] = Presence(track, stamp)
            return tell("face_entered", track)
        presence.track, presence.seen, presence.alive_ns = track, stamp, stamp.pts_ns
        if stamp.pts_ns - presence.told_ns < self.config.seen_every_ms * 1_000_000:
            return None
        presence.told_ns = stamp.pts_ns
        return tell("face_seen", track)

    def _leave(self, present: dict[int, Presence], stamp: Stamp) -> list[Event]:
        patience_ns = self.config.gone_ms * 1_000_000
        gone = [p for p in present.values() if stamp.pts_ns - p.alive_ns > patience_ns]
        for presence in gone:
            del present[presence.track.track_id]
        return [left(presence) for presence in gone]


def tell(kind: str, track: Track) -> Event:
    """An event about a track as it is now."""
    return Event(kind, track.track_id, track.box, track.score, track.age_ms)


def left(presence: Presence) -> Event:
    """The last word about a track: where and how it was last seen."""
    return tell("face_left", presence.track)
