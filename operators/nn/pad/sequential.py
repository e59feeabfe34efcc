"""Wald's sequential test per track: many frames become one decision, live, attack or undecided.

method notes, 6.2, with its letters. Each scored frame adds
    effective * quality * (clip(l_t, +-4) - prior)
to the track's sum, where l_t is the calibrated log-odds of live. Live is decided at sum >= A =
log((1 - b) / a), attack at sum <= B = log(b / (1 - a)); a = target APCER, b = target BPCER (Wald,
"Sequential Analysis", 1947). The factor `effective` stands for frames of one track not being
independent: 0.25 takes four frames for one, and keeps both targets for any dependence inside runs
of four [spec: 0.2-0.3].

Choices the spec leaves open [inferred], each on the side of not opening:
* A live track stays under watch. Its sum is kept from growing past A, so that a mask put on later
  needs A - B of evidence and not an hour's; where the sum falls to 0 the track is undecided again.
* An attack stays one. Only `reset` or a new track ends it; being skipped does not.
* A track without any observation for `ttl_ns` is forgotten, its id counts as new. A track seen but
  not *scored* for `ttl_ns` loses its evidence (but not `attack`): the person may have changed.
* A frame not later than the last one of its track is ignored: also the same frame twice.

State is a few numbers per (stream, track); all times are the frames' pts in ns, no clock is read.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, NamedTuple

from operators.nn.pad.errors import EvaluationError

State = Literal["live", "attack", "undecided"]


class TrackKey(NamedTuple):
    """A track of a stream; track ids of different streams are unrelated."""

    stream_id: str
    track_id: int


@dataclass(frozen=True)
class SequentialConfig:
    """Settings of the test; both PAD heads of a graph may have their own."""

    target_apcer: float = 0.02  # a: share of attacks that may be decided live
    target_bpcer: float = 0.02  # b: share of bona fide tracks that may be decided attack
    effective: float = 0.25  # of a frame that counts as independent
    prior: float = 0.0  # log-odds of live in the calibration data; 0 for our calibrations
    clip: float = 4.0  # bound of |l_t|
    window: int = 16  # W: scored frames in the track's score
    min_frames: int = 3  # scored frames before a decision
    min_span_ns: int = 300_000_000  # from the first to the last scored frame before a decision
    ttl_ns: int = 5_000_000_000
    median: bool = False  # track score: weighted median instead of the weighted mean

    def __post_init__(self) -> None:
        shares = (self.target_apcer, self.target_bpcer)
        if not all(0 < share < 0.5 for share in shares):
            raise EvaluationError(f"targets of APCER and BPCER lie in (0, 0.5), got {shares}")
        if not 0 < self.effective <= 1:
            raise EvaluationError(f"effective lies in (0, 1], got {self.effective}")
        if not (math.isfinite(self.prior) and 0 < self.clip < math.inf):
            raise EvaluationError(f"prior must be finite and clip positive, got {self}")
        if self.window < 1 or self.min_frames < 1 or self.min_span_ns < 0 or self.ttl_ns <= 0:
            raise EvaluationError(f"window, min_frames, min_span_ns or ttl_ns too small: {self}")

    @property
    def upper(self) -> float:
        """A > 0: live at or above."""
        return math.log((1 - self.target_bpcer) / self.target_apcer)

    @property
    def lower(self) -> float:
        """B < 0: attack at or below."""
        return math.log(self.target_bpcer / (1 - self.target_apcer))


class TrackVerdict(NamedTuple):
    """What is known of a track after an observation."""

    state: State
    score: float  # log-odds over the window, positive = live; 0 before the first scored frame
    llr: float  # the sum against A and B
    n_scored: int  # scored frames the sum rests on
    span_ns: int  # from the first to the last of them
    scored_pts_ns: int | None  # the last of them: the age of the verdict counts from here
    since_pts_ns: int  # since when the state is what it is


@dataclass
class _Track:
    seen_pts_ns: int
    since_pts_ns: int
    window: deque[tuple[float, float]]  # (l_t, quality)
    state: State = "undecided"
    llr: float = 0.0
    n_scored: int = 0
    first_pts_ns: int = 0
    scored_pts_ns: int | None = None

    def forget_evidence(self) -> None:
        """Back to a new track's evidence; what was decided is the caller's matter."""
        self.window.clear()
        self.llr, self.n_scored, self.scored_pts_ns = 0.0, 0, None


class SequentialTest:
    """The tests of all tracks of one head. Not thread-safe: one lane owns it."""

    def __init__(self, config: SequentialConfig) -> None:
        self.config = config
        self._tracks: dict[TrackKey, _Track] = {}

    def __len__(self) -> int:
        return len(self._tracks)

    def observe(
        self, key: TrackKey, pts_ns: int, log_odds: float, quality: float = 1.0
    ) -> TrackVerdict:
        """Take one scored frame; log_odds of live, quality in [0, 1].

        A value that is not a finite number, or a quality not above 0, is no evidence: as `skip`.
        """
        if not (math.isfinite(log_odds) and 0 < quality <= 1):
            return self.skip(key, pts_ns)
        track = self._seen(key, pts_ns)
        if track is not None:
            self._add(track, pts_ns, log_odds, quality)
        return self.verdict(key)

    def skip(self, key: TrackKey, pts_ns: int) -> TrackVerdict:
        """The track was seen but not scored (too small, blurred, an error)."""
        self._seen(key, pts_ns)
        return self.verdict(key)

    def verdict(self, key: TrackKey) -> TrackVerdict:
        """Of a track observed before; KeyError for one that is not, or is forgotten."""
        track = self._tracks[key]
        span_ns = track.scored_pts_ns - track.first_pts_ns if track.scored_pts_ns is not None else 0
        return TrackVerdict(
            track.state, self._score(track), track.llr, track.n_scored, span_ns,
            track.scored_pts_ns, track.since_pts_ns,
        )  # fmt: skip

    def reset(self, stream_id: str | None = None, track_id: int | None = None) -> int:
        """Forget everything, one stream, or one track of a stream; returns how many tracks.

        For an operator's order to leave `attack`, for a seek, a loop, a new epoch.
        """
        if track_id is not None and stream_id is None:
            raise EvaluationError("track ids belong to a stream: name it")
        gone = [
            key
            for key in self._tracks
            if stream_id in {None, key.stream_id} and track_id in {None, key.track_id}
        ]
        for key in gone:
            del self._tracks[key]
        return len(gone)

    def expire(self, stream_id: str, now_pts_ns: int) -> int:
        """Forget the stream's tracks without observation for more than ttl_ns; how many."""
        gone = [
            key
            for key, track in self._tracks.items()
            if key.stream_id == stream_id and now_pts_ns - track.seen_pts_ns > self.config.ttl_ns
        ]
        for key in gone:
            del self._tracks[key]
        return len(gone)

    def _seen(self, key: TrackKey, pts_ns: int) -> _Track | None:
        """The track, new where it is unknown or expired; None for a late frame."""
        track = self._tracks.get(key)
        if track is not None and pts_ns <= track.seen_pts_ns:
            return None
        if track is None or pts_ns - track.seen_pts_ns > self.config.ttl_ns:
            track = _Track(pts_ns, pts_ns, deque(maxlen=self.config.window))
            self._tracks[key] = track
        track.seen_pts_ns = pts_ns
        scored_pts_ns = track.scored_pts_ns
        if scored_pts_ns is not None and pts_ns - scored_pts_ns > self.config.ttl_ns:
            track.forget_evidence()
            if track.state != "attack":
                self._enter(track, "undecided", pts_ns)
        return track

    def _add(self, track: _Track, pts_ns: int, log_odds: float, quality: float) -> None:
        config = self.config
        l_t = min(max(log_odds, -config.clip), config.clip)
        if track.scored_pts_ns is None:
            track.first_pts_ns = pts_ns
        track.window.append((l_t, quality))
        track.n_scored += 1
        track.scored_pts_ns = pts_ns
        track.llr += config.effective * quality * (l_t - config.prior)
        self._enter(track, self._decide(track, pts_ns), pts_ns)
        if track.state != "undecided":  # a decided sum neither saturates nor is lost
            track.llr = min(max(track.llr, config.lower), config.upper)

    def _decide(self, track: _Track, pts_ns: int) -> State:
        config = self.config
        if track.state == "attack":
            return "attack"
        span_ns = pts_ns - track.first_pts_ns
        if track.n_scored < config.min_frames or span_ns < config.min_span_ns:
            return "undecided"
        if track.llr <= config.lower:
            return "attack"
        if track.llr >= config.upper:
            return "live"
        return "live" if track.state == "live" and track.llr > 0 else "undecided"

    @staticmethod
    def _enter(track: _Track, state: State, pts_ns: int) -> None:
        if state != track.state:
            track.state, track.since_pts_ns = state, pts_ns

    def _score(self, track: _Track) -> float:
        if not track.window:
            return 0.0
        if self.config.median:
            return _weighted_median(track.window)
        total = sum(quality for _, quality in track.window)
        return sum(l_t * quality for l_t, quality in track.window) / total


def _weighted_median(window: deque[tuple[float, float]]) -> float:
    """The lowest value with at least half of the weight at or below it."""
    ordered = sorted(window)
    weights = list(accumulate(quality for _, quality in ordered))
    return ordered[bisect_left(weights, weights[-1] / 2)][0]
