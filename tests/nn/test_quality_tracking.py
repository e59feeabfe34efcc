"""The tracker against what `bounce` knows of itself, and against discs drawn for it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from operators.nn.quality.tracking import Track, temporal_background, track
from operators.nn.worlds.clip import make_clip
from operators.nn.worlds.spec import Clip, ClipSpec

BRICKS = np.random.default_rng(0).integers(90, 130, (48, 64, 3), dtype=np.uint8)


def discs(*tracks: tuple[np.ndarray, int, tuple[int, int, int]]) -> np.ndarray:
    """[T, 48, 64, 3]: for each track its positions [T, 2], radius and colour, before a wall."""
    clip = np.repeat(BRICKS[None], len(tracks[0][0]), axis=0)
    for places, radius, colour in tracks:
        for frame, (x, y) in zip(clip, places, strict=True):
            cv2.circle(frame, (int(x), int(y)), radius, colour, -1)
    return clip


def line(start: tuple[int, int], step: tuple[int, int], count: int = 10) -> np.ndarray:
    return np.array(start) + np.arange(count)[:, None] * np.array(step)


def test_a_disc_is_found_where_it_is_with_its_size_and_colour() -> None:
    places = line((8, 10), (5, 3))
    found = track(discs((places, 5, (250, 20, 30))))
    assert found.visible.all()
    assert found.centre_px == pytest.approx(places, abs=0.35)
    drawn = (discs((places[:1], 5, (250, 20, 30)))[0] == (250, 20, 30)).all(axis=-1).sum()
    assert drawn <= found.area_px.min()
    assert found.area_px.max() < 1.4 * drawn, "smoothing adds part of a rim"
    assert found.area_px.std() < 0.03 * drawn
    assert found.colour == pytest.approx(np.tile([250.0, 20, 30], (10, 1)), abs=6)
    assert found.box_px[0] == pytest.approx([3, 5, 13, 15], abs=1)


def test_it_stays_with_one_of_two_and_takes_the_larger_first() -> None:
    large, small = line((10, 12), (4, 0)), line((50, 36), (-4, 0))
    clip = discs((large, 6, (250, 250, 20)), (small, 5, (20, 20, 250)))
    found = track(clip, BRICKS)
    assert found.centre_px == pytest.approx(large, abs=0.3)


def test_a_thing_that_leaves_is_not_visible_and_gives_no_numbers() -> None:
    places = line((40, 20), (7, 0))
    found = track(discs((places, 4, (250, 20, 30))), BRICKS)
    gone = places[:, 0] > 68
    assert gone.any()
    assert not found.visible[gone].any()
    assert found.visible[places[:, 0] < 60].all()
    assert np.isnan(found.centre_px[gone]).all()
    assert np.isnan(found.colour[gone]).all()
    assert (found.area_px[gone] == 0).all()


def test_an_even_shadow_is_no_thing() -> None:
    clip = discs((line((10, 12), (4, 0)), 5, (250, 20, 30)))
    clip[:, 30:44, 20:44] = (clip[:, 30:44, 20:44] * 0.7).astype(np.uint8)
    found = track(clip, BRICKS)
    assert found.centre_px[:, 1] == pytest.approx(np.full(10, 12), abs=0.3)


def test_a_background_under_masks_is_seen_where_the_thing_once_was_not() -> None:
    resting = np.concatenate((line((10, 12), (6, 0), 4), np.tile([40, 12], (9, 1))))
    clip = discs((resting, 5, (250, 20, 30)))
    masks = (clip == (250, 20, 30)).all(axis=-1).astype(np.uint8)
    assert (temporal_background(clip, masks) == BRICKS).all()
    assert (temporal_background(clip) != BRICKS).any(), "the median alone keeps what rests"
    always = np.ones_like(masks)
    assert (temporal_background(clip, always) == temporal_background(clip)).all()


def test_what_is_no_clip_is_refused() -> None:
    with pytest.raises(ValueError, match="uint8"):
        track(np.zeros((4, 16, 16, 3)))
    with pytest.raises(ValueError, match="a background"):
        track(np.zeros((4, 16, 16, 3), np.uint8), np.zeros((8, 8, 3), np.uint8))


def seen_centres(clip: Clip, length: int) -> np.ndarray:
    """[length, 2]: of the pixels that show the only body."""
    assert clip.masks is not None
    found = [np.argwhere(mask == 1).mean(axis=0)[::-1] for mask in clip.masks[:length]]
    return np.array(found)


def bounces(count: int, length: int) -> list[tuple[Clip, Track]]:
    """Real clips with one body that moves, each with its track."""
    made: list[tuple[Clip, Track]] = []
    seed = 0
    while len(made) < count:
        clip = make_clip(ClipSpec("bounce", seed, "validation", length=64), masks=True)
        seed += 1
        if len(clip.truth.objects) > 1:
            continue
        empty = temporal_background(clip.frames, clip.masks)
        made.append((clip, track(clip.frames[:length], empty)))
    return made


@pytest.mark.slow
def test_real_bodies_are_found_to_a_fraction_of_a_pixel() -> None:
    errors, areas = [], []
    for clip, found in bounces(5, 16):
        assert clip.masks is not None
        assert found.visible.all()
        errors.append(np.linalg.norm(found.centre_px - seen_centres(clip, 16), axis=1))
        true_area = (clip.masks[:16] == 1).sum(axis=(1, 2))
        areas.append(np.abs(found.area_px / true_area - 1))
    assert np.median(errors) < 0.4
    assert np.mean(errors) < 0.6
    assert np.median(areas) < 0.2
