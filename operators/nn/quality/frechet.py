"""Frechet distance of two sets of features, each taken for a Gaussian, and an interval for it.

Source: Dowson and Landau, J. Multivariate Analysis 12, 1982, eq. 4; for pictures Heusel et al.,
NeurIPS 2017 (arXiv:1706.08500), eq. 6; for video Unterthiner et al., 2018 (arXiv:1812.01717).

Ours: sets here have some hundred clips and features some thousand numbers, so a covariance would be
singular. Each number is divided by its deviation over a set of real clips, then all are projected
on that set's first `dims` principal axes; the distance asks for more clips than axes, and nothing
is added to a covariance. Features so scaled have a total variance of 1 over that set: a distance
of 1 is large. The set must be neither of the two that are compared: it lies along its own axes more
than any other does. Figures of different `dims`, features or set sizes cannot be compared, and two
small samples of the same clips are not at distance 0. Report that floor beside a figure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]

FLAT = 1e-6  # deviations below this share of the largest tell nothing and are not blown up


@dataclass(frozen=True)
class Projection:
    """From features [N, D] to [N, dims]: scaled to a total variance of 1, along principal axes."""

    mean: F64  # [D]
    deviation: F64  # [D]
    axes: F64  # [D, dims], orthonormal
    kept: float  # share of the real set's variance that the axes carry

    def __call__(self, features: npt.NDArray[np.floating]) -> F64:
        projected: F64 = ((features - self.mean) / self.deviation) @ self.axes
        return projected


@dataclass(frozen=True)
class Distance:
    """A Frechet distance, with a percentile interval where one was asked for."""

    value: float
    low: float
    high: float


def fit_projection(real: npt.NDArray[np.floating], dims: int) -> Projection:
    """The first principal axes of a real set [N, D]. ValueError unless 1 <= dims < N, dims <= D."""
    x = _checked(real)
    if not 1 <= dims < len(x) or dims > x.shape[1]:
        raise ValueError(f"1 to {min(len(x) - 1, x.shape[1])} axes fit {x.shape}, not {dims}")
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    flat = deviation <= FLAT * deviation.max()
    deviation = np.where(flat, np.inf, deviation * np.sqrt(max((~flat).sum(), 1)))
    _, sizes, axes = np.linalg.svd((x - mean) / deviation, full_matrices=False)
    kept = float((sizes[:dims] ** 2).sum() / max((sizes**2).sum(), np.finfo(float).tiny))
    return Projection(mean, deviation, np.ascontiguousarray(axes[:dims].T), kept)


def frechet_distance(one: npt.NDArray[np.floating], other: npt.NDArray[np.floating]) -> float:
    """|m - m'|^2 + tr(C + C' - 2 (C^1/2 C' C^1/2)^1/2) of two sets [N, D] and [M, D].

    ValueError unless both have more rows than columns: fewer leave a covariance singular.
    """
    x, y = _checked(one), _checked(other)
    if x.shape[1] != y.shape[1] or min(len(x), len(y)) <= x.shape[1]:
        raise ValueError(f"[N, D], [M, D] with N, M > D are needed, {x.shape}, {y.shape} came")
    return _distance(x, y)


def frechet_interval(
    one: npt.NDArray[np.floating],
    other: npt.NDArray[np.floating],
    draws: int = 200,
    level: float = 0.95,
    seed: int = 0,
) -> Distance:
    """`frechet_distance` with an interval from resampled rows of both sets.

    A resampled set lies further away than the set itself, for it has fewer different rows: the
    percentiles are moved back by the mean of that excess. Rows must be independent (one per clip).
    """
    if draws < 2 or not 0 < level < 1:
        raise ValueError(f"draws >= 2 and 0 < level < 1 are needed, {draws = }, {level = } came")
    value = frechet_distance(one, other)
    x, y = _checked(one), _checked(other)
    rng = np.random.default_rng(seed)
    drawn = np.array([_distance(_again(x, rng), _again(y, rng)) for _ in range(draws)])
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]) - (drawn.mean() - value)
    return Distance(value, max(float(low), 0.0), float(high))


def _distance(x: F64, y: F64) -> float:
    gap = x.mean(axis=0) - y.mean(axis=0)
    one, other = _covariance(x), _covariance(y)
    root = _root(one)
    # The trace of the root of C^1/2 C' C^1/2 is the sum of the roots of its eigenvalues.
    squares = np.asarray(np.linalg.eigvalsh(root @ other @ root), np.float64)
    cross = np.sqrt(_positive(squares)).sum()
    # Rounding may leave a distance just below 0.
    return max(float(gap @ gap + np.trace(one) + np.trace(other) - 2 * cross), 0.0)


def _covariance(x: F64) -> F64:
    return np.atleast_2d(np.cov(x, rowvar=False))


def _root(matrix: F64) -> F64:
    """The symmetric root of a symmetric matrix without negative eigenvalues."""
    values, vectors = np.linalg.eigh(matrix)
    root: F64 = (vectors * np.sqrt(_positive(values))) @ vectors.T
    return root


def _positive(values: F64) -> F64:
    """Eigenvalues that rounding has put below 0 are 0."""
    return np.maximum(values, 0.0)


def _again(x: F64, rng: np.random.Generator) -> F64:
    return x[rng.integers(len(x), size=len(x))]


def _checked(features: npt.NDArray[np.floating]) -> F64:
    x = np.asarray(features, np.float64)
    if x.ndim != 2 or len(x) < 2:
        raise ValueError(f"features [N >= 2, D] are needed, {x.shape} came")
    if not np.isfinite(x).all():
        raise ValueError("features must be finite")
    return x
