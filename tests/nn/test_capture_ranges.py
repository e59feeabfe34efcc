"""Held-out parameters: splits never share a value, and kinds share their cameras."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from operators.nn.capture.camera import CameraParameters
from operators.nn.capture.light import LightParameters
from operators.nn.capture.ranges import SPLITS, Range, draw, spreads
from operators.nn.capture.scene import KINDS, SUBKINDS, held_out, sample

EVERY = [(kind, subkind) for kind in KINDS for subkind in SUBKINDS[kind]]


@pytest.mark.parametrize(("kind", "subkind"), EVERY)
def test_every_held_out_parameter_has_disjoint_splits(kind, subkind):
    ranges = {name: item for name, item in held_out(kind, subkind).items()
              if isinstance(item, Range) and item.held_out}  # fmt: skip
    assert {"camera.lens_sigma_px", "light.kelvin"} <= set(ranges)
    for name, item in ranges.items():
        parts = sorted((part, split) for split in SPLITS for part in item.parts(split))
        for (earlier, one), (later, other) in pairwise(parts):
            gap = later[0] - earlier[1]
            assert gap > (1 if item.whole else 0), (name, one, other)
        assert parts[0][0][0] >= item.low
        assert parts[-1][0][1] <= item.high
        assert item.unit
        assert item.source


@pytest.mark.parametrize(("kind", "subkind"), [each for each in EVERY if each[0] != "bonafide"])
def test_an_attack_holds_parameters_out(kind, subkind):
    own = [name for name, item in held_out(kind, subkind).items()
           if name.startswith("attack.") and isinstance(item, Range) and item.held_out]  # fmt: skip
    assert len(own) >= 10


@pytest.mark.parametrize("kind", KINDS)
def test_draws_lie_in_their_split_only(kind):
    for split in SPLITS:
        others = [other for other in SPLITS if other != split]
        for seed in range(40):
            capture = sample(kind, seed, split)
            for name, item in held_out(kind, capture.subkind).items():
                group, field = name.split(".")
                value = getattr(getattr(capture, group), field)
                if not isinstance(item, Range):
                    assert value in item.values
                elif item.held_out:
                    slack = 0.5 if item.whole else 1e-9 * item.high
                    assert _within(item, value, split, slack), name
                    assert not any(_within(item, value, other, 0) for other in others), name


def _within(item, value, split, slack):
    return any(low - slack <= value <= high + slack for low, high in item.parts(split))


def test_tests_and_development_lie_between_what_training_saw():
    spread = Range(0, 12, "mm", "any")
    seen = spread.parts("train")
    for split in ("development", "test"):
        for low, high in spread.parts(split):
            assert min(low for low, _ in seen) < low
            assert high < max(high for _, high in seen)


def test_whole_draws_of_two_splits_never_meet():
    spread = Range(50, 95, "1", "any", whole=True)
    rng = np.random.default_rng(3)
    seen = {split: {spread.draw(rng, split) for _ in range(3000)} for split in SPLITS}
    assert all(isinstance(value, int) for value in seen["train"])
    assert len(seen["train"]) > 15
    assert not seen["train"] & seen["test"]
    assert not seen["train"] & seen["development"]
    assert not seen["test"] & seen["development"]


@pytest.mark.parametrize("group", ["camera", "light", "framing"])
def test_kinds_share_what_is_not_theirs(group):
    """Kolmogorov and Smirnov on other seeds for every kind: no camera tells the attack."""
    fields = spreads(type(getattr(sample("print", 0, "train"), group)))
    per_kind = [[getattr(sample(kind, 1000 * place + seed, "train"), group) for seed in range(150)]
                for place, kind in enumerate(KINDS)]  # fmt: skip
    for name, item in fields.items():
        if not isinstance(item, Range):
            continue
        real, *attacks = [np.array([getattr(one, name) for one in many]) for many in per_kind]
        for attack in attacks:
            assert stats.ks_2samp(real, attack).pvalue > 1e-3, name


def test_the_same_seed_gives_every_kind_the_same_camera():
    first, *others = [sample(kind, 5, "test") for kind in KINDS]
    for other in others:
        assert (other.camera, other.light, other.framing) == (
            first.camera, first.light, first.framing)  # fmt: skip


def test_what_cannot_be_a_range_is_refused():
    with pytest.raises(ValueError, match="no range"):
        Range(2, 1, "mm", "any")
    with pytest.raises(ValueError, match="no range"):
        Range(0, 1, "mm", "any", log=True)
    with pytest.raises(ValueError, match="too narrow"):
        Range(0, 10, "1", "any", whole=True)
    with pytest.raises(ValueError, match="split"):
        Range(0, 1, "mm", "any").parts("validation")
    with pytest.raises(ValueError, match="has no"):
        spreads(CameraParameters, {"lens": Range(0, 1, "mm", "any")})


def test_narrowing_replaces_a_range():
    narrow = {"kelvin": Range(3000, 3001, "K", "any", held_out=False)}
    light = draw(LightParameters, np.random.default_rng(0), "train", narrow)
    assert 3000 <= light.kelvin <= 3001
