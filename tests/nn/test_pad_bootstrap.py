"""Intervals over identities: reproducible, honest about clusters, and they cover."""

from __future__ import annotations

import numpy as np
import pytest

from operators.nn.pad.bootstrap import BootstrapConfig, Interval, intervals
from operators.nn.pad.errors import EvaluationError
from operators.nn.pad.metrics import Presentations, auc, bpcer_rate, eer

AUC = {"AUC": auc}


def people(rng: np.random.Generator, count: int, clips: int, between: float) -> Presentations:
    """`clips` live and attack rows per person; a person's live rows share an offset."""
    offset = rng.normal(size=count) * between
    live = rng.normal(size=(count, clips)) + offset[:, None] + 1.5
    attack = rng.normal(size=(count, clips))
    names = np.repeat([f"p{i}" for i in range(count)], clips)
    return Presentations(
        np.concatenate([live.ravel(), attack.ravel()]),
        np.repeat([True, False], count * clips),
        np.repeat(["", "print"], count * clips),
        np.concatenate([names, names]),
    )


def test_same_seed_same_interval_and_row_order_does_not_matter():
    data = people(np.random.default_rng(0), 12, 4, 0.5)
    order = np.random.default_rng(1).permutation(len(data.score))
    mixed = Presentations(*(column[order] for column in vars(data).values()))
    config = BootstrapConfig(draws=200, seed=7)
    first = intervals(data, AUC | {"EER": lambda counts: eer(counts).value}, config)
    assert first == intervals(mixed, AUC | {"EER": lambda counts: eer(counts).value}, config)
    assert first["AUC"] != intervals(data, AUC, BootstrapConfig(draws=200, seed=8))["AUC"]
    assert first["AUC"] == intervals(data, AUC, config)["AUC"]  # other figures share the draws


@pytest.mark.slow
def test_the_interval_covers_the_truth_where_rows_are_clustered():
    """With a common offset per person, AUC = P(N(1.5, 1 + b^2) > N(0, 1))."""
    between = 1.0
    from scipy import stats

    truth = stats.norm.cdf(1.5 / np.sqrt(2 + between**2))
    rng = np.random.default_rng(5)
    config = BootstrapConfig(draws=150, level=0.9)
    inside = naive_inside = 0
    repeats = 120
    for _ in range(repeats):
        data = people(rng, 30, 8, between)
        found = intervals(data, AUC, config)["AUC"]
        inside += found.low <= truth <= found.high
        rows = np.array([f"r{i}" for i in range(len(data.score))])
        naive = Presentations(data.score, data.is_live, data.species, rows)
        found = intervals(naive, AUC, config)["AUC"]
        naive_inside += found.low <= truth <= found.high
    assert 0.8 <= inside / repeats <= 0.97
    assert naive_inside / repeats < 0.75  # resampling rows pretends to know more


def test_draws_without_a_class_are_counted_not_hidden():
    data = Presentations(
        np.array([0.9, 0.8, 0.7, 0.1]),
        np.array([True, True, True, False]),
        np.array(["", "", "", "print"]),
        np.array(["a", "b", "c", "d"]),
    )
    found = intervals(data, AUC, BootstrapConfig(draws=400))["AUC"]
    assert found is not None
    assert 0 < found.undefined < 200  # (3/4)^4 of the draws miss the only attack
    bpcer = intervals(
        data, {"BPCER": lambda counts: bpcer_rate(counts, 0.75).value}, BootstrapConfig(draws=400)
    )["BPCER"]
    assert bpcer.undefined < found.undefined


def test_a_figure_undefined_in_most_draws_has_no_interval():
    data = people(np.random.default_rng(0), 3, 2, 0.1)
    assert intervals(data, {"never": lambda counts: float("nan")}, BootstrapConfig(draws=20)) == {
        "never": None
    }


def test_no_error_gives_no_width():
    data = people(np.random.default_rng(0), 5, 2, 0.0)
    found = intervals(data, {"zero": lambda counts: 0.0}, BootstrapConfig(draws=20))["zero"]
    assert found == Interval(0.0, 0.0, 0)


def test_one_person_or_senseless_settings_are_told():
    one = people(np.random.default_rng(0), 1, 4, 0.5)
    with pytest.raises(EvaluationError, match="needs two or more, got 1"):
        intervals(one, AUC, BootstrapConfig(draws=10))
    with pytest.raises(EvaluationError, match="draws"):
        BootstrapConfig(draws=0)
    with pytest.raises(EvaluationError, match="level"):
        BootstrapConfig(level=95)
