"""Wald's test per track: error rates on simulated tracks, and every rule of its memory."""

from __future__ import annotations

import math
from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.nn.pad.calibration import fit_real_only
from operators.nn.pad.errors import EvaluationError
from operators.nn.pad.sequential import SequentialConfig, SequentialTest, TrackKey

KEY = TrackKey("door", 1)
STEP_NS = 200_000_000
S_NS = 1_000_000_000


def feed(test, values, key=KEY, start_ns=0, step_ns=STEP_NS, quality=1.0):
    """Observe values one step apart; the verdict after the last."""
    for number, value in enumerate(values):
        verdict = test.observe(key, start_ns + number * step_ns, value, quality)
    return verdict


def first_decisions(config, tracks) -> list[str]:
    """State of each row of log-odds [T, frames] when it first is decided."""
    test = SequentialTest(config)
    states = []
    for number, row in enumerate(tracks):
        key = TrackKey("s", number)
        for frame, value in enumerate(row):
            state = test.observe(key, frame * STEP_NS, float(value)).state
            if state != "undecided":
                break
        states.append(state)
        test.reset("s", number)
    assert len(test) == 0
    return states


def log_odds(rng, tracks, frames, correlation, live) -> np.ndarray:
    """True log-likelihood ratios of N(+-m, 2m), m = 0.7, whose noise is AR(1) along a track."""
    mean = 0.7
    noise = rng.normal(size=(tracks, frames))
    for t in range(1, frames):
        noise[:, t] *= math.sqrt(1 - correlation**2)
        noise[:, t] += correlation * noise[:, t - 1]
    return (mean if live else -mean) + math.sqrt(2 * mean) * noise


class TestErrorRates:
    A, B = 0.05, 0.03

    def rates(self, effective, correlation, seed=0, tracks=500):
        config = SequentialConfig(
            self.A, self.B, effective=effective, min_frames=1, min_span_ns=0, clip=50
        )
        rng = np.random.default_rng(seed)
        live = first_decisions(config, log_odds(rng, tracks, 120, correlation, True))
        attack = first_decisions(config, log_odds(rng, tracks, 120, correlation, False))
        undecided = (live.count("undecided") + attack.count("undecided")) / (2 * tracks)
        return attack.count("live") / tracks, live.count("attack") / tracks, undecided

    def margin(self, target, tracks=500):
        return 3 * math.sqrt(target * (1 - target) / tracks)

    def test_independent_frames_keep_both_targets(self):
        apcer, bpcer, undecided = self.rates(effective=1.0, correlation=0.0)
        assert apcer <= self.A + self.margin(self.A)
        assert bpcer <= self.B + self.margin(self.B)
        assert undecided < 0.01
        assert apcer > 0.005  # and it is no test that never errs

    def test_correlated_frames_keep_them_by_the_effective_factor(self):
        """Correlation 0.6: one frame in (1 + 0.6) / (1 - 0.6) = 4 is new."""
        apcer, bpcer, undecided = self.rates(effective=0.25, correlation=0.6)
        assert apcer <= self.A + self.margin(self.A)
        assert bpcer <= self.B + self.margin(self.B)
        assert undecided < 0.05

    def test_without_the_factor_correlated_frames_break_them(self):
        apcer, bpcer, _ = self.rates(effective=1.0, correlation=0.6)
        assert apcer > self.A + self.margin(self.A)
        assert bpcer > self.B + self.margin(self.B)

    def test_the_default_test_on_correlated_frames(self):
        config = SequentialConfig()
        rng = np.random.default_rng(6)
        live = first_decisions(config, log_odds(rng, 300, 150, 0.6, True))
        attack = first_decisions(config, log_odds(rng, 300, 150, 0.6, False))
        limit = 0.02 + self.margin(0.02, 300)
        assert attack.count("live") / 300 <= limit
        assert live.count("attack") / 300 <= limit
        assert live.count("live") > 280

    def test_bpcer_holds_with_the_calibration_that_never_saw_an_attack(self):
        """Runs of four equal frames: the worst dependence that the factor 1/4 stands for."""
        rng = np.random.default_rng(8)
        wrong = live = 0
        for _ in range(15):
            calibration = fit_real_only(rng.normal(size=400))
            score = np.repeat(rng.normal(size=(30, 30)), 4, axis=1)
            states = first_decisions(SequentialConfig(), calibration.log_odds(score))
            wrong += states.count("attack")
            live += states.count("live")
        assert wrong / 450 <= 0.02 + self.margin(0.02, 450)
        assert live / 450 > 0.9

    @given(st.floats(0.001, 0.4), st.floats(0.001, 0.4))
    def test_bounds_are_walds(self, a, b):
        config = SequentialConfig(a, b)
        assert config.upper == pytest.approx(math.log((1 - b) / a))
        assert config.lower == pytest.approx(math.log(b / (1 - a)))
        assert config.lower < 0 < config.upper


