"""Sources varied: the face stays where its points are, and nothing tells the kind."""

from __future__ import annotations

import numpy as np
import pytest

from operators.nn.capture.ranges import SPLITS
from operators.nn.capture.source import Source, SourceParameters, mix, vary

SIDE = 144
POINTS = np.array([(50.0, 55), (94, 55), (72, 80), (56, 100), (88, 100)])


def marked() -> np.ndarray:
    """Grey, with a bright spot on each point."""
    image = np.full((SIDE, SIDE, 3), 90, np.uint8)
    for x, y in POINTS.astype(int):
        image[y - 3 : y + 4, x - 3 : x + 4] = 230
    return image


@pytest.mark.parametrize("seed", range(12))
def test_points_go_where_their_places_go(seed: int) -> None:
    image, points, how = vary(Source(marked(), POINTS, 120), np.random.default_rng(seed))
    assert image.shape == (SIDE, SIDE, 3)
    assert image.dtype == np.uint8
    light = image.astype(float).mean(axis=2)
    for x, y in points.round().astype(int):
        around = light[y - 9 : y + 10, x - 9 : x + 10]
        spot = light[y - 2 : y + 3, x - 2 : x + 3].mean()
        assert spot > around.mean() + 0.5 * (around.max() - around.mean()) - 12
    assert points[0, 0] < points[1, 0], "the person's right eye stays on the picture's left"
    assert how.mirrored in (False, True)


def test_the_same_seed_gives_the_same_picture_and_others_differ() -> None:
    one = vary(Source(marked(), POINTS, 120), np.random.default_rng(5))
    same = vary(Source(marked(), POINTS, 120), np.random.default_rng(5))
    other = vary(Source(marked(), POINTS, 120), np.random.default_rng(6))
    assert np.array_equal(one[0], same[0])
    assert np.array_equal(one[1], same[1])
    assert one[2] == same[2]
    assert not np.array_equal(one[0], other[0])


def test_no_split_holds_a_source_out() -> None:
    for name, field in SourceParameters.__dataclass_fields__.items():
        spread = field.metadata["drawn"]
        if hasattr(spread, "parts"):
            assert len({spread.parts(split) for split in SPLITS}) == 1, name


def test_small_sources_stay_as_coarse_as_they_are() -> None:
    rng = np.random.default_rng(3)
    fine = np.where(np.indices((SIDE, SIDE)).sum(0) % 2, 200, 40).astype(np.uint8)
    image, *_ = vary(Source(np.dstack([fine] * 3), POINTS, 48), rng)
    row = image[SIDE // 2, :, 1].astype(float)
    spectrum = np.abs(np.fft.rfft(row - row.mean()))
    assert spectrum[30:].sum() < 0.35 * spectrum.sum(), "finer than 48 px can hold"


def test_a_second_person_lends_features_where_the_face_is() -> None:
    source = Source(marked(), POINTS, 120)
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    other = Source(noise, POINTS * 0.9 + 8, 120)
    mixed = mix(source, other, 1.0, np.random.default_rng(2))
    changed = np.abs(mixed.astype(int) - source.image).mean(axis=2)
    x, y = POINTS.mean(axis=0).astype(int)
    assert changed[y - 15 : y + 15, x - 15 : x + 15].mean() > 10
    assert not changed[:, :8].any(), "what is around the face stays"
    assert np.array_equal(mix(source, other, 0.0, np.random.default_rng(2)), source.image)
    here, there = mixed[y - 15 : y + 15, x - 15 : x + 15], source.image
    assert abs(float(here.mean()) - float(there[y - 15 : y + 15, x - 15 : x + 15].mean())) < 25


def test_another_room_is_behind_the_person_and_not_before() -> None:
    source = Source(marked(), POINTS, 120)
    room = np.random.default_rng(4).integers(0, 256, (80, 200, 3)).astype(np.uint8)
    here = slice(int(POINTS[:, 1].min()), int(POINTS[:, 1].max()))
    own = []
    for seed in range(12):
        alone = _shape_only(vary(source, np.random.default_rng(seed)))
        behind = _shape_only(vary(source, np.random.default_rng(seed), room=room))
        own.append(np.array_equal(alone, behind))
        if own[-1]:
            continue
        middle = behind[here, SIDE // 2 - 12 : SIDE // 2 + 12]
        corner = behind[:16, :16]
        assert corner.std() > 1.5 * alone[:16, :16].std(), "the room's corner is seen"
        assert abs(middle.mean() - alone[here, SIDE // 2 - 12 : SIDE // 2 + 12].mean()) < 25
    assert 1 <= sum(own) <= 9


def _shape_only(made: tuple) -> np.ndarray:
    return made[0].astype(float).mean(axis=2)


def test_only_some_pictures_are_mixed() -> None:
    source = Source(marked(), POINTS, 120)
    noise = np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    other = Source(noise, POINTS, 120)
    same = []
    for seed in range(30):
        alone = vary(source, np.random.default_rng(seed))
        both = vary(source, np.random.default_rng(seed), other)
        assert (both[2].mixed > 0) or np.array_equal(alone[0], both[0])
        same.append(both[2].mixed <= 0)
    assert 4 <= sum(same) <= 18
