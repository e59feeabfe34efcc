"""Tracks keep their ids: through motion, gaps, crossings and weak detections; never twice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.testing import HarnessContext, run_operator
from operators.face.kalman import FADE_S, BoxFilter, to_centre
from operators.face.records import Face, Track, Unsearched
from operators.face.track import FaceTracker, StreamTracks, TrackConfig, pairwise_iou
from tests.operators.faces import face, overlap, picture

TICK_NS = 40_000_000  # 25 Hz
AT_ONCE = TrackConfig(min_hits=1)


def follow(
    frames: list[list[Face]], config: TrackConfig = AT_ONCE, tick_ns: int = TICK_NS
) -> list[list[Track]]:
    stream = StreamTracks(config)
    return [stream.follow(faces, n * tick_ns) for n, faces in enumerate(frames)]


def ids(tracks: list[Track]) -> list[int]:
    return [track.track_id for track in tracks]


@pytest.mark.parametrize("hz", [5, 25, 100])
def test_the_filter_learns_a_velocity_whatever_the_frame_rate(hz: int) -> None:
    box, speed = np.array([100.0, 100, 160, 180]), np.array([100.0, -50, 100, -50])
    motion = BoxFilter(box)
    for step in range(1, hz + 1):
        expected = motion.predict(1 / hz)
        motion.update(box + speed * step / hz)
    np.testing.assert_allclose(motion.box, box + speed, atol=0.5)
    np.testing.assert_allclose(expected, box + speed, atol=6)
    ahead = motion.predict(0.2)
    travelled = FADE_S * (1 - np.exp(-0.2 / FADE_S))  # seconds of full speed
    np.testing.assert_allclose(ahead, box + speed * (1 + travelled), atol=4)


def test_in_two_steps_it_comes_to_the_same_place_as_in_one() -> None:
    first, second = (BoxFilter(np.array([100.0, 100, 160, 180])) for _ in range(2))
    for motion in (first, second):
        motion.predict(0.1)
        motion.update(np.array([110.0, 96, 168, 178]))
    first.predict(0.3)
    second.predict(0.1)
    second.predict(0.2)
    np.testing.assert_allclose(second.box, first.box, atol=1e-9)


def test_what_nobody_sees_comes_to_rest() -> None:
    motion = BoxFilter(np.array([100.0, 100, 160, 180]))
    motion.predict(0.1)
    motion.update(np.array([110.0, 100, 170, 180]))
    rest = motion.predict(10.0)
    np.testing.assert_allclose(motion.predict(10.0), rest, atol=1e-3)
    assert 110 < rest[0] <= 110 + 100 * FADE_S


def test_uncertainty_grows_without_observations_and_shrinks_with_them() -> None:
    motion = BoxFilter(np.array([0.0, 0, 50, 50]))
    spread = [np.trace(motion.covariance[:4, :4])]
    for _ in range(3):
        motion.predict(0.1)
        spread.append(np.trace(motion.covariance[:4, :4]))
    assert spread == sorted(spread)
    motion.update(np.array([0.0, 0, 50, 50]))
    assert np.trace(motion.covariance[:4, :4]) < spread[-1]


@given(st.lists(st.floats(-30, 30), min_size=1, max_size=30), st.floats(0, 2))
def test_the_covariance_stays_a_covariance(jumps: list[float], seconds: float) -> None:
    motion = BoxFilter(np.array([100.0, 100, 150, 150]))
    for jump in jumps:
        motion.predict(seconds)
        motion.update(np.array([100.0, 100, 150, 150]) + jump)
        np.testing.assert_allclose(motion.covariance, motion.covariance.T, atol=1e-6, rtol=1e-6)
        assert np.linalg.eigvalsh(motion.covariance).min() > -1e-6
        assert (motion.mean[2:4] > 0).all()


def test_centre_and_corners_are_inverse() -> None:
    box = np.array([3.0, 5, 13, 25])
    assert to_centre(box).tolist() == [8, 15, 10, 20]
    assert BoxFilter(box).box.tolist() == box.tolist()


def test_pairwise_iou_of_known_boxes() -> None:
    boxes = np.array([[0.0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 21, 21]])
    expected = [[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 1]]
    np.testing.assert_allclose(pairwise_iou(boxes, boxes), expected)


@given(st.floats(-8, 8), st.floats(-8, 8))
def test_linear_motion_keeps_the_id(dx: float, dy: float) -> None:
    told = follow([[face(500 + n * dx, 500 + n * dy)] for n in range(25)])
    assert [ids(tracks) for tracks in told] == [[1]] * 25


def test_a_track_is_told_after_min_hits() -> None:
    told = follow([[face(100, 100)]] * 4, TrackConfig(min_hits=3))
    assert [ids(tracks) for tracks in told] == [[], [], [1], [1]]
    assert told[2][0].hits == 3
    assert told[2][0].age_ms == 80


def test_a_flicker_gets_no_id() -> None:
    told = follow([[face(100, 100)], [], [face(100, 100)], [face(100, 100)]], TrackConfig())
    assert [ids(tracks) for tracks in told] == [[]] * 4


def test_a_gap_shorter_than_lost_ms_keeps_the_id_and_predicts() -> None:
    seen = [[face(100 + 5 * n, 100)] for n in range(10)]
    back = [[face(100 + 5 * n, 100)] for n in range(20, 25)]
    told = follow(seen + [[]] * 10 + back, TrackConfig(min_hits=1, lost_ms=500))
    assert [ids(tracks) for tracks in told] == [[1]] * 25
    assert [tracks[0].predicted for tracks in told] == [False] * 10 + [True] * 10 + [False] * 5
    assert overlap(told[15][0].box, face(175, 100).box) > 0.7
    assert told[15][0].hits == 10


def test_a_gap_longer_than_lost_ms_begins_a_new_id() -> None:
    still = [face(100, 100)]
    told = follow([still] * 3 + [[]] * 20 + [still] * 3, TrackConfig(min_hits=1, lost_ms=400))
    assert ids(told[2]) == [1]
    assert ids(told[12]) == [1]  # 400 ms after the last detection
    assert ids(told[13]) == []
    assert ids(told[-1]) == [2]


def test_lost_time_is_counted_in_pts_not_in_frames() -> None:
    config = TrackConfig(min_hits=1, lost_ms=500)
    frames = [[face(100, 100)], [face(100, 100)], [], [face(100, 100)]]
    assert ids(follow(frames, config, tick_ns=200_000_000)[-1]) == [1]
    assert ids(follow(frames, config, tick_ns=600_000_000)[-1]) == [2]


def test_two_crossing_faces_keep_their_ids() -> None:
    frames = [[face(100 + 8 * n, 100), face(420 - 8 * n, 128)] for n in range(41)]
    told = follow(frames)
    assert [ids(tracks) for tracks in told] == [[1, 2]] * 41
    for tracks, (right, left) in zip(told, frames, strict=True):
        assert tracks[0].box == right.box
        assert tracks[1].box == left.box


def test_a_weak_detection_keeps_a_track_and_begins_none() -> None:
    config = TrackConfig(min_hits=1, strong_score=0.6, new_score=0.6)
    strong, weak = face(100, 100), face(100, 100, score=0.3)
    told = follow([[strong]] * 3 + [[weak, face(400, 100, score=0.3)]] * 3, config)
    assert [ids(tracks) for tracks in told] == [[1]] * 6
    assert not told[-1][0].predicted
    assert told[-1][0].score == 0.3
    assert told[-1][0].hits == 6


def test_strong_detections_are_matched_before_weak_ones() -> None:
    strong, weak = face(106, 100), face(100, 100, score=0.3)
    told = follow([[face(100, 100)]] * 3 + [[weak, strong]])
    assert told[-1][0].box == strong.box


@given(st.integers(0, 2**32 - 1))
def test_ids_are_never_given_twice(seed: int) -> None:
    rng = np.random.default_rng(seed)
    places = [(100.0, 100.0), (400.0, 100.0), (700.0, 100.0)]
    frames = [[face(*place) for place in places if rng.random() < 0.5] for _ in range(40)]
    told = follow(frames, TrackConfig(min_hits=1, lost_ms=60))
    latest: dict[int, int] = {}
    for n, tracks in enumerate(told):
        assert len(set(ids(tracks))) == len(tracks)
        for track_id in ids(tracks):
            fresh = track_id not in latest
            assert not fresh or track_id == max(latest, default=0) + 1
            assert fresh or latest[track_id] == n - 1  # once gone it never comes back
            latest[track_id] = n


@given(st.permutations(range(5)))
def test_the_order_of_detections_does_not_matter(order: list[int]) -> None:
    frames = [[face(100 + 90 * k + 3 * n, 100 + 9 * k) for k in range(5)] for n in range(4)]
    shuffled = [frames[0], *([faces[k] for k in order] for faces in frames[1:])]
    assert follow(shuffled) == follow(frames)


def test_streams_are_apart_and_reset_forgets() -> None:
    def frame(seq: int, stream_id: str, x: float) -> object:
        pixels = np.zeros((2, 2, 3), np.uint8)
        return picture(pixels, seq=seq, stream_id=stream_id).with_records(face(x, 100))

    tracker = FaceTracker(AT_ONCE)
    context = HarnessContext()
    with context.exits:
        tracker.open(context)
        a = tracker.process(frame(0, "a", 100))
        tracker.process(frame(1, "a", 400))
        b = tracker.process(frame(0, "b", 100))
        (states,) = context.states
        states.forget("a")
        again = tracker.process(frame(2, "a", 900))
        tracker.close()
    assert ids(a.of(Track)) == ids(b.of(Track)) == ids(again.of(Track)) == [1]


def test_frames_that_nobody_searched_neither_lose_nor_begin_tracks() -> None:
    tracker = FaceTracker(TrackConfig(min_hits=3, lost_ms=200))
    pixels = np.zeros((2, 2, 3), np.uint8)
    frames = []
    for n in range(40):
        x = 100 + 2 * n
        look = n % 8 == 0
        frames.append(picture(pixels, seq=n).with_records(face(x, 100) if look else Unsearched()))
    told = [frame.of(Track) for frame in run_operator(tracker, frames)]
    assert [ids(tracks) for tracks in told] == [[]] * 16 + [[1]] * 24
    for n, tracks in enumerate(told[16:], 16):
        assert tracks[0].predicted == (n % 8 != 0)
        assert not tracks[0].lost
        assert overlap(tracks[0].box, face(100 + 2 * n, 100).box) > 0.6


def test_a_track_is_lost_when_it_was_looked_for_and_not_found() -> None:
    stream = StreamTracks(AT_ONCE)
    stream.follow([face(100, 100)], 0)
    assert [track.lost for track in stream.coast(TICK_NS)] == [False]
    assert [track.lost for track in stream.follow([], 2 * TICK_NS)] == [True]
    assert [track.lost for track in stream.coast(3 * TICK_NS)] == [True]
    assert [track.lost for track in stream.follow([face(100, 100)], 4 * TICK_NS)] == [False]


def test_the_tracker_adds_tracks_and_changes_nothing_else() -> None:
    before = picture(np.zeros((2, 2, 3), np.uint8), seq=3).with_records(face(100, 100))
    (after,) = run_operator(FaceTracker(AT_ONCE), [before])
    assert after.stamp is before.stamp
    assert after.data is before.data
    assert after.of(Face) == before.of(Face)
    assert after.of(Track)[0].points == before.of(Face)[0].points


def test_time_that_stands_still_is_survived() -> None:
    stream = StreamTracks(AT_ONCE)
    told = [ids(stream.follow([face(100, 100)], pts)) for pts in (10**9, 10**9, 10**9 - 1)]
    assert told == [[1]] * 3


@pytest.mark.parametrize("field", ["min_iou", "strong_score", "new_score"])
def test_limits_of_the_config(field: str) -> None:
    import msgspec

    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({field: 1.5}, TrackConfig)