class TestEvidence:
    def test_frames_add_up_clipped_scaled_weighted_and_without_the_prior(self):
        test = SequentialTest(SequentialConfig(effective=0.2, prior=0.5))
        test.observe(KEY, 0, 9.0)
        test.observe(KEY, 1, -1.0, quality=0.5)
        verdict = test.observe(KEY, 2, -100.0, quality=0.25)
        assert verdict.llr == pytest.approx(0.2 * (3.5 + 0.5 * -1.5 + 0.25 * -4.5))
        assert verdict.score == pytest.approx((4 - 0.5 - 1) / 1.75)
        assert (verdict.n_scored, verdict.span_ns, verdict.scored_pts_ns) == (3, 2, 2)

    def test_the_score_is_of_the_last_w_frames(self):
        test = SequentialTest(SequentialConfig())
        verdict = feed(test, [-1.0] * 10 + [1.0] * 16)
        assert verdict.score == 1.0
        assert verdict.n_scored == 26

    def test_median_shrugs_at_a_few_wild_frames(self):
        values = [1.0, 1.2, 0.9, -4.0, 1.1]
        assert feed(SequentialTest(SequentialConfig(median=True)), values).score == 1.0
        weighted = SequentialTest(SequentialConfig(median=True))
        weighted.observe(KEY, 0, -3.0, quality=1.0)
        assert weighted.observe(KEY, 1, 2.0, quality=0.4).score == -3.0

    def test_no_decision_before_enough_frames(self):
        sure = SequentialConfig(effective=1.0)
        for sign, state in ((4.0, "live"), (-4.0, "attack")):
            test = SequentialTest(sure)
            assert feed(test, [sign, sign]).state == "undecided"
            assert test.observe(KEY, 2 * STEP_NS, sign).state == state

    def test_no_decision_before_enough_time(self):
        test = SequentialTest(SequentialConfig(effective=1.0))
        assert feed(test, [4.0] * 30, step_ns=10_000_000).state == "undecided"  # 290 ms
        assert test.observe(KEY, 300_000_000, 4.0).state == "live"

    def test_time_before_zero_counts_like_any(self):
        test = SequentialTest(SequentialConfig(effective=1.0))
        assert feed(test, [4.0] * 4, start_ns=-300_000_000, step_ns=100_000_000).state == "live"

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_what_is_no_number_is_no_evidence(self, value):
        test = SequentialTest(SequentialConfig())
        before = feed(test, [2.0, 2.0])
        after = test.observe(KEY, 2 * STEP_NS, value)
        assert after == before

    @pytest.mark.parametrize("quality", [0.0, -1.0, 1.5, math.nan])
    def test_a_quality_outside_is_no_evidence(self, quality):
        test = SequentialTest(SequentialConfig())
        verdict = feed(test, [4.0] * 50, quality=quality)
        assert (verdict.n_scored, verdict.state, verdict.score) == (0, "undecided", 0.0)

    def test_tracks_and_streams_are_apart(self):
        together, alone = SequentialTest(SequentialConfig()), SequentialTest(SequentialConfig())
        other_id, other_stream = TrackKey("door", 2), TrackKey("gate", 1)
        for number in range(20):
            together.observe(other_id, number * STEP_NS, -4.0)
            mixed = together.observe(KEY, number * STEP_NS, 1.0)
            together.observe(other_stream, 7 * S_NS + number * STEP_NS, -4.0)
            assert mixed == alone.observe(KEY, number * STEP_NS, 1.0)
        assert together.verdict(other_id).state == "attack"
        assert together.verdict(KEY).state == "live"


class TestHysteresis:
    def attacked(self):
        test = SequentialTest(SequentialConfig())
        assert feed(test, [-4.0] * 5).state == "attack"
        return test

    def test_attack_is_never_left_by_evidence(self):
        test = self.attacked()
        verdict = feed(test, [4.0] * 500, start_ns=S_NS)
        assert verdict.state == "attack"
        assert verdict.since_pts_ns == 3 * STEP_NS
        assert verdict.score == 4.0  # what is seen is still told

    def test_attack_is_not_left_by_silence_while_the_track_is_seen(self):
        test = self.attacked()
        for number in range(1, 30):
            test.skip(KEY, S_NS + number * S_NS)
        assert feed(test, [4.0] * 50, start_ns=40 * S_NS - 5 * S_NS).state == "attack"

    def test_reset_ends_it(self):
        test = self.attacked()
        assert test.reset("door", 1) == 1
        assert feed(test, [4.0] * 10, start_ns=S_NS).state == "live"

    def test_a_new_track_is_a_new_start(self):
        test = self.attacked()
        assert feed(test, [4.0] * 10, key=TrackKey("door", 2)).state == "live"

    def test_a_live_face_that_turns_into_an_attack_is_found_soon(self):
        test = SequentialTest(SequentialConfig())
        assert feed(test, [4.0] * 5000).state == "live"  # a quarter of an hour
        states = [
            test.observe(KEY, 5000 * STEP_NS + number * STEP_NS, -4.0).state for number in range(12)
        ]
        needed = 2 * SequentialConfig().upper  # A - B of symmetric targets, 1 per frame
        assert states.index("attack") + 1 == math.ceil(needed)
        assert "undecided" in states  # it stops being live on the way

    def test_live_survives_a_bad_frame(self):
        test = SequentialTest(SequentialConfig())
        feed(test, [4.0] * 10)
        assert test.observe(KEY, 10 * STEP_NS, -4.0).state == "live"


