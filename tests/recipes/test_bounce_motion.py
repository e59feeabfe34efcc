"""Continuations of true bounces: right ones are told from wrong and lost ones."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from operators.recipes.bounce_motion import (
    LEAST_PATH_PX,
    Continuation,
    Throw,
    judge_alone,
    judge_motion,
    room_of,
    throws,
)

FPS, PAST, AHEAD = 15.0, 4, 12


@pytest.fixture(scope="module")
def given() -> list[Throw]:
    return list(islice(throws("validation", 64, FPS, (PAST, AHEAD)), 3))


@pytest.mark.slow
def test_throws_move_and_know_where_they_are(given: list[Throw]) -> None:
    for throw in given:
        assert throw.known.shape == (PAST, 64, 64, 3)
        assert throw.ahead.shape == (AHEAD, 64, 64, 3)
        path = np.linalg.norm(np.diff(throw.centre_px[PAST - 1 :], axis=0), axis=1).sum()
        assert path > 0.8 * LEAST_PATH_PX
        unlike = np.abs(throw.frames.astype(int) - throw.empty).max(axis=-1) > 40
        seen = np.array([np.argwhere(mask).mean(axis=0)[::-1] for mask in unlike])
        assert np.median(np.linalg.norm(seen - throw.centre_px, axis=1)) < 3


@pytest.mark.slow
def test_the_truth_wins_and_what_is_lost_counts_as_not_moved(given: list[Throw]) -> None:
    empty = [np.repeat(throw.empty[None], AHEAD, axis=0) for throw in given]
    late = [np.concatenate((throw.ahead[:1], throw.ahead[:-1])) for throw in given]
    made = {
        "right": [Continuation(throw.ahead, throw.empty) for throw in given],
        "late": [Continuation(clip, t.empty) for clip, t in zip(late, given, strict=True)],
        "lost": [Continuation(clip, t.empty) for clip, t in zip(empty, given, strict=True)],
    }
    found = judge_motion(given, made, FPS)
    error = {name: by["12"]["mean"] for name, by in found["position_error_px"].items()}
    assert list(found["position_error_px"]["right"]) == ["1", "2", "4", "8", "12"]
    assert error["right"] == error["truth"] < 1
    assert error["right"] < error["late"] < error["copy of the last frame"]
    at_last = [np.linalg.norm(t.centre_px[-1] - t.centre_px[PAST - 1]) for t in given]
    assert error["lost"] == pytest.approx(np.mean(at_last))
    assert found["position_error_px"]["free fall"]["1"]["mean"] < 1.5
    assert found["spread_px"] > 2
    assert found["physics"]["lost"]["seen"]["mean"] == 0
    assert found["physics"]["copy of the last frame"]["path_px"]["mean"] < 0.5
    np.testing.assert_equal(found["physics"]["right"], found["physics"]["truth"])


@pytest.mark.slow
def test_bounces_of_which_nothing_is_known_are_judged_by_their_median(given: list[Throw]) -> None:
    clips = [throw.frames for throw in given]
    moving = judge_alone(clips, FPS)
    still = judge_alone([np.repeat(clip[:1], len(clip), axis=0) for clip in clips], FPS)
    assert moving["seen"]["mean"] > 0.8
    assert moving["path_px"]["mean"] > LEAST_PATH_PX
    assert still["seen"]["mean"] == 0


def test_the_room_scales_with_the_picture() -> None:
    small, large = room_of(64, FPS), room_of(128, FPS)
    assert large.gravity_px == pytest.approx(2 * small.gravity_px)
    assert large.floor_px + 0.5 == pytest.approx(2 * (small.floor_px + 0.5))
    assert small.left_px < small.right_px < 64
