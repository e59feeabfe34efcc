"""Error rates: equal to counting by hand, blind to order, and deaf to the usual polarity slips."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from operators.nn.pad.errors import EvaluationError
from operators.nn.pad.metrics import (
    Presentations,
    Rate,
    Sweeper,
    acer_not_iso,
    apcer_by_species,
    auc,
    bpcer_at_apcer,
    bpcer_rate,
    eer,
    hter,
    non_response,
    sweep,
    tpr_at_fpr,
)


def of(live, **attacks) -> Presentations:
    """Rows of bona fide scores and of attack scores by species, each its own person."""
    score, species = list(live), [""] * len(live)
    for name, scores in attacks.items():
        score += scores
        species += [name] * len(scores)
    return Presentations(
        np.array(score, dtype=np.float64),
        np.array([not name for name in species]),
        np.array(species, dtype=np.str_),
        np.array([f"p{row}" for row in range(len(score))]),
    )


grid_scores = st.lists(st.integers(-4, 4).map(lambda i: i / 2), min_size=1, max_size=12)

# Ten bona fide, ten attacks. At 0.5: 2 of 10 bona fide are below; print 1 of 5, mask 2 of 5 above.
HAND = of(
    [0.2, 0.4, 0.55, 0.6, 0.65, 0.7, 0.8, 0.85, 0.9, 0.95],
    print=[0.05, 0.1, 0.15, 0.3, 0.62],
    mask=[0.1, 0.25, 0.45, 0.58, 0.75],
)


def test_rates_at_a_threshold_by_hand():
    counts = sweep(HAND)
    assert apcer_by_species(counts, 0.5) == {"mask": Rate(0.4, 2, 5), "print": Rate(0.2, 1, 5)}
    assert bpcer_rate(counts, 0.5) == pytest.approx((0.2, 2, 10))
    assert hter(counts, 0.5) == pytest.approx((0.3 + 0.2) / 2)
    assert acer_not_iso(counts, 0.5) == pytest.approx((0.4 + 0.2) / 2)


def test_points_on_the_curve_by_hand():
    counts = sweep(HAND)
    # No attack is above 0.75, so 0.8, 0.85, 0.9, 0.95 remain.
    assert bpcer_at_apcer(counts, 0.0).value == pytest.approx(0.6)
    assert bpcer_at_apcer(counts, 0.1).value == pytest.approx(0.6)  # one of five is 20 %
    # The worst species may have one of five: mask 0.75 stays, mask 0.58 goes, print 0.62 may stay.
    point = bpcer_at_apcer(counts, 0.2)
    assert point.value == pytest.approx(0.3)
    assert 0.58 < point.threshold <= 0.6
    # Of all ten attacks one may pass: print 0.62 must go.
    assert tpr_at_fpr(counts, 0.1).value == pytest.approx(0.6)
    assert tpr_at_fpr(counts, 0.01).value == pytest.approx(0.4)
    # Between 0.55 and 0.58 three of ten are wrong on both sides.
    assert eer(counts).value == pytest.approx(0.3)
    assert 0.55 < eer(counts).threshold <= 0.58


def test_equal_error_between_two_cuts_is_not_the_luckier_one():
    # 2 accepted: APCER 1, BPCER 1/2. 2 rejected: 0 and 1/2. On the line between, 1/2 and 1/2.
    found = eer(sweep(of([1.0, 3.0], print=[2.0])))
    assert found.value == pytest.approx(0.5)
    assert 2 < found.threshold <= 3  # of two cuts that are equally far off the safer one
    # APCER falls 1/3 -> 0 where BPCER is 1/4 all along.
    found = eer(sweep(of([0.0, 5.0, 6.0, 7.0], print=[-2.0, -1.0, 2.0])))
    assert found.value == pytest.approx(0.25)
    assert 0 < found.threshold <= 2


@given(grid_scores, grid_scores)
@settings(max_examples=40, deadline=None)
def test_equal_error_is_the_same_from_both_sides(live, attack):
    """Swapping the classes and the direction of the scores swaps the two errors."""
    mirrored = of([-score for score in attack], print=[-score for score in live])
    assert eer(sweep(of(live, print=attack))).value == pytest.approx(eer(sweep(mirrored)).value)


def brute_auc(live, attack) -> float:
    wins = [(a < b) + 0.5 * (a == b) for b in live for a in attack]
    return sum(wins) / len(wins)


@given(grid_scores, grid_scores)
@settings(max_examples=60, deadline=None)
def test_auc_is_the_mann_whitney_statistic_with_ties(live, attack):
    found = auc(sweep(of(live, print=attack)))
    u = stats.mannwhitneyu(live, attack, method="asymptotic").statistic if len(
        set(live + attack)
    ) > 1 else 0.5 * len(live) * len(attack)  # fmt: skip
    assert found == pytest.approx(u / (len(live) * len(attack)))
    assert found == pytest.approx(brute_auc(live, attack))


@given(grid_scores, grid_scores, grid_scores, st.floats(-2.5, 2.5))
@settings(max_examples=60, deadline=None)
def test_every_threshold_decides_as_score_at_least_threshold(live, one, two, threshold):
    counts = sweep(of(live, one=one, two=two))
    for at in (threshold, live[0], one[0]):
        by_species = apcer_by_species(counts, at)
        assert by_species["one"].errors == sum(score >= at for score in one)
        assert by_species["two"].errors == sum(score >= at for score in two)
        assert bpcer_rate(counts, at).errors == sum(score < at for score in live)


@given(grid_scores, grid_scores, grid_scores)
@settings(max_examples=40, deadline=None)
def test_points_equal_a_search_over_all_thresholds(live, one, two):
    counts = sweep(of(live, one=one, two=two))
    cuts = [*sorted({*live, *one, *two}), 99.0]

    def share(scores, cut):
        return sum(score >= cut for score in scores) / len(scores)

    def best(target, worst):
        return min(1 - share(live, cut) for cut in cuts if worst(cut) <= target + 1e-12)

    for target in (0.0, 0.05, 0.1, 0.5, 1.0):
        worst = best(target, lambda cut: max(share(one, cut), share(two, cut)))
        pooled = best(target, lambda cut: share(one + two, cut))
        assert bpcer_at_apcer(counts, target).value == pytest.approx(worst)
        assert tpr_at_fpr(counts, target).value == pytest.approx(1 - pooled)
        point = bpcer_at_apcer(counts, target)  # and the threshold does what it says
        assert bpcer_rate(counts, point.threshold).value == pytest.approx(worst)


def test_neighbouring_numbers_have_a_threshold_between_them():
    low = 1.0
    high = np.nextafter(low, 2.0)
    counts = sweep(of([high], print=[low]))
    point = bpcer_at_apcer(counts, 0.0)
    assert point.value == 0.0
    assert low < point.threshold <= high


def test_thresholds_are_finite_and_reach_both_ends():
    counts = sweep(of([1.0], print=[2.0]))
    assert np.isfinite(counts.threshold).all()
    assert bpcer_rate(counts, float(counts.threshold[0])).value == 0
    assert apcer_by_species(counts, float(counts.threshold[-1]))["print"].value == 0


def test_all_scores_equal_is_a_coin():
    counts = sweep(of([0.3] * 4, print=[0.3] * 3))
    assert auc(counts) == 0.5
    assert eer(counts).value == 0.5
    assert bpcer_at_apcer(counts, 0.0).value == 1.0


def test_order_of_rows_does_not_matter():
    order = np.random.default_rng(3).permutation(len(HAND.score))
    mixed = Presentations(
        HAND.score[order], HAND.is_live[order], HAND.species[order], HAND.identity[order]
    )
    one, two = sweep(HAND), sweep(mixed)
    for figure in (auc, eer, lambda counts: bpcer_at_apcer(counts, 0.1)):
        assert figure(one) == figure(two)


@given(grid_scores, grid_scores)
@settings(max_examples=30, deadline=None)
def test_a_rising_map_of_the_scores_changes_no_rate(live, attack):
    one = sweep(of(live, print=attack))
    two = sweep(of(np.exp(live).tolist(), print=np.exp(attack).tolist()))
    assert auc(one) == auc(two)
    assert eer(one).value == eer(two).value
    assert bpcer_at_apcer(one, 0.2).value == bpcer_at_apcer(two, 0.2).value


def test_weights_count_as_copies():
    times = np.random.default_rng(0).integers(0, 4, len(HAND.score))
    times[[0, 12]] = 2
    copies = Presentations(*(np.repeat(column, times) for column in vars(HAND).values()))
    weighted, copied = Sweeper(HAND)(times.astype(np.float64)), sweep(copies)
    assert auc(weighted) == pytest.approx(auc(copied))
    assert apcer_by_species(weighted, 0.5) == apcer_by_species(copied, 0.5)
    assert bpcer_at_apcer(weighted, 0.3).value == pytest.approx(bpcer_at_apcer(copied, 0.3).value)


class TestPolarity:
    """The traps of spec 7.2: each of these slips has been published."""

    def test_apcer_is_attacks_let_in_and_bpcer_people_kept_out(self):
        # A detector that calls everything live lets every attack in and keeps nobody out.
        counts = sweep(HAND)
        assert {rate.value for rate in apcer_by_species(counts, -1.0).values()} == {1.0}
        assert bpcer_rate(counts, -1.0).value == 0.0

    def test_labels_as_numbers_are_refused(self):
        columns = vars(HAND) | {"is_live": HAND.is_live.astype(np.int64)}
        with pytest.raises(EvaluationError, match="whether 1 means live or spoof"):
            Presentations(**columns)

    def test_flipped_scores_are_not_flipped_back(self):
        flipped = Presentations(-HAND.score, HAND.is_live, HAND.species, HAND.identity)
        assert auc(sweep(flipped)) == pytest.approx(1 - auc(sweep(HAND)))
        assert auc(sweep(flipped)) < 0.5

    def test_hter_at_another_threshold_is_not_the_eer(self):
        counts = sweep(HAND)
        assert hter(counts, eer(counts).threshold) == pytest.approx(eer(counts).value)
        assert hter(counts, 0.15) == pytest.approx((0.7 + 0.0) / 2)
        assert hter(counts, 0.15) > eer(counts).value

    def test_the_worst_species_is_not_hidden_by_a_large_easy_one(self):
        counts = sweep(of([1.0] * 10, easy=[0.0] * 98, hard=[2.0, 2.0]))
        assert tpr_at_fpr(counts, 0.02).value == 1.0
        assert bpcer_at_apcer(counts, 0.1).value == 1.0


def test_zero_errors_state_their_bound():
    rate = bpcer_rate(sweep(of([0.9] * 60, print=[0.1])), 0.5)
    assert rate.value == 0
    assert rate.upper_95 == pytest.approx(0.05)
    assert apcer_by_species(sweep(of([0.9], print=[0.1])), 0.5)["print"].upper_95 == 1.0
    assert bpcer_rate(sweep(HAND), 0.5).upper_95 is None


def test_silence_is_counted_apart():
    nan = float("nan")
    data = of([0.9, nan, 0.8, 0.7], print=[0.1, nan], mask=[0.2])
    assert non_response(data) == {
        "": Rate(0.25, 1, 4),
        "mask": Rate(0, 0, 1),
        "print": Rate(0.5, 1, 2),
    }
    counts = sweep(data)
    assert bpcer_rate(counts, 0.75) == pytest.approx((1 / 3, 1, 3))
    assert apcer_by_species(counts, 0.0)["print"].n == 1


def test_a_species_without_any_response_has_no_rate():
    counts = sweep(of([0.9], print=[float("nan")], mask=[0.2]))
    assert set(apcer_by_species(counts, 0.5)) == {"mask"}
    assert bpcer_at_apcer(counts, 0.0).value == 0.0


@pytest.mark.parametrize("figure", [auc, eer, lambda counts: bpcer_at_apcer(counts, 0.1)])
@pytest.mark.parametrize(
    ("data", "what"), [(of([0.4, 0.5]), "attack"), (of([], print=[0.4]), "bona fide")]
)
def test_a_single_class_is_told(figure, data, what):
    with pytest.raises(EvaluationError, match=f"no scored {what} presentation"):
        figure(sweep(data))


def test_one_class_still_has_its_own_rate():
    assert bpcer_rate(sweep(of([0.4, 0.6])), 0.5).value == 0.5
    assert apcer_by_species(sweep(of([], print=[0.4, 0.6])), 0.5)["print"].value == 0.5


@pytest.mark.parametrize(
    ("columns", "what"),
    [
        ({"score": np.array([0.1, np.inf])}, "infinite"),
        ({"score": np.array([0.1])}, "one length"),
        ({"score": np.array([0.1, 0.2], dtype=np.float32)}, "float64"),
        ({"species": np.array(["", ""])}, "row 1: an attack needs its species"),
        ({"species": np.array(["print", "print"])}, "row 0"),
    ],
)
def test_rows_that_make_no_sense_are_refused(columns, what):
    good = vars(of([0.5], print=[0.4]))
    with pytest.raises(EvaluationError, match=what):
        Presentations(**(good | columns))


def test_nothing_scored_or_a_senseless_request_is_told():
    with pytest.raises(EvaluationError, match="no presentation gave a response"):
        sweep(of([float("nan")], print=[float("nan")]))
    with pytest.raises(EvaluationError, match="threshold is NaN"):
        hter(sweep(HAND), float("nan"))
    with pytest.raises(EvaluationError, match="APCER lies in"):
        bpcer_at_apcer(sweep(HAND), 10)
    with pytest.raises(EvaluationError, match="FPR lies in"):
        tpr_at_fpr(sweep(HAND), -0.1)