class TestMemory:
    def test_late_and_doubled_frames_are_ignored(self):
        test = SequentialTest(SequentialConfig())
        before = feed(test, [1.0] * 5)
        for late_ns in (4 * STEP_NS, 3 * STEP_NS, -S_NS):
            assert test.observe(KEY, late_ns, -4.0) == before
            assert test.skip(KEY, late_ns) == before

    def test_a_track_unseen_for_longer_than_its_ttl_is_new(self):
        for gap_ns, n_scored in ((5 * S_NS, 4), (5 * S_NS + 1, 1)):
            test = SequentialTest(SequentialConfig())
            feed(test, [1.0] * 3)
            assert test.observe(KEY, 2 * STEP_NS + gap_ns, 1.0).n_scored == n_scored

    def test_a_track_seen_but_not_scored_loses_its_live_verdict(self):
        test = SequentialTest(SequentialConfig())
        assert feed(test, [4.0] * 10).state == "live"
        for number in range(1, 7):
            verdict = test.skip(KEY, 9 * STEP_NS + number * S_NS)
            assert verdict.state == ("live" if number <= 5 else "undecided")
        assert (verdict.n_scored, verdict.llr, verdict.scored_pts_ns) == (0, 0.0, None)
        assert verdict.since_pts_ns == 9 * STEP_NS + 6 * S_NS

    def test_expired_tracks_are_forgotten_by_stream(self):
        test = SequentialTest(SequentialConfig())
        for key in (KEY, TrackKey("gate", 1)):
            test.observe(key, 0, 1.0)
        assert test.expire("door", 5 * S_NS) == 0
        assert test.expire("door", 5 * S_NS + 1) == 1
        assert len(test) == 1
        with pytest.raises(KeyError):
            test.verdict(KEY)

    def test_state_is_bounded(self):
        test = SequentialTest(SequentialConfig())
        feed(test, [0.1, -0.1] * 1000)
        (track,) = test._tracks.values()
        assert len(track.window) == 16
        for number, pts_ns in zip(range(2000), count(0, STEP_NS), strict=False):
            test.observe(TrackKey("busy", number), pts_ns, 1.0)
            test.expire("busy", pts_ns)
        assert len(test) == 1 + 26

    def test_reset_of_one_stream_or_all(self):
        test = SequentialTest(SequentialConfig())
        for stream in ("a", "b"):
            for number in range(3):
                test.observe(TrackKey(stream, number), 0, 1.0)
        assert test.reset("a") == 3
        assert test.reset() == 3
        with pytest.raises(EvaluationError, match="name it"):
            test.reset(None, 1)

    @given(
        st.lists(
            st.tuples(st.integers(0, 20), st.floats(allow_nan=True), st.floats(-0.5, 1.5)),
            max_size=60,
        )
    )
    @settings(max_examples=80, deadline=None)
    def test_nothing_but_evidence_makes_live(self, frames):
        """Any order, any number: live needs three finite frames over 0.3 s that speak for it."""
        test = SequentialTest(SequentialConfig(effective=1.0))
        attacked = False
        for step, value, quality in frames:
            verdict = test.observe(KEY, step * 100_000_000, value, quality)
            attacked = attacked or verdict.state == "attack"
            assert math.isfinite(verdict.llr)
            assert math.isfinite(verdict.score)
            if verdict.state == "live":
                assert not attacked
                assert verdict.n_scored >= 3
                assert verdict.span_ns >= 300_000_000
                assert verdict.llr > 0


@pytest.mark.parametrize(
    "change",
    [
        {"target_apcer": 0.0},
        {"target_bpcer": 0.5},
        {"target_apcer": math.nan},
        {"effective": 0.0},
        {"effective": 1.5},
        {"prior": math.inf},
        {"clip": 0.0},
        {"window": 0},
        {"min_frames": 0},
        {"min_span_ns": -1},
        {"ttl_ns": 0},
    ],
)
def test_senseless_settings_are_refused(change):
    with pytest.raises(EvaluationError):
        SequentialConfig(**change)
