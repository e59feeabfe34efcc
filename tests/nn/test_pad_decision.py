"""The verdict: a table gone through whole, and the property that nothing but evidence opens."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import permutations, product
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.nn.pad.decision import (
    PROFILES,
    HeadReport,
    Profile,
    Status,
    decide,
    profile_named,
)
from operators.nn.pad.errors import EvaluationError
from operators.nn.pad.sequential import SequentialTest, TrackKey, TrackVerdict

MS = 1_000_000
NOW_NS = 10_000 * MS
BALANCED = PROFILES["balanced"]
HEADS = ("antispoof", "mask3d")

SURE = TrackVerdict(
    state="live",
    score=1.5,
    llr=3.9,
    n_scored=12,
    span_ns=2_200 * MS,
    scored_pts_ns=NOW_NS - 100 * MS,
    since_pts_ns=NOW_NS - 3_000 * MS,
)


def report(head="antispoof", kind="print_or_replay", status="scored", **change) -> HeadReport:
    return HeadReport(head, kind, status, SURE._replace(**change))


def mask(**change) -> HeadReport:
    return report("mask3d", "mask", **change)


def judged(*reports, required=HEADS, now_ns=NOW_NS, profile=BALANCED):
    return decide(reports, required, now_ns, profile)


def test_enough_fresh_evidence_of_every_head_opens():
    decision = judged(report(), mask(score=0.8, n_scored=7, scored_pts_ns=NOW_NS - 300 * MS))
    assert (decision.outcome, decision.label, decision.opens) == ("live", "live", True)
    assert decision.score == 0.8  # of the head least convinced
    assert decision.age_ns == 300 * MS
    assert decision.n_scored == 7
    assert decision.reason == "every head decided live"


def test_just_enough_is_enough():
    least = {
        "n_scored": 4, "span_ns": 500 * MS, "score": 0.25, "scored_pts_ns": NOW_NS - 600 * MS,
    }  # fmt: skip
    assert judged(report(**least), mask(**least)).opens
    for name, value in least.items():
        less = least | {name: value - 0.01 if name == "score" else value - 1}
        assert judged(report(**least), mask(**less)).outcome == "unsure"


STATES = ("live", "attack", "undecided")
AGES_MS = (-1, 0, 600, 601)
FRAMES = ((12, 2_200), (3, 2_200), (12, 499))
SCORES = ((1.5, 3.9), (0.24, 3.9), (1.5, 0.0), (math.nan, 3.9), (1.5, math.nan), (math.inf, 3.9))


def test_the_whole_table_of_one_head_beside_a_sure_one():
    """Every status x state x age x evidence x score: what opens, what is a spoof, the rest."""
    opened = 0
    for status, state, age_ms, (n, span_ms), (score, llr) in product(
        get_args(Status), STATES, AGES_MS, FRAMES, SCORES
    ):
        tried = mask(
            status=status, state=state, score=score, llr=llr, n_scored=n, span_ns=span_ms * MS,
            scored_pts_ns=NOW_NS - age_ms * MS,
        )  # fmt: skip
        decision = judged(report(), tried)
        enough = (n, span_ms) == (12, 2_200) and (score, llr) == (1.5, 3.9)
        may = status in {"scored", "skipped"} and state == "live" and age_ms in {0, 600} and enough
        finite = math.isfinite(score) and math.isfinite(llr)
        if may:
            assert decision.outcome == "live"
            opened += 1
        elif state == "attack" and finite:
            assert decision.label == "spoof(mask)"
        else:
            assert decision.outcome == "unsure"
        assert decision.opens is may
        assert decision.reason
    assert opened == 2 * 2  # two statuses, two ages


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"status": "error"}, "mask3d: error"),
        ({"status": "no_checkpoint"}, "mask3d: no checkpoint"),
        ({"status": "refused_synthetic"}, "mask3d: refused: the frame was made or changed"),
        ({"status": "great"}, "mask3d: unknown status 'great'"),
        ({"state": "undecided"}, "mask3d: undecided"),
        ({"state": "undecided", "since_pts_ns": NOW_NS - 8_001 * MS}, "mask3d: timeout"),
        ({"state": "genuine"}, "mask3d: malformed verdict"),
        ({"scored_pts_ns": NOW_NS - 601 * MS}, "mask3d: stale verdict, 601 ms old"),
        ({"scored_pts_ns": NOW_NS + 1}, "mask3d: verdict of a later frame"),
        ({"scored_pts_ns": None}, "mask3d: not scored yet"),
        ({"scored_pts_ns": math.nan}, "mask3d: stale verdict"),
        ({"n_scored": 3}, "mask3d: too little evidence, 3 frames"),
        ({"n_scored": math.nan}, "mask3d: too little evidence"),
        ({"span_ns": 499 * MS}, "mask3d: too little evidence"),
        ({"llr": 0.0}, "mask3d: the evidence does not speak for live"),
        ({"score": math.nan}, "mask3d: malformed verdict"),
        ({"score": 0.2}, "score 0.20 is below 0.25"),
    ],
)
def test_every_doubt_has_its_reason(change, reason):
    decision = judged(report(), mask(**change))
    assert decision.outcome == "unsure"
    assert decision.reason.startswith(reason)
    assert not decision.opens


def test_missing_and_doubled_heads():
    assert judged(report()).reason == "mask3d: no report"
    assert judged().reason == "antispoof: no report"
    assert judged(report(), mask(), mask()).reason == "mask3d: 2 reports of one head"
    nothing = HeadReport("mask3d", "mask", "skipped", None, "face of 40 px")
    decision = judged(report(), nothing)
    assert decision.reason == "mask3d: not scored yet: face of 40 px"
    assert (decision.n_scored, decision.score) == (0, 1.5)
    unscored = mask(status="skipped", score=0.0, n_scored=0, scored_pts_ns=None)
    assert judged(report(), unscored).score == 1.5  # 0 is no score yet


def test_a_head_that_nobody_required_counts_all_the_same():
    extra = report("minifas", "print")
    assert judged(report(), mask(), extra).opens
    assert judged(report(), mask(), replace(extra, status="error")).outcome == "unsure"
    attacked = replace(extra, verdict=SURE._replace(state="attack", score=-2.0))
    assert judged(report(), mask(), attacked).label == "spoof(print)"


def test_maximum_rule_of_attack_evidence():
    weak = report(state="attack", score=-1.0, llr=-3.9)
    strong = mask(state="attack", score=-3.0, llr=-3.9)
    decision = judged(weak, strong)
    assert (decision.label, decision.reason) == ("spoof(mask)", "mask3d decided attack")
    assert decision.score == -3.0
    assert judged(weak, mask()).label == "spoof(print_or_replay)"


def test_an_attack_stays_one_where_another_head_fails_or_it_grows_old():
    attack = report(state="attack", score=-2.0, scored_pts_ns=NOW_NS - 60_000 * MS)
    for other in (mask(), mask(status="error"), mask(score=math.nan)):
        assert judged(attack, other).outcome == "spoof"
    assert judged(attack).outcome == "spoof"


def test_the_order_of_heads_does_not_matter():
    reports = (report(), mask(state="undecided"), report("third", "other", status="error"))
    outcomes = {judged(*order).outcome for order in permutations(reports)}
    assert outcomes == {"unsure"}
    spoofs = (report(state="attack", score=-2.0), mask(state="attack", score=-2.0))
    assert {judged(*order).label for order in permutations(spoofs)} == {"spoof(print_or_replay)"}


def test_without_a_required_head_there_is_no_decision():
    with pytest.raises(EvaluationError, match="at least one head"):
        decide([report()], [], NOW_NS, BALANCED)


numbers = st.one_of(st.floats(), st.sampled_from([0.0, 0.3, 1.5, 3.9]))
pts = st.one_of(st.none(), st.integers(-(2**62), 2**62), st.integers(-2000, 2000).map(
    lambda ms: NOW_NS + ms * MS
))  # fmt: skip
verdicts = st.one_of(
    st.none(),
    st.builds(
        TrackVerdict,
        state=st.sampled_from([*STATES, "live", "live", "", "LIVE"]),
        score=numbers,
        llr=numbers,
        n_scored=st.one_of(st.integers(-1, 20), st.just(math.nan)),
        span_ns=st.one_of(st.integers(-1, 3_000).map(lambda ms: ms * MS), st.just(math.nan)),
        scored_pts_ns=pts,
        since_pts_ns=st.integers(-(2**62), 2**62),
    ),
)
reports = st.builds(
    HeadReport,
    head=st.sampled_from([*HEADS, "third"]),
    kind=st.just("kind"),
    status=st.sampled_from([*get_args(Status), "scored", "scored", "ok", ""]),
    verdict=verdicts,
    reason=st.sampled_from(["", "why"]),
)
reports = st.lists(st.one_of(reports, st.sampled_from([report(), mask()])), max_size=4)


@given(reports, st.sampled_from(sorted(PROFILES)), st.sampled_from([NOW_NS, 0, 2**62]))
@settings(max_examples=400, deadline=None)
def test_nothing_but_enough_live_evidence_opens(given_reports, name, now_ns):
    profile = PROFILES[name]
    decision = judged(*given_reports, now_ns=now_ns, profile=profile)
    assert decision.outcome in {"live", "spoof", "unsure"}
    assert decision.opens == (decision.outcome == "live")
    assert decision.reason
    assert decision.heads == tuple(given_reports)
    if not decision.opens:
        return
    assert {entry.head for entry in given_reports} >= set(HEADS)
    assert len({entry.head for entry in given_reports}) == len(given_reports)
    for entry in given_reports:
        verdict = entry.verdict
        assert entry.status in {"scored", "skipped"}
        assert verdict.state == "live"
        assert math.isfinite(verdict.score)
        assert verdict.score >= profile.min_score
        assert verdict.llr > 0
        assert verdict.n_scored >= profile.min_frames
        assert verdict.span_ns >= profile.min_span_ns
        assert 0 <= now_ns - verdict.scored_pts_ns <= profile.max_age_ns


def test_the_property_above_is_not_empty():
    assert judged(report(), mask(), profile=PROFILES["secure"]).opens


class TestProfiles:
    def test_they_order_from_convenient_to_secure(self):
        rows = [profile_named(name) for name in ("convenience", "balanced", "secure")]
        for field in ("target_apcer", "max_age_ns"):
            values = [getattr(row, field) for row in rows]
            assert values == sorted(values, reverse=True)
        for field in ("target_bpcer", "min_score", "min_frames", "min_span_ns"):
            values = [getattr(row, field) for row in rows]
            assert values == sorted(values)

    @pytest.mark.parametrize("name", sorted(PROFILES))
    def test_a_steady_face_passes_and_a_steady_attack_does_not(self, name):
        profile = PROFILES[name]
        outcomes = {}
        for value in (1.3, -1.3):  # log-odds a real-only calibration typically gives
            test = SequentialTest(profile.sequential())
            for step in range(60):
                verdict = test.observe(TrackKey("s", 1), step * 200 * MS, value)
            entry = HeadReport("antispoof", "print", "scored", verdict)
            outcomes[value] = decide([entry], ["antispoof"], 59 * 200 * MS, profile).label
        assert outcomes == {1.3: "live", -1.3: "spoof(print)"}

    def test_the_test_carries_the_profiles_targets(self):
        config = PROFILES["secure"].sequential()
        assert (config.target_apcer, config.target_bpcer) == (0.005, 0.05)
        assert (config.min_frames, config.min_span_ns) == (6, 1_000 * MS)

    def test_an_unknown_name_lists_the_known(self):
        with pytest.raises(EvaluationError, match=r"balanced.*convenience.*secure.*'paranoid'"):
            profile_named("paranoid")

    @pytest.mark.parametrize(
        "change",
        [
            {"min_score": math.nan},
            {"min_frames": 0},
            {"max_age_ns": -1},
            {"target_apcer": 0.9},
        ],
    )
    def test_senseless_rows_are_refused(self, change):
        with pytest.raises(EvaluationError):
            replace(BALANCED, **change)

    def test_they_cannot_be_changed_in_passing(self):
        with pytest.raises(TypeError):
            PROFILES["balanced"] = Profile(0.4, 0.4, -9.0, 1, 0, 10**12, 0)
