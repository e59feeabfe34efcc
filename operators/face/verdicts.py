"""What is said of a face that wants to pass: each head's view, and the decision made of them.

`HeadVerdict` holds what the output record `pad/1` (method notes, 6.2) asks for, but for what the
frame's stamp says already (stream, frame, time) and for what differs between two runs (latency).
"""

from __future__ import annotations

from typing import Literal

from engine import Record

Outcome = Literal["live", "spoof", "unsure"]
State = Literal["live", "attack", "undecided"]
Status = Literal["scored", "skipped", "refused_synthetic", "error", "no_checkpoint"]
Profile = Literal["convenience", "balanced", "secure"]


class HeadVerdict(Record, frozen=True):
    """What one head knows of one track at the frame of the stamp. Scores: higher = more live."""

    track_id: int
    head: str  # antispoof | mask3d
    attack: str  # what its attacks are called in spoof(kind): presentation | mask
    status: Status  # of the latest try; "skipped": not tried on this frame
    reason: str  # in words; "" where it was scored
    checkpoint: str  # SHA-256 of the head's file
    backbone_sha: str  # SHA-256 of the weights that made the features
    profile: str  # whose targets the track's test runs by
    state: State  # of the track's test
    score: float  # log-odds of live over the window of the track
    llr: float  # the sum of the track's test
    n_scored: int  # frames the sum rests on
    span_ns: int  # from the first to the last of them, in pts
    scored_pts_ns: int | None  # the last of them: a verdict's age counts from here
    since_pts_ns: int  # since when the state is what it is
    score_real: float | None = None  # of this frame, 0 to 1; None where it was not scored
    log_odds: float | None = None  # the same, calibrated
    p_value: float | None = None  # share of real faces that look less real; real-only calibration
    nearest: str = ""  # attack prompt or knowledge element the face is most like: diagnostic only
    nearest_cos: float | None = None
    threshold: float | None = None  # of score_real, for this camera
    threshold_target: str = ""  # by which rule it was chosen: "bpcer=0.01"
    threshold_set_on: str = ""  # and on which data
    schema: str = "pad/1"


class Verdict(Record, frozen=True):
    """What a door is told of one track. Only `opens` may open it: true for `live` alone."""

    track_id: int
    outcome: Outcome
    kind: str  # of a spoof: presentation | mask; else ""
    reason: str
    score: float | None  # log-odds of live of the head least convinced
    profile: str
    threshold: float  # least score that is live
    n_scored: int  # evidence frames of the head with the fewest
    age_ms: int | None  # of the oldest head's last scored frame
    checkpoints: tuple[str, ...]  # "head:SHA-256" of every head that spoke
    opens: bool

    def __post_init__(self) -> None:
        if self.opens != (self.outcome == "live"):
            raise ValueError(f"opens is {self.opens} for the outcome {self.outcome!r}")

    @property
    def label(self) -> str:
        """`live`, `spoof(kind)` or `unsure`."""
        return f"spoof({self.kind})" if self.outcome == "spoof" else self.outcome
