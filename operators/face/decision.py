"""What a door is told of each face: live, spoof(kind) or unsure. Fail-closed, and never in the way.

The verdicts of the heads come beside the pictures (join policy `latest`): a frame goes on with the
last ones there are, and each `Verdict` says how old they are. What is missing, stale, failed, of
another track or of another life of the stream ends in `unsure`; the rules are those of
`operators.nn.pad.decision`.

A verdict counts for a track on a frame only if
* both frames are of one epoch, and the verdict's was not captured before the last break;
* all its evidence is of the time since the track began: ids are given anew after a break;
* live, it is not staler by the clock than by pts: a source may count its pts from 0 again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from engine import Caps, Config, Frame, OpContext, Operator
from operators.face.records import Track
from operators.face.verdicts import HeadVerdict, Profile, Verdict
from operators.ports import AnyVideo, Verdicts

if TYPE_CHECKING:
    from operators.nn.pad.decision import Decision, HeadReport
    from operators.nn.pad.sequential import TrackVerdict

MILLISECOND_NS = 1_000_000
BREAKS_KEPT_NS = 60_000_000_000  # of capture time; what was captured earlier is stale in any case


class FaceDecisionConfig(Config, frozen=True):
    """How sure to be, and which heads must agree."""

    profile: Annotated[
        Profile,
        Meta(description="convenience opens sooner, secure later; the heads' must be the same"),
    ] = "balanced"
    required: Annotated[
        tuple[str, ...],
        Meta(min_length=1, description="heads without whose word nothing is live"),
    ] = ("antispoof", "mask3d")


class FaceDecision(Operator[FaceDecisionConfig]):
    """Frames with `Track` records in; the same out with a `Verdict` record per track.

    Wire it with `join: {policy: latest}`. Live it waits for no verdict; in a file graph it takes
    the newest one up to the frame's time, so that results are the same every time.
    """

    pixels = "ignored"

    def open(self, ctx: OpContext) -> None:
        from operators.nn.pad.decision import profile_named

        self._profile = profile_named(self.config.profile)
        self._live = ctx.mode == "live"
        self._newest_ns: dict[str, int] = {}  # stream -> capture of the newest frame it was given
        self._breaks_ns: dict[str, int] = {}  # stream -> what was captured up to here is void

    def process(
        self, frames: AnyVideo, antispoof: Verdicts | None = None, mask3d: Verdicts | None = None
    ) -> Annotated[Frame, Caps(media="video", like="frames")]:
        """Verdict records that came with the frame are not passed on: only ours count."""
        by_track: dict[int, list[tuple[HeadVerdict, int]]] = {}
        for verdicts in (antispoof, mask3d):
            if verdicts is None or not self._counts(verdicts, frames):
                continue
            lag_ns = self._lag_ns(verdicts, frames)
            for verdict in verdicts.of(HeadVerdict):
                by_track.setdefault(verdict.track_id, []).append((verdict, lag_ns))
        stamp = frames.stamp
        newest_ns = self._newest_ns.get(stamp.stream_id, stamp.capture_ns)
        self._newest_ns[stamp.stream_id] = max(newest_ns, stamp.capture_ns)
        decided = [
            self._decided(frames, track, by_track.get(track.track_id, ()))
            for track in frames.of(Track)
        ]
        return frames.without_records(Verdict).with_records(*decided)

    def reset(self, stream_id: str) -> None:
        """Whatever was said before does not count any more."""
        newest_ns = self._newest_ns.pop(stream_id, None)
        if newest_ns is None:
            return
        self._breaks_ns[stream_id] = newest_ns
        oldest_ns = newest_ns - BREAKS_KEPT_NS
        self._breaks_ns = {name: ns for name, ns in self._breaks_ns.items() if ns > oldest_ns}

    def _counts(self, verdicts: Frame, frame: Frame) -> bool:
        said, seen = verdicts.stamp, frame.stamp
        void_ns = self._breaks_ns.get(seen.stream_id)
        return said.epoch == seen.epoch and (void_ns is None or said.capture_ns > void_ns)

    def _lag_ns(self, verdicts: Frame, frame: Frame) -> int:
        """How much older than by pts the verdicts are by the clock; 0 in a file, which has none."""
        if not self._live:
            return 0
        said, seen = verdicts.stamp, frame.stamp
        by_clock_ns = seen.capture_ns - said.capture_ns
        return max(0, by_clock_ns - (seen.pts_ns - said.pts_ns))

    def _decided(
        self, frame: Frame, track: Track, said: Sequence[tuple[HeadVerdict, int]]
    ) -> Verdict:
        from operators.nn.pad.decision import decide

        reports = [self._report(frame, track, verdict, lag_ns) for verdict, lag_ns in said]
        found = decide(reports, self.config.required, frame.stamp.pts_ns, self._profile)
        checkpoints = tuple(
            f"{verdict.head}:{verdict.checkpoint}" for verdict, _ in said if verdict.checkpoint
        )
        return self._told(track, found, checkpoints)

    def _report(self, frame: Frame, track: Track, said: HeadVerdict, lag_ns: int) -> HeadReport:
        from operators.nn.pad.decision import HeadReport

        if not of_this_track(said, frame.stamp.pts_ns, track):
            reason = "its evidence is older than the track"
            return HeadReport(said.head, said.attack, "skipped", None, reason)
        verdict = track_verdict(said, lag_ns)
        if frame.stamp.synthetic:
            return HeadReport(said.head, said.attack, "refused_synthetic", verdict)
        if said.profile != self.config.profile:
            reason = f"it tests by profile {said.profile}, not {self.config.profile}"
            return HeadReport(said.head, said.attack, "error", verdict, reason)
        return HeadReport(said.head, said.attack, said.status, verdict, said.reason)

    def _told(self, track: Track, found: Decision, checkpoints: tuple[str, ...]) -> Verdict:
        return Verdict(
            track_id=track.track_id,
            outcome=found.outcome,
            kind=found.kind,
            reason=found.reason,
            score=found.score,
            profile=self.config.profile,
            threshold=self._profile.min_score,
            n_scored=found.n_scored,
            age_ms=None if found.age_ns is None else found.age_ns // MILLISECOND_NS,
            checkpoints=checkpoints,
            opens=found.opens,
        )


def of_this_track(said: HeadVerdict, pts_ns: int, track: Track) -> bool:
    """Whether all that was said is of the time since this track began, to the millisecond."""
    began_ns = pts_ns - (track.age_ms + 1) * MILLISECOND_NS
    first_ns = said.since_pts_ns
    if said.scored_pts_ns is not None:
        first_ns = min(first_ns, said.scored_pts_ns - said.span_ns)
    return first_ns >= began_ns


def track_verdict(said: HeadVerdict, lag_ns: int) -> TrackVerdict:
    """As the rules want it, made older by `lag_ns`."""
    from operators.nn.pad.sequential import TrackVerdict

    scored_ns = None if said.scored_pts_ns is None else said.scored_pts_ns - lag_ns
    return TrackVerdict(
        said.state, said.score, said.llr, said.n_scored, said.span_ns, scored_ns, said.since_pts_ns
    )
