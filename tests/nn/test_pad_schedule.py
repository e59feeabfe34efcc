"""Whose face is scored now: new ones, then the longest waiting, within a budget, by pts alone."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from operators.nn.pad.errors import EvaluationError
from operators.nn.pad.schedule import Schedule, ScheduleConfig, VisibleTrack
from operators.nn.pad.sequential import TrackKey

MS = 1_000_000


def faces(pts_ms, *numbers, stream="s", changed=()):
    return [
        VisibleTrack(TrackKey(stream, number), round(pts_ms * MS), number in changed)
        for number in numbers
    ]


def ids(keys):
    return [key.track_id for key in keys]


def test_a_new_track_is_scored_at_once_then_every_interval():
    schedule = Schedule(ScheduleConfig())
    times = [ms for ms in range(0, 1001, 40) if schedule.choose(faces(ms, 1))]
    assert times == [0, 200, 400, 600, 800, 1000]


@pytest.mark.parametrize("fps", [10, 24, 25, 30, 50, 60])
def test_no_pause_is_longer_than_the_interval(fps):
    schedule = Schedule(ScheduleConfig())
    times = [n / fps * 1e3 for n in range(300) if schedule.choose(faces(n / fps * 1e3, 1))]
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert max(pauses) <= 200 + 1e-3
    assert min(pauses) > 200 - 1000 / fps - 1e-3  # and none is scored for nothing


def test_slow_streams_are_scored_at_every_frame():
    schedule = Schedule(ScheduleConfig())
    assert all(schedule.choose(faces(500 * number, 1)) for number in range(10))


def test_new_tracks_go_first_then_changed_then_the_longest_waiting():
    schedule = Schedule(ScheduleConfig(budget=3))
    assert ids(schedule.choose(faces(0, 1, 2))) == [1, 2]
    assert ids(schedule.choose(faces(40, 1, 2, 3))) == [3]
    assert ids(schedule.choose(faces(400, 1, 2, 3, 4, 5, changed=(3,)))) == [4, 5, 3]
    assert ids(schedule.choose(faces(440, 1, 2, 3, 4, 5))) == [1, 2]


def test_a_change_that_found_no_place_is_remembered():
    schedule = Schedule(ScheduleConfig(budget=1))
    assert ids(schedule.choose(faces(0, 1))) == [1]
    assert ids(schedule.choose(faces(40, 1, 2, changed=(1,)))) == [2]
    assert ids(schedule.choose(faces(80, 1, 2))) == [1]
    assert schedule.choose(faces(120, 1, 2)) == []


def test_within_the_budget_all_get_their_turn():
    schedule = Schedule(ScheduleConfig(budget=2))
    scored = {number: [] for number in range(6)}
    for step in range(200):
        chosen = schedule.choose(faces(40 * step, *scored))
        assert len(chosen) <= 2
        for key in chosen:
            scored[key.track_id].append(40 * step)
    for times in scored.values():
        pauses = [later - earlier for earlier, later in pairwise(times)]
        assert max(pauses) <= 200  # six faces, two per 40 ms


def test_beyond_the_budget_the_pause_is_shared():
    schedule = Schedule(ScheduleConfig(budget=1))
    counts = dict.fromkeys(range(10), 0)
    for step in range(500):
        for key in schedule.choose(faces(40 * step, *counts)):
            counts[key.track_id] += 1
    assert set(counts.values()) == {50}


def test_streams_share_the_budget_by_waiting_time_not_by_their_clocks():
    schedule = Schedule(ScheduleConfig(budget=2))
    late = 10**9  # the other stream's pts start far away
    schedule.choose([*faces(0, 1, stream="a"), *faces(late, 1, stream="b")])
    chosen = schedule.choose([*faces(300, 1, stream="a"), *faces(late + 400, 1, 2, stream="b")])
    assert chosen == [TrackKey("b", 2), TrackKey("b", 1)]


def test_the_order_of_faces_does_not_matter():
    rng = random.Random(0)
    one, two = Schedule(ScheduleConfig(budget=3)), Schedule(ScheduleConfig(budget=3))
    for step in range(60):
        visible = faces(40 * step, *range(step % 11), changed=(step % 7,))
        visible += faces(33 * step, *range(step % 5), stream="t")
        shuffled = rng.sample(visible, len(visible))
        assert one.choose(visible) == two.choose(shuffled)


def test_late_frames_and_doubled_tracks():
    schedule = Schedule(ScheduleConfig())
    schedule.choose(faces(400, 1))
    assert schedule.choose(faces(200, 1, 2)) == []
    assert schedule.choose(faces(400, 2)) == []
    twice = [*faces(800, 1, changed=(1,)), *faces(840, 1), *faces(820, 1)]
    assert ids(schedule.choose(twice)) == [1]
    assert schedule.choose(faces(880, 1)) == []  # counted from 840
    assert ids(schedule.choose(faces(1040, 1))) == [1]


def test_what_is_gone_is_forgotten():
    schedule = Schedule(ScheduleConfig())
    for step in range(1000):
        schedule.choose(faces(40 * step, step))
    assert len(schedule) == 126  # 5 s of one new track per 40 ms
    schedule.reset("s")
    assert len(schedule) == 0
    assert ids(schedule.choose(faces(0, 1))) == [1]  # and time may begin again


def test_an_id_that_returns_after_the_ttl_is_new():
    schedule = Schedule(ScheduleConfig(budget=1))
    schedule.choose(faces(0, 1))
    assert ids(schedule.choose(faces(6000, 1, 2))) == [1]  # both are new, by id


@pytest.mark.parametrize("change", [{"budget": 0}, {"interval_ns": -1}, {"ttl_ns": 1}])
def test_senseless_settings_are_refused(change):
    with pytest.raises(EvaluationError):
        ScheduleConfig(**change)
