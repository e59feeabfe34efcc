"""What a spec allows, its streams of random numbers, and that splits share nothing."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import skimage.data

from operators.nn.worlds.landscapes import DRAWINGS, LANDSCAPES
from operators.nn.worlds.pan import PHOTOGRAPHS
from operators.nn.worlds.rooms import FLOORS, STYLES, WALLS
from operators.nn.worlds.shapes import SHAPES, SHAPES_OF
from operators.nn.worlds.spec import KINDS, SPLITS, Anomaly, ClipSpec
from operators.nn.worlds.textures import PATTERNS, TEXTURES
from operators.nn.worlds.walkers import DRESS

CATALOGUES = {
    "shapes": SHAPES_OF,
    "textures": TEXTURES,
    "walls": {split: style[0] for split, style in STYLES.items()},
    "floors": {split: style[1] for split, style in STYLES.items()},
    "landscapes": LANDSCAPES,
    "photographs": PHOTOGRAPHS,
    "walkers": {split: dress[0] for split, dress in DRESS.items()},
    "clothes": {split: dress[1] for split, dress in DRESS.items()},
}
DEFINED = {"shapes": SHAPES, "textures": PATTERNS, "walls": WALLS, "floors": FLOORS}


@pytest.mark.parametrize("name", CATALOGUES)
def test_development_and_test_hold_what_train_never_shows(name):
    catalogue = CATALOGUES[name]
    assert set(catalogue) == set(SPLITS)
    assert catalogue["validation"] == catalogue["train"]  # there only the seeds are unseen
    for one, other in combinations(("train", "development", "test"), 2):
        assert catalogue[one]
        assert not set(catalogue[one]) & set(catalogue[other])


def test_every_name_of_a_catalogue_can_be_drawn():
    for name, defined in (DEFINED | {"landscapes": DRAWINGS}).items():
        assert set(defined) == {entry for names in CATALOGUES[name].values() for entry in names}


def test_the_photographs_come_with_scikit_image():
    for name in {name for names in PHOTOGRAPHS.values() for name in names}:
        assert getattr(skimage.data, name)().dtype == np.uint8  # without a network


def test_random_numbers_differ_by_kind_split_seed_and_purpose():
    specs = [ClipSpec(kind, 4, split) for kind in KINDS for split in SPLITS]
    specs.append(ClipSpec("bounce", 5))
    drawn = [spec.generator(purpose).integers(1 << 60) for spec in specs for purpose in "ab"]
    assert len(set(drawn)) == len(drawn)


def test_size_rate_and_length_have_no_part_in_the_random_numbers():
    spec = ClipSpec("pan", 3)
    other = ClipSpec("pan", 3, width=320, height=200, fps=50, length=2)
    assert spec.generator("a").random() == other.generator("a").random()


def test_frames_are_at_whole_multiples_of_the_period():
    slow, fast = ClipSpec("bounce", 0, fps=10, length=20), ClipSpec("bounce", 0, fps=30, length=60)
    assert np.array_equal(slow.times_s(), fast.times_s()[::3])


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "flood"},
        {"split": "all"},
        {"width": 15},
        {"width": 300},
        {"height": 200},
        {"seed": -1},
        {"length": 0},
        {"fps": 0.0},
        {"fps": 1001.0},
        {"anomaly": Anomaly("appears")},
        {"kind": "surveillance", "anomaly": Anomaly("fire")},
    ],
)
def test_what_cannot_be_rendered_is_refused(wrong):
    with pytest.raises(ValueError, match=r"world|at least|out of range|anomaly"):
        ClipSpec(**({"kind": "bounce", "seed": 0} | wrong))
