"""Frames that an operator made between two captured ones: they share a seq, and keep their order.

The frame behind seq 3 that is made for tick 7 is `between(3, 7)`; captured ones come every 4 ticks.
"""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from engine.frame import Batch, Frame, Item, Watermark
from engine.runtime.joins import HELD
from engine.runtime.work import Work
from tests.runtime.fakes import FakeInbox, end, frame, joined, mark
from tests.runtime.test_joins import OPTIONAL, REQUIRED, Bench

TICKS = 4


def real(seq: int) -> Frame:
    return frame(seq, pts=seq * TICKS)


def between(seq: int, pts: int) -> Frame:
    found = frame(seq, pts=pts)
    return Frame(found.data, found.caps, structs.replace(found.stamp, synthetic=True))


GAP: list[Item] = [real(0), between(0, 4), between(0, 8), real(3), between(3, 16)]
PLACES = [(0, 0), (0, 4), (0, 8), (3, 12), (3, 16)]  # seq, pts


def places(bench: Bench) -> list[Any]:
    return [
        tuple(
            (item.stamp.seq, item.stamp.pts) if (item := work.arguments[name]) else None
            for name in ("left", "right")
        )
        for work in bench.works
    ]


@pytest.mark.parametrize("mode", ["file", "live"])
@pytest.mark.parametrize("ahead", range(6))
def test_both_ways_of_a_stream_meet_frame_by_frame(mode: Any, ahead: int) -> None:
    """However far one way is ahead of the other."""
    bench = Bench(REQUIRED, joined("exact"), mode)
    bench.feed(left=GAP[:ahead])
    for item in GAP:
        bench.feed(right=[item])
    bench.feed(left=GAP[ahead:])
    assert places(bench) == [(place, place) for place in PLACES]


def test_one_that_came_by_one_way_only_has_no_partner() -> None:
    bench = Bench(REQUIRED, joined("exact"), "file")
    bench.feed(GAP, [real(0), real(3), end()])
    assert places(bench) == [((0, 0), (0, 0)), ((3, 12), (3, 12))]
    assert bench.left.drops == ["unmatched"] * 3


def test_a_merge_gives_them_in_order_among_what_else_the_source_counts() -> None:
    """Sound has seq 1 and 2, counted with the pictures."""
    bench = Bench(OPTIONAL)
    sound = [frame(1, pts=1), frame(2, pts=9), mark(9)]
    bench.feed(GAP, sound)
    merged = [left or right for left, right in places(bench)]
    assert merged == [(0, 0), (0, 4), (0, 8), (1, 1), (2, 9), (3, 12), (3, 16)]


def test_a_merge_does_not_stop_however_many_there_are() -> None:
    bench = Bench(OPTIONAL)
    many: list[Item] = [real(0), *(between(0, pts) for pts in range(1, 3 * HELD))]
    bench.feed(many, [frame(1, pts=1)])
    assert len(bench.works) == 3 * HELD, "the sound waits for what may still be made before it"
    bench.feed([real(3)])
    assert places(bench)[-1] == (None, (1, 1))


def test_what_all_have_passed_by_is_told_though_the_seq_stays() -> None:
    bench = Bench(REQUIRED, joined("exact"), "file")
    marks = [Watermark("cam", 0, ns) for ns in (0, 40_000_000)]
    bench.left.feed(*marks)
    bench.right.feed(marks[0])
    assert bench.marks() == [0]
    bench.right.feed(marks[1])
    assert bench.marks() == [0]


def test_in_a_batch_only_they_are_synthetic() -> None:
    inbox = FakeInbox()
    frames = [real(0), between(0, 4), real(3)]
    work = Work({"frames": Batch(tuple(frames))}, [(inbox, one) for one in frames])
    taint = work.taint
    assert taint is not None
    assert [taint(one.stamp) for one in frames] == [False, True, False]
