"""What a door is told: `live`, `spoof(kind)` or `unsure`, always with a reason.

Several heads look at a track, each knows other attacks, so attack evidence is fused by the maximum
rule (method notes, 6.4): one head that has decided attack makes it a spoof, and the score is that
of the head least convinced. `live` is the only verdict that opens, and it is written in one place,
after every check; whatever is missing, late, broken, not a number or made by a model ends in
`unsure`. Nothing here keeps state: equal input, equal verdict.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from operators.nn.pad.errors import EvaluationError
from operators.nn.pad.sequential import SequentialConfig, State, TrackVerdict

Outcome = Literal["live", "spoof", "unsure"]
Status = Literal["scored", "skipped", "refused_synthetic", "error", "no_checkpoint"]
STATES = ("live", "attack", "undecided")
FAILED = {
    "refused_synthetic": "refused: the frame was made or changed by a model",
    "error": "error",
    "no_checkpoint": "no checkpoint",
}


@dataclass(frozen=True)
class Profile:
    """One row of thresholds: how sure before a door opens, and for how long that holds."""

    target_apcer: float  # of the sequential test: attacks that may be decided live
    target_bpcer: float  # of the sequential test: people that may be decided attack
    min_score: float  # log-odds of the track's window, fused over heads, for `live`
    min_frames: int  # scored frames per head for `live`
    min_span_ns: int  # from the first to the last of them
    max_age_ns: int  # of the last scored frame of every head
    timeout_ns: int  # undecided for longer: the reason becomes `timeout` (deny or step up)

    def __post_init__(self) -> None:
        durations_ns = (self.min_span_ns, self.max_age_ns, self.timeout_ns)
        if not (math.isfinite(self.min_score) and self.min_frames >= 1 and min(durations_ns) >= 0):
            raise EvaluationError(f"min_score, min_frames or a duration out of range: {self}")
        self.sequential()  # checks the targets

    def sequential(self) -> SequentialConfig:
        """The test that decides by this profile's targets and minimum evidence."""
        return SequentialConfig(
            target_apcer=self.target_apcer,
            target_bpcer=self.target_bpcer,
            min_frames=self.min_frames,
            min_span_ns=self.min_span_ns,
        )


# Values [inferred]: targets a factor of 2 to 5 apart; ages of at most five 200 ms scoring steps.
PROFILES: Mapping[str, Profile] = MappingProxyType(
    {
        "convenience": Profile(0.05, 0.01, 0.0, 3, 300_000_000, 1_000_000_000, 8_000_000_000),
        "balanced": Profile(0.02, 0.02, 0.25, 4, 500_000_000, 600_000_000, 8_000_000_000),
        "secure": Profile(0.005, 0.05, 0.5, 6, 1_000_000_000, 400_000_000, 10_000_000_000),
    }
)


def profile_named(name: str) -> Profile:
    """Raises EvaluationError with the names there are."""
    if name not in PROFILES:
        raise EvaluationError(f"profile is one of {sorted(PROFILES)}, got {name!r}")
    return PROFILES[name]


@dataclass(frozen=True)
class HeadReport:
    """What one head says of a track now.

    head: "antispoof". kind: what its attacks are called in `spoof(kind)`: "mask". status: of the
    latest try; "skipped" (not scored this time) lets the last verdict stand while it is not stale,
    the failures do not. verdict: None before the first observation. reason: in words, for a status
    that is not "scored".
    """

    head: str
    kind: str
    status: Status
    verdict: TrackVerdict | None
    reason: str = ""


@dataclass(frozen=True)
class Decision:
    """outcome with kind ("" unless spoof) and reason.

    score: fused log-odds, None where there is none. age_ns: of the oldest head's last scored frame.
    n_scored: of the head with the fewest. heads: the reports it rests on.
    """

    outcome: Outcome
    kind: str
    reason: str
    score: float | None
    age_ns: int | None
    n_scored: int
    heads: tuple[HeadReport, ...] = field(repr=False)

    @property
    def label(self) -> str:
        """`live`, `spoof(kind)` or `unsure`."""
        return f"spoof({self.kind})" if self.outcome == "spoof" else self.outcome

    @property
    def opens(self) -> bool:
        """True for `live` alone."""
        return self.outcome == "live"


