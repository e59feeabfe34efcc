"""The statistics every figure goes through."""

from __future__ import annotations

import pytest

from bench import common
from bench.common import Deadline, interleave, iqr, put, quantile, ratios, significant


@pytest.mark.parametrize(
    ("percent", "expected"), [(0, 1.0), (25, 2.0), (50, 3.0), (90, 4.6), (100, 5.0)]
)
def test_quantile_is_linear_between_neighbours(percent: float, expected: float) -> None:
    assert quantile([5, 1, 4, 2, 3], percent) == pytest.approx(expected)


def test_quantile_of_one_value_is_that_value() -> None:
    assert quantile([7.0], 99) == 7.0


def test_quantile_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        quantile([], 50)


def test_one_odd_round_moves_neither_median_nor_iqr() -> None:
    figures: dict[str, float] = {}
    put(figures, "calm_fps", [100, 101, 102, 103, 104])
    put(figures, "odd_fps", [100, 101, 102, 103, 9000])
    assert figures["odd_fps"] == figures["calm_fps"] == 102
    assert figures["odd_fps_iqr"] == figures["calm_fps_iqr"] == iqr([100, 101, 102, 103, 104]) == 2


def test_ratios_are_taken_round_by_round() -> None:
    assert ratios([10, 5, 20], [5, 2.5, 10]) == [2, 2, 2]


def test_ratios_of_unequal_rounds_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratios([1, 2], [1])


def test_interleave_goes_to_and_fro_and_forgets_the_warm_up() -> None:
    order: list[str] = []

    def case(name: str) -> float:
        order.append(name)
        return float(len(order))

    measured = interleave({"a": lambda: case("a"), "b": lambda: case("b")}, 2, warm_up=1)

    assert order == ["a", "b", "b", "a", "a", "b"]
    assert measured == {"a": [4.0, 5.0], "b": [3.0, 6.0]}


@pytest.mark.parametrize(
    ("value", "expected"), [(123456.0, 123500.0), (0.00123456, 0.001235), (0.0, 0.0), (42.0, 42.0)]
)
def test_figures_keep_four_digits(value: float, expected: float) -> None:
    assert significant(value) == expected


def test_a_deadline_that_has_passed_says_what_did_not_happen() -> None:
    with pytest.raises(TimeoutError, match="frames at the sink"):
        Deadline(-1, "frames at the sink").poll(0)


def test_interleave_begins_no_round_without_time_but_always_makes_one() -> None:
    measured = interleave({"a": lambda: 1.0}, 5, warm_up=1, budget_s=-1)
    assert measured == {"a": [1.0]}


def test_our_own_work_is_not_the_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter((10.0, 13.0))
    monkeypatch.setattr(common, "_others_busy_s", lambda: next(seconds))
    monkeypatch.setattr(common.time, "monotonic", iter((100.0, 102.0)).__next__)
    assert common.Neighbours().cores() == 1.5


def test_the_machine_is_at_least_as_busy_as_we_are() -> None:
    first = common._others_busy_s()
    assert sum(number * number for number in range(200_000)) > 0
    assert common._others_busy_s() >= first - 0.05  # clock ticks of the kernel are 10 ms
