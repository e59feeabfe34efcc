"""Clips of every world: the same whatever their length, rate and size, however they are asked."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import cv2
import numpy as np
import pytest

from operators.nn.worlds.clip import FORGET_EVERY, frames, make_clip, make_world
from operators.nn.worlds.spec import KINDS, SPLITS, ClipSpec

kinds = pytest.mark.parametrize("kind", KINDS)


@kinds
def test_a_clip_is_the_same_each_time(kind):
    spec = ClipSpec(kind, 1, length=4)
    one, other = make_clip(spec, masks=True), make_clip(spec, masks=True)
    assert one.frames.shape == (4, 64, 64, 3)
    assert one.frames.dtype == np.uint8
    assert one.frames.tobytes() == other.frames.tobytes()
    assert one.masks.tobytes() == other.masks.tobytes()
    assert one.truth.contacts == other.truth.contacts
    assert make_clip(spec).masks is None


@kinds
def test_a_longer_clip_begins_with_the_shorter(kind):
    short = make_clip(ClipSpec(kind, 2, length=8))
    long = make_clip(ClipSpec(kind, 2, length=40))
    assert np.array_equal(long.frames[:8], short.frames)
    known = len(short.truth.objects)
    assert long.truth.objects[:known] == short.truth.objects
    for name in ("centre", "centre_px", "velocity", "angle", "visible", "energy", "size_px"):
        assert np.array_equal(getattr(long.truth, name)[:8, :known], getattr(short.truth, name))
    assert np.array_equal(long.truth.camera[:8], short.truth.camera)
    assert long.truth.contacts[: len(short.truth.contacts)] == short.truth.contacts
    assert long.truth.events[: len(short.truth.events)] == short.truth.events


@kinds
def test_another_rate_shows_the_same_motion(kind):
    slow = make_clip(ClipSpec(kind, 3, fps=10, length=6))
    fast = make_clip(ClipSpec(kind, 3, fps=30, length=18))
    assert np.array_equal(slow.frames, fast.frames[::3])
    assert np.array_equal(slow.truth.centre, fast.truth.centre[::3])
    assert slow.truth.contacts == fast.truth.contacts
    assert slow.truth.duration_s == fast.truth.duration_s


@kinds
def test_moments_may_be_asked_in_any_order(kind):
    spec = ClipSpec(kind, 4, length=5)
    clip, world = make_clip(spec), make_world(spec)
    for n in (4, 0, 3, 3, 1):
        assert np.array_equal(world.render(n / spec.fps), clip.frames[n])


@kinds
@pytest.mark.parametrize("split", SPLITS)
def test_another_size_shows_the_same_world(kind, split):
    small = ClipSpec(kind, 5, split, length=2, fps=3)
    large = make_clip(replace(small, width=192, height=192)).frames
    reduced = np.stack([cv2.resize(f, (64, 64), interpolation=cv2.INTER_AREA) for f in large])
    pictures, others = make_clip(small).frames, make_clip(replace(small, seed=6)).frames
    same = np.abs(reduced.astype(float) - pictures).mean()
    assert same < 8  # levels: fine patterns and the sensor's noise are not the same
    assert same < 0.4 * np.abs(reduced.astype(float) - others).mean()


def test_the_truth_of_another_size_is_the_same_in_metres():
    small = ClipSpec("bounce", 7, width=96, height=64)
    one, other = make_clip(small), make_clip(replace(small, width=192, height=128))
    assert np.array_equal(one.truth.centre, other.truth.centre)
    assert one.truth.contacts == other.truth.contacts
    assert np.allclose((one.truth.centre_px + 0.5) * 2, other.truth.centre_px + 0.5)


@pytest.mark.slow
@kinds
def test_an_endless_stream_goes_on_as_the_clip_does(kind):
    spec = ClipSpec(kind, 8, width=32, height=32, length=2 * FORGET_EVERY + 9)
    clip = make_clip(spec)
    for n, frame in enumerate(islice(frames(spec), spec.length + 5)):
        if n < spec.length:
            assert np.array_equal(frame, clip.frames[n])
    assert n == spec.length + 4


@kinds
def test_something_moves_and_there_is_something_to_see(kind):
    for seed in range(4):
        clip = make_clip(ClipSpec(kind, seed, length=12))
        assert clip.frames[0].std() > 8
        change = np.abs(clip.frames[-1].astype(float) - clip.frames[0])
        assert (change.max(axis=-1) > 12).mean() > 0.002
