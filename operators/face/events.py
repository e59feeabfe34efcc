"""Say what faces do: one event when a face enters, at intervals while it is seen, when it left.

Where verdicts are made, also when one changes: `verdict`, with what was decided and why.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from engine import Config, Frame, OpContext, Operator, Record, Stamp
from operators.events import Event, event_frame
from operators.face.records import Box, Track
from operators.face.verdicts import Outcome, Verdict
from operators.ports import AnyVideo, Events


class FaceEventsConfig(Config, frozen=True):
    """How often to speak."""

    seen_every_ms: Annotated[
        int, Meta(ge=0, description="face_seen at most this often in pts; 0 on every frame")
    ] = 1000
    gone_ms: Annotated[
        int, Meta(ge=0, description="face_left once a track was not seen for so long in pts")
    ] = 500


class VerdictChanged(Record, frozen=True):
    """Another outcome than the last one told of the track; `opens` is what a door goes by."""

    track_id: int
    box: Box  # where the face was last seen
    outcome: Outcome
    attack: str  # of a spoof: presentation | mask; else ""
    opens: bool
    reason: str
    score: float | None  # log-odds of live
    age_ms: int | None  # of the evidence, in pts
    n_scored: int  # frames it rests on
    profile: str
    checkpoints: tuple[str, ...]
    duration_ms: int  # since the track began, in pts
    kind: str = "verdict"


class Presence:
    """What is known of one track."""

    __slots__ = ("alive_ns", "seen", "told_ns", "track", "verdict")

    def __init__(self, track: Track, stamp: Stamp) -> None:
        self.track = track
        self.seen = stamp  # of the last frame it was detected on
        self.told_ns = self.alive_ns = stamp.pts_ns
        self.verdict: tuple[str, str] | None = None  # outcome and kind told last


class FaceEvents(Operator[FaceEventsConfig]):
    """Frames with `Track` (and `Verdict`) records in, event frames out, with the stamps they
    speak of.
    """

    pixels = "ignored"

    def open(self, ctx: OpContext) -> None:
        self._present = ctx.per_stream(lambda _: dict[int, Presence]())

    def process(self, frames: AnyVideo) -> list[Events] | None:
        """At most one event frame: all events of this moment; None when nothing happened."""
        stamp = frames.stamp
        present = self._present[stamp.stream_id]
        tracks = frames.of(Track)
        events: list[Record] = [
            event
            for track in tracks
            if not track.lost and (event := self._see(present, track, stamp))
        ]
        ages_ms = {track.track_id: track.age_ms for track in tracks}
        events += [
            change
            for verdict in frames.of(Verdict)
            if (change := self._judge(present, verdict, ages_ms.get(verdict.track_id, 0)))
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

    def _judge(
        self, present: dict[int, Presence], verdict: Verdict, age_ms: int
    ) -> VerdictChanged | None:
        """None while the outcome stays. A reason alone, which has numbers in it, is no change."""
        presence = present.get(verdict.track_id)
        told = verdict.outcome, verdict.kind
        if presence is None or presence.verdict == told:
            return None
        presence.verdict = told
        return VerdictChanged(
            track_id=verdict.track_id,
            box=presence.track.box,
            outcome=verdict.outcome,
            attack=verdict.kind,
            opens=verdict.opens,
            reason=verdict.reason,
            score=verdict.score,
            age_ms=verdict.age_ms,
            n_scored=verdict.n_scored,
            profile=verdict.profile,
            checkpoints=verdict.checkpoints,
            duration_ms=age_ms,
        )

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