def decide(
    reports: Sequence[HeadReport], required: Sequence[str], now_pts_ns: int, profile: Profile
) -> Decision:
    """Fuse the heads' reports of one track at the frame of pts `now_pts_ns`.

    required: heads that must have spoken; further ones count in the same way. Raises
    EvaluationError for an empty `required`, because a door without any check would open.
    """
    if not required:
        raise EvaluationError("at least one head must be required")
    heads = tuple(reports)
    attacks = [report for report in heads if _well_formed(report) and _state(report) == "attack"]
    if attacks:
        worst = min(attacks, key=lambda report: (_score(report), report.head))
        return _made("spoof", worst.kind, f"{worst.head} decided attack", heads, now_pts_ns)
    doubt = _doubt(heads, required, now_pts_ns, profile)
    if doubt:
        return _made("unsure", "", doubt, heads, now_pts_ns)
    return _made("live", "", "every head decided live", heads, now_pts_ns)


def _doubt(
    heads: tuple[HeadReport, ...], required: Sequence[str], now_pts_ns: int, profile: Profile
) -> str:
    """The first reason not to open; "" only where every head has enough fresh live evidence."""
    present = Counter(report.head for report in heads)
    for name in required:
        if not present[name]:
            return f"{name}: no report"
    for name, times in present.items():
        if times > 1:
            return f"{name}: {times} reports of one head"
    for report in heads:
        doubt = _head_doubt(report, now_pts_ns, profile)
        if doubt:
            return f"{report.head}: {doubt}"
    fused = min(_score(report) for report in heads)
    if not fused >= profile.min_score:
        return f"score {fused:.2f} is below {profile.min_score:.2f}"
    return ""


def _head_doubt(report: HeadReport, now_pts_ns: int, profile: Profile) -> str:
    """Comparisons are written so that a NaN anywhere is a doubt."""
    if report.status in FAILED:
        return ": ".join(part for part in (FAILED[report.status], report.reason) if part)
    if report.status not in ("scored", "skipped"):
        return f"unknown status {report.status!r}"
    verdict = report.verdict
    if verdict is None or verdict.scored_pts_ns is None:
        return ": ".join(part for part in ("not scored yet", report.reason) if part)
    if not _well_formed(report):
        return "malformed verdict"
    age_ns = now_pts_ns - verdict.scored_pts_ns
    if not age_ns <= profile.max_age_ns:
        return f"stale verdict, {age_ns / 1e6:.0f} ms old"
    return _evidence_doubt(verdict, now_pts_ns, profile)


def _evidence_doubt(verdict: TrackVerdict, now_pts_ns: int, profile: Profile) -> str:
    if verdict.scored_pts_ns is None or not verdict.scored_pts_ns <= now_pts_ns:
        return "verdict of a later frame"
    if verdict.state == "undecided":
        waited_ns = now_pts_ns - verdict.since_pts_ns
        return "timeout" if waited_ns > profile.timeout_ns else "undecided"
    if verdict.state != "live":
        return f"decided {verdict.state}"
    if not (verdict.n_scored >= profile.min_frames and verdict.span_ns >= profile.min_span_ns):
        return f"too little evidence, {verdict.n_scored} frames"
    return "" if verdict.llr > 0 else "the evidence does not speak for live"


def _well_formed(report: HeadReport) -> bool:
    verdict = report.verdict
    return (
        verdict is not None
        and verdict.state in STATES
        and math.isfinite(verdict.score)
        and math.isfinite(verdict.llr)
    )


def _state(report: HeadReport) -> State | None:
    return report.verdict.state if report.verdict else None


def _score(report: HeadReport) -> float:
    return report.verdict.score if report.verdict else -math.inf


def _made(
    outcome: Outcome, kind: str, reason: str, heads: tuple[HeadReport, ...], now_pts_ns: int
) -> Decision:
    """Fill in what the verdicts at hand say of score, age and evidence."""
    verdicts = [report.verdict for report in heads if report.verdict is not None]
    ages_ns = [
        now_pts_ns - verdict.scored_pts_ns
        for verdict in verdicts
        if verdict.scored_pts_ns is not None
    ]
    scores = [verdict.score for verdict in verdicts if verdict.n_scored]
    complete = bool(heads) and len(verdicts) == len(heads)
    return Decision(
        outcome=outcome,
        kind=kind,
        reason=reason,
        score=min(scores) if scores and all(map(math.isfinite, scores)) else None,
        age_ns=max(ages_ns) if ages_ns else None,
        n_scored=min(verdict.n_scored for verdict in verdicts) if complete else 0,
        heads=heads,
    )
