"""Thresholds from real faces alone keep their promise; calibrated log-odds rise with the score."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.nn.pad.calibration import (
    LabelledCalibration,
    RealOnlyCalibration,
    calibration_from_dict,
    calibration_to_dict,
    fit_labelled,
    fit_real_only,
)
from operators.nn.pad.conformal import (
    conformal_by_camera,
    conformal_threshold,
    needed_faces,
    p_value,
)
from operators.nn.pad.errors import EvaluationError
from operators.nn.pad.metrics import Presentations


def labelled(live, attack) -> Presentations:
    score = np.concatenate([live, attack]).astype(np.float64)
    is_live = np.arange(len(score)) < len(live)
    return Presentations(
        score, is_live, np.where(is_live, "", "print"), np.arange(len(score)).astype(np.str_)
    )


class TestConformal:
    @given(st.integers(20, 300), st.floats(0.05, 0.9), st.integers(0, 99))
    @settings(max_examples=60, deadline=None)
    def test_bpcer_of_the_calibration_set_is_within_one_over_n(self, n, target, seed):
        score = np.random.default_rng(seed).normal(size=n)
        found = conformal_threshold(score, target)
        measured = (score < found.value).mean()
        assert abs(measured - target) <= 1 / n + 1e-9
        assert found.rejected == round(measured * n)
        assert found.value == conformal_threshold(score[::-1], target).value

    def test_new_faces_are_rejected_at_the_promised_rate(self):
        """Mean over calibration sets, in its exact form k / (n + 1), from any distribution."""
        rng = np.random.default_rng(2)
        n, target = 59, 0.05  # k = 3: exactly 0.05
        for draw in (rng.normal, rng.standard_cauchy, rng.exponential):
            misses = [
                (draw(size=200) < conformal_threshold(draw(size=n), target).value).mean()
                for _ in range(400)
            ]
            standard_error = np.std(misses) / math.sqrt(len(misses))
            assert abs(np.mean(misses) - 3 / 60) < 4 * standard_error
            assert standard_error < 0.003

    def test_the_quantile_that_forgets_the_plus_one_breaks_the_promise(self):
        """What the simulation above would say of the plain empirical quantile."""
        rng = np.random.default_rng(2)
        misses = [
            (rng.normal(size=200) <= np.sort(rng.normal(size=19))[1]).mean() for _ in range(400)
        ]
        assert np.mean(misses) > 0.08  # asked for 1/19 = 0.053 plus what +1 would have corrected

    def test_too_few_faces_are_told_with_the_number_needed(self):
        assert [needed_faces(share) for share in (0.5, 0.05, 0.01, 0.3)] == [1, 19, 99, 3]
        with pytest.raises(EvaluationError, match="needs at least 99 real faces, got 98"):
            conformal_threshold(np.arange(98.0), 0.01)
        assert conformal_threshold(np.arange(99.0), 0.01).rejected == 1

    def test_ties_reject_fewer_never_more(self):
        score = np.array([1.0] * 50 + [2.0] * 50)
        found = conformal_threshold(score, 0.1)
        assert (found.value, found.rejected) == (1.0, 0)

    def test_cameras_have_their_own(self):
        rng = np.random.default_rng(0)
        score = np.concatenate([rng.normal(size=200), rng.normal(size=200) - 5])
        camera = ["door"] * 200 + ["gate"] * 200
        found = conformal_by_camera(score, camera, 0.05)
        assert set(found) == {"door", "gate"}
        assert found["gate"].value < found["door"].value - 4
        for name, low in (("door", score[:200]), ("gate", score[200:])):
            assert abs((low < found[name].value).mean() - 0.05) <= 1 / 200

    def test_every_camera_with_too_few_faces_is_named(self):
        with pytest.raises(EvaluationError, match="a has 2, c has 1"):
            conformal_by_camera(np.arange(22.0), ["a", *["b"] * 19, "a", "c"], 0.05)
        with pytest.raises(EvaluationError, match="scores but"):
            conformal_by_camera(np.arange(3.0), ["a"], 0.5)

    @pytest.mark.parametrize("score", [[], [1.0, math.nan], [[1.0]], [math.inf]])
    def test_scores_that_are_none_are_refused(self, score):
        with pytest.raises(EvaluationError, match="real-face score"):
            conformal_threshold(np.array(score), 0.5)

    @pytest.mark.parametrize("target", [0.0, 1.0, 5.0, math.nan])
    def test_a_target_outside_is_refused(self, target):
        with pytest.raises(EvaluationError, match="target BPCER"):
            conformal_threshold(np.arange(100.0), target)

    def test_p_values_by_hand(self):
        found = p_value(np.array([1.0, 2.0, 3.0]), np.array([0.5, 1.0, 2.5, 9.0]))
        assert found.tolist() == [0.25, 0.5, 0.75, 1.0]


class TestRealOnly:
    def test_it_rises_and_knows_live_from_attack(self):
        rng = np.random.default_rng(1)
        calibration = fit_real_only(rng.normal(size=300))
        value = calibration.log_odds(np.linspace(-6, 6, 400))
        assert (np.diff(value) >= 0).all()
        assert value[0] < -2
        assert value[-1] == pytest.approx(math.log(9))  # -log kappa of an assumed AUC of 0.9

    def test_evidence_for_attack_is_an_e_value_on_real_faces(self):
        """E[exp(-l)] <= 1 for a new real face: what bounds BPCER without a single attack."""
        rng = np.random.default_rng(4)
        for assumed in (0.6, 0.9, 0.99):
            means = [
                np.exp(-fit_real_only(rng.normal(size=100), assumed).log_odds(rng.normal(size=50)))
                for _ in range(400)
            ]
            error = np.std(means) / math.sqrt(400 * 50)
            assert np.mean(means) < 1 + 4 * error

    def test_the_assumed_auc_is_that_of_its_family(self):
        """Attack p-values with density kappa u^(kappa-1) lose to uniform ones with that AUC."""
        rng = np.random.default_rng(0)
        assumed = 0.9
        kappa = 1 / assumed - 1
        attack, live = rng.random(4000) ** (1 / kappa), rng.random(4000)
        measured = np.searchsorted(np.sort(attack), live).mean() / 4000
        assert measured == pytest.approx(assumed, abs=0.01)

    def test_many_scores_are_thinned_by_rank(self):
        score = np.random.default_rng(0).normal(size=20_000)
        calibration = fit_real_only(score)
        assert len(calibration.live_score) == 4096
        probe = np.linspace(-3, 3, 50)
        share = np.searchsorted(np.sort(score), probe) / 20_000
        thinned = p_value(np.array(calibration.live_score), probe)
        assert np.abs(share - thinned).max() < 1e-3

    @pytest.mark.parametrize("assumed", [0.5, 1.0, math.nan])
    def test_a_senseless_auc_is_refused(self, assumed):
        with pytest.raises(EvaluationError, match="assumed_auc"):
            fit_real_only(np.arange(9.0), assumed)

    def test_a_score_that_is_no_number_has_no_log_odds(self):
        with pytest.raises(EvaluationError, match="not finite"):
            fit_real_only(np.arange(9.0)).log_odds(np.array([1.0, math.nan]))


class TestLabelled:
    def test_it_finds_the_log_likelihood_ratio_of_two_normals(self):
        """N(1, 1) against N(-1, 1): log-odds 2 s, whatever the share of attacks."""
        rng = np.random.default_rng(3)
        found = fit_labelled(labelled(rng.normal(size=4000) + 1, rng.normal(size=1000) - 1))
        assert found.slope == pytest.approx(2, abs=0.2)
        assert found.offset == pytest.approx(0, abs=0.15)

    @given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3))
    @settings(max_examples=25, deadline=None)
    def test_units_of_the_score_do_not_matter(self, shift, scale):
        rng = np.random.default_rng(3)
        live, attack = rng.normal(size=60) + 1, rng.normal(size=60) - 1
        one = fit_labelled(labelled(live, attack)).log_odds(live)
        two = fit_labelled(labelled(live * scale + shift, attack * scale + shift))
        assert np.allclose(one, two.log_odds(live * scale + shift), atol=1e-3)

    def test_perfectly_separate_classes_stay_finite(self):
        found = fit_labelled(labelled(np.ones(20), np.zeros(20)))
        value = found.log_odds(np.array([0.0, 1.0]))
        assert value[0] == pytest.approx(-math.log(21), abs=0.05)  # Platt's targets 1/22, 21/22
        assert value[1] == pytest.approx(math.log(21), abs=0.05)

    def test_probabilities_go_through_the_logit(self):
        found = fit_labelled(labelled([0.9, 0.8, 0.99, 1.0, 0.3], [0.1, 0.2, 0.6, 0.0]), "logit")
        value = found.log_odds(np.array([0.0, 0.2, 0.5, 0.8, 1.0]))
        assert np.isfinite(value).all()
        assert (np.diff(value) > 0).all()
        with pytest.raises(EvaluationError, match="probabilities"):
            found.log_odds(np.array([1.5]))

    @pytest.mark.parametrize(
        ("live", "attack", "what"),
        [
            ([0.1, 0.2, 0.3], [0.7, 0.8, 0.9], "higher score more bona fide"),
            ([0.1, 0.2], [], "need scored live and attack data, got 2 and 0"),
            ([0.5, 0.5], [0.5], "all scores are equal"),
        ],
    )
    def test_what_cannot_be_calibrated_is_told(self, live, attack, what):
        with pytest.raises(EvaluationError, match=what):
            fit_labelled(labelled(np.array(live), np.array(attack)))


class TestStored:
    @pytest.mark.parametrize(
        "calibration",
        [fit_real_only(np.array([0.3, 0.1, 0.2])), LabelledCalibration(2.0, -1.0, "logit")],
    )
    def test_through_json_and_back(self, calibration):
        text = json.dumps(calibration_to_dict(calibration))
        assert calibration_from_dict(json.loads(text)) == calibration

    @pytest.mark.parametrize(
        ("data", "what"),
        [
            ({}, "kind is one of"),
            ({"kind": ["labelled"]}, "kind is one of"),
            ({"kind": "labelled", "slope": 1.0}, "labelled calibration has"),
            ({"kind": "labelled", "slope": "1", "offset": 0, "link": "logit"}, "slope"),
            ({"kind": "labelled", "slope": -1, "offset": 0, "link": "logit"}, "slope"),
            ({"kind": "labelled", "slope": 1, "offset": math.nan, "link": "logit"}, "offset"),
            ({"kind": "labelled", "slope": 1, "offset": 0, "link": "probit"}, "link"),
            ({"kind": "real_only", "live_score": [2, 1], "assumed_auc": 0.9}, "ascend"),
            ({"kind": "real_only", "live_score": [], "assumed_auc": 0.9}, "n >= 1"),
            ({"kind": "real_only", "live_score": ["a"], "assumed_auc": 0.9}, "list of numbers"),
            ({"kind": "real_only", "live_score": [1.0], "assumed_auc": True}, "assumed_auc"),
        ],
    )
    def test_damage_is_named(self, data, what):
        with pytest.raises(EvaluationError, match=what):
            calibration_from_dict(data)

    def test_scores_are_checked_when_built_directly(self):
        with pytest.raises(EvaluationError, match="not finite"):
            RealOnlyCalibration((1.0, math.nan), 0.9)
