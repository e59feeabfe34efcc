"""Batches: the same for the same index, whatever was drawn before."""

from __future__ import annotations

import numpy as np

from operators.nn.worlds.clip import make_clip
from operators.nn.worlds.sampler import ClipSampler
from operators.nn.worlds.spec import KINDS

SMALL = ClipSampler(KINDS, size=(32, 24), length=3)


def test_a_batch_depends_on_its_index_alone():
    clips, classes = SMALL.batch(7, 6)
    assert clips.shape == (6, 3, 24, 32, 3)
    assert clips.dtype == np.uint8
    assert classes.tolist() == [1, 2, 0, 1, 2, 0]
    assert classes.dtype == np.int64
    fresh = ClipSampler(KINDS, size=(32, 24), length=3)
    for index in (0, 7):
        again = fresh.batch(index, 6)
    assert np.array_equal(again[0], clips)
    assert np.array_equal(SMALL.batch(7, 2)[0], clips[:2])


def test_indices_places_splits_and_seeds_differ():
    worlds = {SMALL.spec(index, place).seed for index in range(20) for place in range(20)}
    assert len(worlds) == 400
    assert ClipSampler(KINDS, seed=1).spec(0, 0).seed not in worlds
    test = ClipSampler(KINDS, "test", size=(32, 24), length=3)
    assert not np.array_equal(test.batch(7, 1)[0], SMALL.batch(7, 1)[0])


def test_a_clip_of_a_batch_is_the_clip_of_its_spec():
    clips, classes = SMALL.batch(2, 3)
    for place in range(3):
        spec = SMALL.spec(2, place)
        assert np.array_equal(make_clip(spec).frames, clips[place])
        assert KINDS[classes[place]] == spec.kind


def test_photographs_reach_the_camera():
    picture = np.full((60, 60, 3), 77, np.uint8)
    clips, _ = ClipSampler(("pan",), size=(16, 16), length=2, photographs=[picture]).batch(0, 2)
    assert np.all(clips == 77)
