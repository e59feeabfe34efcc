"""`Conceal` live: on time through stalls and losses, back without a jump, never unsaid."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from engine import Frame
from engine.testing import HarnessContext
from operators.face.records import Face
from operators.predict.conceal import Conceal, ConcealConfig
from tests.predict.feeds import MS, PERIOD_NS, TICKS, Live, apart, picture, said

FACE = Face((1.0, 2.0, 30.0, 40.0), 0.9, ())


@pytest.fixture
def live() -> Iterator[Live]:
    found = Live()
    yield found
    found.close()


def test_what_comes_in_time_passes_untouched(live: Live) -> None:
    given = [picture(n).with_records(FACE) for n in range(12)]
    for n, frame in enumerate(given):
        live.run_until(n * 40 + 30 + (n * 7) % 9)  # it jitters
        live.give(frame)
    assert all(one is other for one, other in zip(live.frames, given, strict=True))
    assert live.ctx.reports == []
    assert Conceal.synthesizes, "what it makes is therefore marked by the engine"


def test_a_stall_is_bridged_on_time(live: Live) -> None:
    live.feed(range(15))
    live.run_until(15 * 40 + 30 + 39 * 40)
    assert live.moments == list(range(54)), "every frame time, in order"
    assert max(live.lateness_ms()) <= 20
    assert len(live.made) == 39
    assert live.ctx.reports == []


def test_made_frames_have_a_moment_of_their_own_behind_a_captured_one(live: Live) -> None:
    live.feed(range(12))
    last = replace(picture(12).stamp, deadline_ns=10**9, epoch=3)
    live.run_until(12 * 40 + 30)
    live.give(Frame(picture(12).data, picture(12).caps, last))
    live.run_until(15 * 40 + 25)
    assert [frame.stamp for frame in live.made] == [
        replace(
            last, pts=last.pts + n * TICKS, capture_ns=last.capture_ns + n * PERIOD_NS,
            deadline_ns=10**9 + n * PERIOD_NS,
        )
        for n in (1, 2)
    ]  # fmt: skip
    places = [frame.stamp.place for frame in live.frames]
    assert places == sorted(set(places)), "joins behind it keep them in order"


def test_made_frames_say_so_and_are_sure_of_less_and_less(live: Live) -> None:
    live.feed(range(12))
    live.run_until(36 * 40 + 25)
    records = [said(frame) for frame in live.made]
    assert [(r.part, r.number, r.since_ms) for r in records if r] == [
        ("made", n, n * 40) for n in range(1, 25)
    ]
    sure = [r.confidence for r in records if r]
    assert all(0 <= after < before <= 1 for before, after in itertools.pairwise(sure))
    assert sure[-1] < 0.6
    cells = np.array([list(r.cells) for r in records if r])
    assert cells.shape == (24, 64)
    assert (np.diff(cells, axis=0) <= 0).all()
    assert records[0] is not None
    assert records[0].at(0.99, 0.01) == cells[0, 7] / 255


def test_they_go_on_with_the_motion() -> None:
    """A steady pan goes on, and nearer to what the camera would have shown than the last frame."""
    live = Live(motion="constant")
    live.feed(range(14))
    live.run_until(18 * 40 + 25)
    for frame, n in zip(live.made, range(14, 18), strict=True):
        truth = picture(n)
        assert apart(frame, truth) < 0.6 * apart(picture(13), truth)
    live.close()


def test_frozen_repeats_the_last_picture() -> None:
    live = Live(motion="frozen")
    live.feed(range(14))
    live.run_until(20 * 40 + 25)
    assert len(live.made) == 6
    assert all(np.array_equal(frame.data, picture(13).data) for frame in live.made)
    live.close()


def test_records_of_the_last_captured_picture_are_not_those_of_a_made_one(live: Live) -> None:
    live.feed(range(12))
    live.run_until(12 * 40 + 30)
    live.give(picture(12).with_records(FACE))
    live.run_until(14 * 40 + 25)
    assert [frame.of(Face) for frame in live.made] == [[]]


# ---- the way back


def seams(live: Live) -> list[Frame]:
    return [frame for frame in live.frames if (r := said(frame)) and r.part == "handed back"]


def test_it_is_handed_back_without_a_jump() -> None:
    """Things had stopped moving, as far as `frozen` knows: the feed is 8 frames further."""
    live = Live(motion="frozen")
    live.feed([*range(15), *range(23, 45)])
    usual = apart(picture(14), picture(13))
    steps = [apart(one, other) for one, other in itertools.pairwise(live.frames)]
    jump = apart(picture(23), picture(14))
    assert jump > 2 * usual, "or there is nothing to be shown"
    assert max(steps) <= 1.3 * usual
    back = seams(live)
    assert 2 <= len(back) <= 11
    assert live.frames[-1] is not None
    assert said(live.frames[-1]) is None
    live.close()


def test_on_the_way_back_frames_keep_their_stamps_and_records(live: Live) -> None:
    live.feed(range(15))
    live.run_until(25 * 40 + 30)
    given = picture(25).with_records(FACE)
    live.give(given)
    frame = live.frames[-1]
    record = said(frame)
    assert record is not None
    assert (record.part, record.number, record.since_ms) == ("handed back", 11, 0)
    assert frame.stamp == given.stamp
    assert frame.of(Face) == [FACE]
    before = said(live.frames[-2])
    assert before is not None
    assert record.confidence > before.confidence


def test_a_gap_that_was_foreseen_well_needs_no_way_back() -> None:
    live = Live(motion="constant")
    live.feed([*range(15), *range(16, 20)])
    assert len(live.made) == 1
    assert seams(live) == []
    assert live.frames[-4:] == [frame for frame in live.frames if frame.stamp.seq >= 16]
    live.close()


def test_the_way_back_ends_in_time_whatever_comes() -> None:
    """What stands behind the gap is like nothing before: the last step is taken all the same."""
    live = Live(handback_ms=200)
    live.feed(range(15))
    other = np.random.default_rng(3).integers(0, 255, picture(0).data.shape, np.uint8)
    for n in range(20, 32):
        live.run_until(n * 40 + 30)
        live.give(picture(n).with_data(other))
    assert 3 <= len(seams(live)) <= 5
    live.close()


# ---- feeds with faults


def test_stalls_at_every_key_frame_and_lost_packets(live: Live) -> None:
    """400 ms at every 30th frame, what was held up in one burst behind it; 2 % lost in bursts."""
    late: dict[int, float | None] = {}
    for key in range(30, 200, 30):
        late |= {n: (key + 10 - n) * 40 for n in range(key, key + 10)}
    late |= dict.fromkeys((47, 48, 112, 170, 171), None)
    live.feed(range(200), late)
    assert live.moments == list(range(200))
    assert max(live.lateness_ms()) <= 20
    usual = max(apart(picture(n), picture(n + 1)) for n in range(199))
    steps = [apart(one, other) for one, other in itertools.pairwise(live.frames)]
    assert max(steps) <= 1.3 * usual
    assert live.codes == []
    assert sum(said(frame) is None for frame in live.frames) > 100


def test_frames_that_come_too_late_are_not_shown_but_learnt_from(live: Live) -> None:
    live.feed(range(15))
    live.run_until(22 * 40 + 20)
    shown = len(live.out)
    for n in range(15, 20):
        live.give(picture(n))
    assert len(live.out) == shown
    live.run_until(23 * 40 + 25)
    record = said(live.frames[-1])
    assert record is not None
    assert record.since_ms == 3 * 40, "from frame 19 on"
    assert live.frames[-1].stamp.seq == 19


def test_a_feed_that_is_late_for_good_is_followed(live: Live) -> None:
    live.feed(range(30))
    live.feed(range(30, 130), dict.fromkeys(range(30, 130), 200))
    assert live.frames[-1].stamp.pts == 129 * TICKS
    assert [said(frame) for frame in live.frames[-30:]] == [None] * 30
    assert live.moments == sorted(set(live.moments))


def test_after_two_seconds_it_says_so_and_stops(live: Live) -> None:
    live.feed(range(15))
    live.run_until(15 * 40 + 10_000)
    assert len(live.made) == 50
    assert live.codes == ["GAP_TOO_LONG"]
    assert "'cam'" in live.ctx.reports[0][1]
    assert live.ctx.calls == {}
    live.run_until(300 * 40 + 30)
    given = picture(300)
    live.give(given)
    assert live.frames[-1] is given, "of pictures that old nothing is left to be led back from"
    assert live.codes == ["GAP_TOO_LONG", "GAP_OVER"]


def test_behind_a_long_gap_it_goes_on_as_before(live: Live) -> None:
    live.feed(range(15))
    live.feed(range(100, 110))
    live.run_until(112 * 40 + 25)
    assert live.moments[-12:] == list(range(100, 112))


@pytest.mark.parametrize("most_ms", [0, 120])
def test_how_long_can_be_set(most_ms: int) -> None:
    live = Live(most_ms=most_ms)
    live.feed(range(15))
    live.run_until(2000)
    assert len(live.made) == most_ms // 40
    live.close()


def test_patience_can_be_set() -> None:
    live = Live(patience_ms=200)
    live.feed(range(20), {12: 150})
    assert live.made == []
    live.close()


# ---- what ends it, or begins it anew


def test_before_the_rate_is_known_nothing_is_made(live: Live) -> None:
    live.feed(range(3))
    live.run_until(3000)
    assert live.moments == [0, 1, 2]


def test_a_first_frame_that_was_lost_is_nobodys_loss(live: Live) -> None:
    live.feed(range(1, 12))
    live.run_until(13 * 40 + 25)
    assert live.moments == list(range(1, 13))


def test_a_feed_without_a_steady_rate_is_left_alone(live: Live) -> None:
    n = 0
    for step in (1, 9, 4) * 14:
        n += step
        live.run_until(n * 40 + 30)
        live.give(picture(n))
    assert live.made == []
    assert live.codes == ["UNSTEADY"], "told once"


def test_another_size_begins_anew(live: Live) -> None:
    live.feed(range(15))
    live.run_until(18 * 40 + 25)
    assert len(live.made) == 3
    for n in range(18, 24):
        live.run_until(n * 40 + 30)
        live.give(picture(n, width=64, height=48))
        assert said(live.frames[-1]) is None
    live.run_until(26 * 40 + 25)
    assert [frame.caps.width for frame in live.made[3:]] == [64, 64]
    assert live.moments == list(range(26))


def test_frames_of_another_size_may_come_too_late(live: Live) -> None:
    live.feed(range(15))
    live.run_until(22 * 40 + 20)
    for n in range(15, 20):
        live.give(picture(n, width=64, height=48))
    live.run_until(25 * 40 + 25)
    assert live.moments == list(range(25))
    assert [frame.caps.width for frame in live.frames[-3:]] == [64] * 3
    assert live.frames[-1].stamp.seq == 19


def test_another_time_base_begins_anew(live: Live) -> None:
    live.feed(range(15))
    live.run_until(20 * 40 + 30)
    last = picture(20)
    stamp = replace(last.stamp, pts=20, time_base=Fraction(1, 25))
    other = Frame(last.data, last.caps, stamp)
    live.give(other)
    assert live.frames[-1] is other


def test_a_feed_whose_pts_go_back_is_not_swallowed(live: Live) -> None:
    live.feed(range(15))
    given = [picture(7), picture(8), picture(8)]
    for frame in given:
        live.give(frame)
    assert live.frames[-3:] == given


def test_nor_is_one_that_counts_from_0_again_behind_a_gap(live: Live) -> None:
    live.feed(range(100, 115))
    live.run_until(120 * 40 + 30)
    given = picture(0)
    live.give(given)
    assert live.frames[-1] is given


def test_right_behind_another_size_there_is_no_motion_to_go_on_with(live: Live) -> None:
    live.feed(range(15))
    live.run_until(15 * 40 + 30)
    small = picture(15, width=64, height=48)
    live.give(small)
    live.run_until(17 * 40 + 25)
    assert [np.array_equal(frame.data, small.data) for frame in live.made] == [True]
    record = said(live.made[0])
    assert record is not None
    assert record.confidence < 0.5


@pytest.mark.parametrize("pix_fmt", ["nv12", "rgb24"])
def test_other_layouts_pass(pix_fmt: str, live: Live) -> None:
    data = np.zeros((64, 96, 3) if pix_fmt == "rgb24" else (96, 96), np.uint8)
    frame = Frame(data, replace(picture(0).caps, pix_fmt=pix_fmt), picture(0).stamp)
    live.give(frame)
    live.give(frame)
    assert live.frames == [frame, frame]
    assert live.codes == ["PIX_FMT"]


def test_streams_have_nothing_to_do_with_each_other(live: Live) -> None:
    for n in range(15):
        live.run_until(n * 40 + 30)
        live.give(picture(n))
        if n < 12:
            live.give(
                Frame(picture(n).data, picture(n).caps, replace(picture(n).stamp, stream_id="b"))
            )
    by_stream: dict[str, list[float]] = {}
    for frame in live.frames:
        by_stream.setdefault(frame.stamp.stream_id, []).append(frame.stamp.pts / TICKS)
    assert by_stream["cam"] == list(range(15))
    assert by_stream["b"] == list(range(14)), "goes on"
    assert {frame.stamp.stream_id for frame in live.made} == {"b"}


def test_moments_that_went_by_while_nobody_could_act_are_left_out(live: Live) -> None:
    """The lane was busy with something else: no burst makes up for it."""
    live.feed(range(15))
    live.ctx.clock.advance(300 * MS)  # type: ignore[attr-defined]
    live.run_until(24 * 40)
    assert live.moments[:15] == list(range(15))
    assert live.moments[15] >= 21
    assert len(live.made) <= 3


# ---- in a file graph


def run_file(numbers: list[float], **settings: Any) -> tuple[list[Frame], HarnessContext]:
    ctx = HarnessContext(mode="file")
    operator = Conceal(ConcealConfig(**settings))
    out: list[Frame] = []
    with ctx.exits:
        operator.open(ctx)
        for seq, n in enumerate(numbers):
            out += operator.process(picture(n, seq))
        operator.close()
    return out, ctx


def test_a_file_without_gaps_passes_untouched() -> None:
    out, ctx = run_file([n + 0.1 * (n % 3) for n in range(12)])
    assert [said(frame) for frame in out] == [None] * 12
    assert ctx.reports == []


def test_gaps_of_a_file_are_filled_by_its_pts() -> None:
    out, _ = run_file([*range(15), *range(20, 32)])
    assert [frame.stamp.pts for frame in out] == [n * TICKS for n in range(32)]
    made = [frame for frame in out if (r := said(frame)) and r.part == "made"]
    assert [frame.stamp.seq for frame in made] == [15] * 5, "they come with the frame behind them"
    places = [frame.stamp.place for frame in out]
    assert places == sorted(set(places))


def test_a_file_gives_the_same_every_time() -> None:
    numbers = [*range(15), *range(20, 30), *range(33, 40)]
    first, second = (run_file(numbers)[0] for _ in range(2))
    assert all(
        (a.stamp, a.records) == (b.stamp, b.records) and np.array_equal(a.data, b.data)
        for a, b in zip(first, second, strict=True)
    )


def test_a_long_gap_of_a_file_is_filled_for_two_seconds() -> None:
    out, ctx = run_file([*range(15), *range(100, 104)])
    assert [frame.stamp.pts / TICKS for frame in out] == [*range(65), *range(100, 104)]
    assert [code for code, _ in ctx.reports] == ["GAP_TOO_LONG", "GAP_OVER"]
    assert [said(frame) for frame in out[-4:]] == [None] * 4


def test_pts_that_go_back_pass() -> None:
    out, _ = run_file([*range(10), 7, 8, 20])
    assert [frame.stamp.pts / TICKS for frame in out][10:12] == [7, 8]
