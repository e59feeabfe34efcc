"""The Frechet distance: its closed forms, its symmetries, and an interval that covers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.nn.quality.frechet import fit_projection, frechet_distance, frechet_interval


def exact(rng: np.random.Generator, mean: np.ndarray, deviation: np.ndarray, n: int) -> np.ndarray:
    """[n, D] whose sample mean and (diagonal) covariance are exactly these."""
    d = len(mean)
    x = rng.normal(size=(n, d))
    x -= x.mean(axis=0)
    q, _ = np.linalg.qr(x)
    return q * np.sqrt(n - 1) * deviation + mean


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6))
def test_diagonal_gaussians_have_a_closed_form(seed: int, d: int) -> None:
    """|m - m'|^2 + sum (s - s')^2, whichever way round and however turned."""
    rng = np.random.default_rng(seed)
    m, n = rng.normal(size=(2, d))
    s, u = rng.uniform(0.1, 3, (2, d))
    x, y = exact(rng, m, s, 20), exact(rng, n, u, 31)
    told = ((m - n) ** 2).sum() + ((s - u) ** 2).sum()
    assert frechet_distance(x, y) == pytest.approx(told, rel=1e-8)
    assert frechet_distance(y, x) == pytest.approx(told, rel=1e-8)
    turn, _ = np.linalg.qr(rng.normal(size=(d, d)))
    assert frechet_distance(x @ turn, y @ turn) == pytest.approx(told, rel=1e-7)
    assert frechet_distance(x, x[::-1]) == pytest.approx(0, abs=1e-10)


def test_too_few_rows_or_other_columns_are_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="N, M > D"):
        frechet_distance(rng.normal(size=(4, 4)), rng.normal(size=(9, 4)))
    with pytest.raises(ValueError, match="N, M > D"):
        frechet_distance(rng.normal(size=(9, 3)), rng.normal(size=(9, 4)))
    with pytest.raises(ValueError, match="finite"):
        frechet_distance(np.full((9, 3), np.nan), rng.normal(size=(9, 3)))


def test_the_projection_standardises_and_keeps_the_largest_axes() -> None:
    rng = np.random.default_rng(1)
    hidden = rng.normal(size=(200, 2))
    mix = rng.normal(size=(2, 7))
    real = np.column_stack((hidden @ mix + 0.01 * rng.normal(size=(200, 7)), np.full(200, 3.0)))
    real[:, 0] *= 1000  # another unit changes nothing
    fitted = fit_projection(real, 2)
    assert fitted.kept > 0.99
    assert fitted(real).var(axis=0).sum() == pytest.approx(fitted.kept, rel=1e-9)
    rescaled = real * np.array([1e-3, 1, 1, 1, 1, 1, 1, 1])
    again = fit_projection(rescaled, 2)(rescaled)
    assert np.abs(again) == pytest.approx(np.abs(fitted(real)), abs=1e-9)
    for dims in (0, 9, 200):
        with pytest.raises(ValueError, match="axes fit"):
            fit_projection(real, dims)


def test_the_interval_is_seeded_and_holds_the_value() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(60, 3)), rng.normal(0.7, 1.2, size=(60, 3))
    found = frechet_interval(x, y, draws=100, seed=4)
    assert found == frechet_interval(x, y, draws=100, seed=4)
    assert found != frechet_interval(x, y, draws=100, seed=5)
    assert found.low < found.value < found.high
    assert found.value == frechet_distance(x, y)
    with pytest.raises(ValueError, match="draws"):
        frechet_interval(x, y, draws=1)


@pytest.mark.slow
def test_the_interval_covers_what_samples_of_this_size_show() -> None:
    """It estimates the spread: the mean distance of such samples lies inside it, mostly."""
    rng = np.random.default_rng(3)

    def drawn() -> tuple[np.ndarray, np.ndarray]:
        return rng.normal(size=(50, 3)), rng.normal(0.8, 1.0, size=(50, 3))

    typical = np.mean([frechet_distance(*drawn()) for _ in range(300)])
    inside = 0
    for _ in range(60):
        found = frechet_interval(*drawn(), draws=80, level=0.9)
        inside += found.low <= typical <= found.high
    assert inside / 60 > 0.75
