"""Histograms of durations: percentiles, merging, and the cumulative form that Prometheus wants."""

from __future__ import annotations

from bisect import bisect_right

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.telemetry.stats import GROWTH, SMALLEST_NS, EdgeStats, Histogram

HALF_BIN = GROWTH**0.5 - 1 + 1e-3  # 2.6 %: the middle of a bin is that near to its ends
DURATIONS = st.lists(st.integers(SMALLEST_NS, 10**11), min_size=1, max_size=60)
BOUNDS_MS = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0, 10_000.0)


def histogram(durations_ns: list[int]) -> Histogram:
    made = Histogram()
    for duration_ns in durations_ns:
        made.add(duration_ns)
    return made


@given(DURATIONS, st.sampled_from([1, 25, 50, 90, 95, 99, 100]))
def test_percentiles_are_right_to_half_a_bin(durations_ns: list[int], percent: int) -> None:
    exact = float(np.percentile(durations_ns, percent, method="inverted_cdf")) / 1e6
    assert histogram(durations_ns).percentile_ms(percent) == pytest.approx(exact, rel=HALF_BIN)


def test_percentiles_of_many_durations_are_those_of_numpy() -> None:
    durations_ns = np.random.default_rng(3).lognormal(np.log(8e6), 0.7, 5000).astype(int)
    made = histogram(durations_ns.tolist())
    for percent in (50, 90, 99):
        exact = float(np.percentile(durations_ns, percent)) / 1e6
        assert made.percentile_ms(percent) == pytest.approx(exact, rel=0.03)
    assert made.sum_ns == int(durations_ns.sum())


def test_the_lowest_percentile_is_the_smallest_bin_in_use() -> None:
    made = histogram([5_000_000, 90_000_000])
    assert made.percentile_ms(0) == pytest.approx(5, rel=HALF_BIN)
    assert Histogram().percentile_ms(50) == 0


@pytest.mark.parametrize("duration_ns", [-(10**9), 0, 1, SMALLEST_NS])
def test_what_is_too_short_to_tell_is_in_the_first_bin(duration_ns: int) -> None:
    """A capture time of another host's clock may even make an age negative."""
    made = histogram([duration_ns])
    assert made.bins == {0: 1}
    assert made.percentile_ms(50) == pytest.approx(SMALLEST_NS / 1e6, rel=0.05)


@given(DURATIONS, DURATIONS)
def test_merging_is_adding_all(first: list[int], second: list[int]) -> None:
    merged, other = histogram(first), histogram(second)
    merged.merge(other)
    assert merged == histogram(first + second)
    assert other == histogram(second), "what is merged from stays as it was"


@given(DURATIONS)
def test_cumulative_counts_rise_to_the_count_and_are_right_to_a_bin(
    durations_ns: list[int],
) -> None:
    found = histogram(durations_ns).cumulative(BOUNDS_MS)
    assert [bound for bound, _ in found] == list(BOUNDS_MS)
    counts = [count for _, count in found]
    assert counts == sorted(counts)
    ordered = sorted(durations_ns)
    for bound_ms, count in found:  # a duration in the bin of the bound counts as longer
        assert count <= bisect_right(ordered, bound_ms * 1e6)
        assert count >= bisect_right(ordered, bound_ms * 1e6 / GROWTH)
    assert histogram(durations_ns).cumulative((1e9,)) == [(1e9, len(durations_ns))]


@given(DURATIONS)
def test_a_histogram_survives_the_wire(durations_ns: list[int]) -> None:
    made = histogram(durations_ns)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(made), type=Histogram) == made


def test_an_edge_is_balanced_when_nothing_is_missing() -> None:
    edge = EdgeStats(edge="a->b", link="ipc", policy="block", sent=10, consumed=5, in_flight=2)
    assert not edge.balanced
    edge.drops = {"late": 2, "peer_lost": 1}
    assert edge.balanced
    edge.consumed += 1
    assert not edge.balanced
