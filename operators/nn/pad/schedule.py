"""Which faces to score now: a budget of faces per step, shared by the tracks of all streams.

Order: tracks never scored; those whose look has changed; then the ones whose last score is oldest.
A track is due when waiting for the next frame of its stream would let more than `interval_ns` pass
since it was scored last: the product asks for at least every 200 ms, which replaces the longer
pause after a decision (method notes, 6.2), because a verdict's age is bounded. Beyond the budget
the least urgent wait; their verdicts age, and an aged verdict does not open. Deterministic: only
pts, names and ids decide, never a clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from operators.nn.pad.errors import EvaluationError
from operators.nn.pad.sequential import TrackKey


class VisibleTrack(NamedTuple):
    """A face that could be scored; pts_ns of its frame, `changed` = another look (box or re-id)."""

    key: TrackKey
    pts_ns: int
    changed: bool = False


@dataclass(frozen=True)
class ScheduleConfig:
    """budget: faces per step over all streams; interval_ns: longest pause of a track's scores."""

    budget: int = 8
    interval_ns: int = 200_000_000
    ttl_ns: int = 5_000_000_000  # a track not visible for longer is forgotten

    def __post_init__(self) -> None:
        if self.budget < 1 or self.interval_ns < 0 or self.ttl_ns < self.interval_ns:
            raise EvaluationError(f"budget >= 1 and 0 <= interval_ns <= ttl_ns, got {self}")


@dataclass
class _Seen:
    first_pts_ns: int
    seen_pts_ns: int
    scored_pts_ns: int | None = None
    changed: bool = False  # and not scored since


class _Wish(NamedTuple):
    """Sorts by urgency: first class, then waiting time, then names."""

    urgency: int  # 0 new, 1 changed, 2 due
    waited_ns: int  # negative: the longest first
    key: TrackKey
    pts_ns: int


class Schedule:
    """Remembers when each track was scored. Not thread-safe: one lane owns it."""

    def __init__(self, config: ScheduleConfig) -> None:
        self.config = config
        self._seen: dict[TrackKey, _Seen] = {}
        self._stream_pts_ns: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._seen)

    def choose(self, visible: Iterable[VisibleTrack]) -> list[TrackKey]:
        """At most `budget` tracks to score, most urgent first; they count as scored at their pts.

        `visible`: the faces of one step, any order; of a track named twice the newest frame counts.
        Frames not later than the stream's last step are late: their tracks are not chosen.
        """
        newest = self._newest(visible)
        step_ns = self._steps(newest)
        wishes = []
        for track in newest:
            wish = self._wish(track, step_ns[track.key.stream_id])
            if wish is not None:
                wishes.append(wish)
        chosen = sorted(wishes)[: self.config.budget]
        for wish in chosen:
            seen = self._seen[wish.key]
            seen.scored_pts_ns, seen.changed = wish.pts_ns, False
        self._forget_old()
        return [wish.key for wish in chosen]

    def reset(self, stream_id: str | None = None) -> None:
        """Forget one stream, or all: after a seek, a loop, a new epoch."""
        for key in [key for key in self._seen if stream_id in {None, key.stream_id}]:
            del self._seen[key]
        for name in [name for name in self._stream_pts_ns if stream_id in {None, name}]:
            del self._stream_pts_ns[name]

    def _newest(self, visible: Iterable[VisibleTrack]) -> list[VisibleTrack]:
        """One entry per track, without late frames."""
        newest: dict[TrackKey, VisibleTrack] = {}
        for track in visible:
            last_ns = self._stream_pts_ns.get(track.key.stream_id)
            if last_ns is not None and track.pts_ns <= last_ns:
                continue
            other = newest.get(track.key)
            if other is None or track.pts_ns > other.pts_ns:
                changed = track.changed or (other is not None and other.changed)
                newest[track.key] = track._replace(changed=changed)
            elif track.changed:
                newest[track.key] = other._replace(changed=True)
        return list(newest.values())

    def _steps(self, tracks: list[VisibleTrack]) -> dict[str, int]:
        """Time from the last step to this one by stream, in ns; 0 for a new stream."""
        now_ns: dict[str, int] = {}
        for track in tracks:
            stream = track.key.stream_id
            now_ns[stream] = max(track.pts_ns, now_ns.get(stream, track.pts_ns))
        steps = {name: now - self._stream_pts_ns.get(name, now) for name, now in now_ns.items()}
        self._stream_pts_ns |= now_ns
        return steps

    def _wish(self, track: VisibleTrack, step_ns: int) -> _Wish | None:
        """None where the track can wait for the next step."""
        seen = self._seen.get(track.key)
        if seen is not None and track.pts_ns - seen.seen_pts_ns > self.config.ttl_ns:
            seen = None  # an id that returns after so long is a new track
        if seen is None:
            seen = self._seen[track.key] = _Seen(track.pts_ns, track.pts_ns)
        seen.seen_pts_ns = track.pts_ns
        seen.changed |= track.changed
        if seen.scored_pts_ns is None:
            return _Wish(0, seen.first_pts_ns - track.pts_ns, track.key, track.pts_ns)
        waited_ns = track.pts_ns - seen.scored_pts_ns
        if seen.changed:
            return _Wish(1, -waited_ns, track.key, track.pts_ns)
        if waited_ns + step_ns > self.config.interval_ns:
            return _Wish(2, -waited_ns, track.key, track.pts_ns)
        return None

    def _forget_old(self) -> None:
        for key, seen in list(self._seen.items()):
            now_ns = self._stream_pts_ns[key.stream_id]
            if now_ns - seen.seen_pts_ns > self.config.ttl_ns:
                del self._seen[key]
