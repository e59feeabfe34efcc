"""Time is exact: rescaling rounds once, half up, and stamps keep what they were given."""

from __future__ import annotations

import math
import threading
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.clock import FakeClock, MonotonicClock
from engine.timing import Stamp, rescale_pts

TIME_BASES = st.builds(Fraction, st.integers(1, 10_000), st.integers(1, 1_000_000_000))


@given(pts=st.integers(-(2**63), 2**63), source=TIME_BASES, target=TIME_BASES)
def test_rescaling_is_exact_division_rounded_half_up(
    pts: int, source: Fraction, target: Fraction
) -> None:
    assert rescale_pts(pts, source, target) == math.floor(pts * source / target + Fraction(1, 2))


@given(pts=st.integers(-(2**40), 2**40), source=TIME_BASES)
def test_a_finer_time_base_loses_nothing(pts: int, source: Fraction) -> None:
    finer = source / 7
    assert rescale_pts(rescale_pts(pts, source, finer), finer, source) == pts


@pytest.mark.parametrize(("pts", "rounded"), [(1, 1), (3, 2), (-1, 0), (-3, -1)])
def test_halves_go_up(pts: int, rounded: int) -> None:
    assert rescale_pts(pts, Fraction(1, 2), Fraction(1)) == rounded


def test_a_stamp_tells_its_time_in_seconds_and_nanoseconds() -> None:
    stamp = Stamp("cam", 45_000, Fraction(1, 90_000), 0, 0)
    assert stamp.pts_seconds == 0.5
    assert stamp.pts_ns == 500_000_000
    assert Stamp("cam", 1, Fraction(1, 3), 0, 0).pts_ns == 333_333_333


def test_a_stamp_cannot_be_changed() -> None:
    stamp = Stamp("cam", 1, Fraction(1, 30), 5, 2)
    with pytest.raises(AttributeError):
        stamp.pts = 3  # type: ignore[misc]
    assert (stamp.epoch, stamp.deadline_ns, stamp.synthetic) == (0, None, False)


def test_a_fake_clock_moves_only_by_being_told_or_waited_on() -> None:
    clock, event = FakeClock(10), threading.Event()
    clock.advance(5)
    assert clock.now_ns() == 15
    assert not clock.wait(event, 100)
    assert clock.now_ns() == 115
    event.set()
    assert clock.wait(event, 100)
    assert clock.now_ns() == 115


def test_the_real_clock_waits_for_the_event_or_the_time() -> None:
    clock, event = MonotonicClock(), threading.Event()
    start_ns = clock.now_ns()
    assert not clock.wait(event, 1_000_000)
    assert clock.now_ns() - start_ns >= 1_000_000
    event.set()
    assert clock.wait(event, -5)
