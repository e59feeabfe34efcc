"""When a node rests: five failures in ten seconds, then rests that grow."""

from __future__ import annotations

import pytest

from engine.runtime.circuit import FAILURES, LONGEST_REST_NS, REST_NS, WINDOW_NS, Circuit

MS = 1_000_000
SECOND = 1000 * MS


def fail(circuit: Circuit, *times_ns: int) -> list[bool]:
    return [circuit.failed(now_ns) for now_ns in times_ns]


def opened(at_ns: int = 0) -> Circuit:
    """A circuit that five failures at once have opened."""
    circuit = Circuit()
    assert fail(circuit, *[at_ns] * FAILURES) == [False] * (FAILURES - 1) + [True]
    return circuit


def test_the_numbers_are_those_in_the_design() -> None:
    assert (FAILURES, WINDOW_NS, REST_NS) == (5, 10 * SECOND, 2 * SECOND)


def test_five_failures_within_ten_seconds_open_it() -> None:
    circuit = Circuit()
    times = [n * 2500 * MS for n in range(5)]  # 0, 2.5, 5, 7.5, 10 s
    assert fail(circuit, *times) == [False, False, False, False, True]
    assert circuit.is_open(times[-1])


def test_failures_that_are_far_apart_do_not() -> None:
    circuit = Circuit()
    assert not any(fail(circuit, *[n * 2501 * MS for n in range(100)]))
    assert not circuit.is_open(0)


def test_only_the_newest_failures_count() -> None:
    circuit = Circuit()
    fail(circuit, 0, 1, 2, 3)
    assert fail(circuit, 20 * SECOND, 21 * SECOND, 22 * SECOND, 23 * SECOND) == [False] * 4
    assert fail(circuit, 24 * SECOND) == [True]


def test_it_rests_two_seconds() -> None:
    circuit = opened(at_ns=SECOND)
    assert circuit.is_open(SECOND)
    assert circuit.is_open(3 * SECOND - 1)
    assert not circuit.is_open(3 * SECOND)


def test_after_the_rest_one_failure_more_opens_it_for_twice_as_long() -> None:
    circuit, now_ns = opened(), 0
    for rest_s in (2, 4, 8, 16, 32, 60, 60):
        assert circuit.is_open(now_ns + rest_s * SECOND - 1)
        now_ns += rest_s * SECOND
        assert not circuit.is_open(now_ns)
        assert fail(circuit, now_ns) == [True]
    assert LONGEST_REST_NS == 60 * SECOND


def test_after_the_rest_it_forgives_when_nothing_fails_for_a_while() -> None:
    circuit = opened()
    assert not circuit.is_open(2 * SECOND)
    assert fail(circuit, 2 * SECOND + WINDOW_NS + 1) == [False]


@pytest.mark.parametrize("later_ns", [-(10**15), 0])
def test_a_time_axis_that_jumps_back_does_not_make_it_rest_for_ever(later_ns: int) -> None:
    """pts of a file may begin again at a break."""
    circuit = opened(at_ns=10**12)
    assert not circuit.is_open(later_ns)
