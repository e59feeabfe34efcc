"""Whole captures: the same pixels for a seed, honest colours, one camera, captions, bad input."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import msgspec
import numpy as np
import pytest
from skimage.data import astronaut

from operators.nn.capture.captions import captions
from operators.nn.capture.scene import KINDS, SUBKINDS, render, sample

CORNER, SIDE = (104, 0), 240
POINTS = np.array(
    [(203.5, 101.5), (248, 102), (224.3, 125.5), (205, 144.3), (242, 144.5)]
) - np.array(CORNER)  # fmt: skip
CROP = np.ascontiguousarray(astronaut()[:SIDE, CORNER[0] : CORNER[0] + SIDE])
EVERY = [(kind, subkind) for kind in KINDS for subkind in SUBKINDS[kind]]


def small(kind, seed, split="train", subkind=None):
    """A capture on a small sensor: quick."""
    capture = sample(kind, seed, split, subkind)
    return replace(capture, camera=replace(capture.camera, sensor_px=96))


def tame(capture):
    """Without what a camera may do to colours: the lamp's colour, exposure, curve, noise."""
    camera = replace(
        capture.camera, exposure_ev=0.0, contrast=0.0, sharpen=0.0, electrons=1e6, jpeg_quality=95,
        jpeg_420=False, sensor_px=200, defocus_px=0.0,
    )  # fmt: skip
    light = replace(capture.light, awb=1.0, gradient=0.0, flicker_depth=0.0)
    framing = replace(capture.framing, roll_deg=0.0, zoom=1.0, shift_x=0.0, shift_y=0.0)
    return replace(capture, camera=camera, light=light, framing=framing)


@pytest.mark.parametrize(("kind", "subkind"), EVERY)
def test_the_same_seed_gives_the_same_pixels(kind, subkind):
    first, again = (render(CROP, POINTS, small(kind, 4, subkind=subkind), 80) for _ in range(2))
    assert first.image.shape == (80, 80, 3)
    assert first.image.dtype == np.uint8
    assert np.array_equal(first.image, again.image)
    other = render(CROP, POINTS, small(kind, 5, subkind=subkind), 80)
    assert not np.array_equal(first.image, other.image)
    assert first.image.std() > 10


def test_another_split_is_another_capture():
    one, other = (sample("print", 7, split) for split in ("train", "test"))
    assert one.camera != other.camera
    assert one.attack != other.attack


@pytest.mark.parametrize("bayer", [False, True])
def test_a_real_face_keeps_its_colours(bayer):
    """Within 3 codes in the mean and 6 in the mean of differences, on a sensor of near the size."""
    capture = tame(sample("bonafide", 2, "train"))
    capture = replace(capture, camera=replace(capture.camera, bayer=bayer, lens_sigma_px=0.4))
    seen = render(CROP, POINTS, capture, SIDE).image[10:-10, 10:-10].astype(float)
    real = CROP[10:-10, 10:-10].astype(float)
    assert np.abs(seen.mean(axis=(0, 1)) - real.mean(axis=(0, 1))).max() < 3
    assert np.abs(seen - real).mean() < 6


def test_brightness_of_the_face_does_not_tell_the_kind():
    levels = []
    for kind in KINDS:
        capture = tame(small(kind, 3))
        image = render(CROP, POINTS, capture, 120).image
        levels.append(float(image[40:80, 45:75].mean()))
    assert max(levels) - min(levels) < 30


def test_a_coloured_lamp_is_balanced_by_its_share():
    def warmth(awb):
        capture = tame(sample("bonafide", 2, "train"))
        light = replace(capture.light, kelvin=3000.0, awb=awb)
        image = render(CROP, POINTS, replace(capture, light=light), 96).image.astype(float)
        return image[..., 0].mean() / image[..., 2].mean()

    assert warmth(0.65) > 1.1 * warmth(1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_points_follow_the_face(kind):
    """Roll, zoom, shift and the attack's pose move the points; a blob at an eye goes with them."""
    marked = CROP.copy()
    x, y = np.rint(POINTS[0]).astype(int)
    marked[y - 3 : y + 4, x - 3 : x + 4] = (0, 255, 0)
    subkind = "silicone" if kind == "mask3d" else None
    capture = tame(sample(kind, 6, "train", subkind))
    capture = replace(capture, framing=replace(capture.framing, roll_deg=4.0, shift_x=0.02))
    result, without = (render(image, POINTS, capture, 200) for image in (marked, CROP))
    found = np.abs(result.image.astype(int) - without.image).sum(axis=2)[:150]
    found = np.where(found > 0.6 * found.max(), found, 0)
    rows, columns = np.nonzero(found)
    middle = np.array([columns.mean(), rows.mean()])
    reach = 8 if kind == "mask3d" else 3  # parallax behind the hole
    assert np.abs(middle - result.points[0]).max() < reach


def test_real_faces_pass_the_same_optics():
    """The finest detail of the crop is gone from the real capture as well."""
    capture = tame(sample("bonafide", 1, "train"))
    blurred = replace(capture, camera=replace(capture.camera, defocus_px=2.4, sensor_px=100))
    grain = [np.abs(np.diff(image.astype(float), axis=1)).mean()
             for image in (CROP, render(CROP, POINTS, blurred, SIDE).image)]  # fmt: skip
    assert grain[1] < 0.6 * grain[0]


def test_the_description_holds_every_parameter():
    capture = sample("replay", 11, "development")
    told = render(CROP, POINTS, replace(capture, camera=replace(capture.camera, sensor_px=96)), 64)
    description = told.description
    assert description["kind"] == "replay"
    assert description["subkind"] == capture.subkind
    assert description["attack"]["pitch_mm"] == capture.attack.pitch_mm
    assert description["camera"]["sensor_px"] == 96
    assert msgspec.json.decode(msgspec.json.encode(description)) == description


@pytest.mark.parametrize("size_px", [16, 97, 400])
def test_any_size(size_px):
    assert render(CROP, POINTS, small("print", 0), size_px).image.shape == (size_px, size_px, 3)


def test_crops_that_are_not_square_are_cut_to_a_square():
    wide = np.ascontiguousarray(np.pad(CROP, ((0, 0), (30, 30), (0, 0)), mode="edge"))
    capture = tame(small("bonafide", 0))
    one = render(wide, POINTS + np.array([30, 0]), capture, 90).image
    other = render(CROP, POINTS, capture, 90).image
    assert np.abs(one.astype(int) - other).mean() < 3


@pytest.mark.parametrize(
    ("image", "points", "message"),
    [
        (CROP[..., 0], POINTS, "uint8"),
        (CROP.astype(np.uint16), POINTS, "uint8"),
        (CROP[:20, :20], POINTS, "sides"),
        (CROP, POINTS[:4], "five"),
        (CROP, POINTS * np.nan, "finite"),
        (CROP, POINTS + 900, "outside"),
        (CROP, POINTS[:1] + np.zeros((5, 1)), "apart"),
    ],
)
def test_what_is_no_face_crop_is_refused(image, points, message):
    with pytest.raises(ValueError, match=message):
        render(image, points, small("bonafide", 0))


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="kind"):
        sample("deepfake", 0, "train")
    with pytest.raises(ValueError, match="one of"):
        sample("print", 0, "train", "phone")
    with pytest.raises(ValueError, match="split"):
        sample("print", 0, "training")
    with pytest.raises(ValueError, match="negative"):
        sample("print", -1, "train")
    with pytest.raises(ValueError, match="size_px"):
        render(CROP, POINTS, small("print", 0), 8)


@pytest.mark.parametrize(("kind", "subkind"), EVERY)
def test_every_subkind_has_captions_of_its_own(kind, subkind):
    told = captions(sample(kind, 0, "train", subkind))
    assert len(told) >= 12
    assert len(set(told)) == len(told)
    assert told == captions(sample(kind, 0, "train", subkind))


def test_captions_of_different_kinds_never_agree():
    told = {
        kind: {text for subkind in SUBKINDS[kind] for seed in range(25)
               for text in captions(sample(kind, seed, "train", subkind))}
        for kind in KINDS
    }  # fmt: skip
    shared = told["print"] & told["replay"]
    assert all("hand" in text or "reflection" in text for text in shared)
    for one, other in combinations(KINDS, 2):
        if {one, other} != {"print", "replay"}:
            assert not told[one] & told[other]


def test_captions_tell_what_is_in_view():
    capture = sample("replay", 0, "train", "phone")
    wide, close = (replace(capture.attack, margin_x=margin, margin_y=4.0) for margin in (3.9, 1.3))
    assert not any("frame" in text for text in captions(replace(capture, attack=wide)))
    assert any("frame" in text for text in captions(replace(capture, attack=close)))
    masked = sample("mask3d", 0, "train", "resin")
    closed = replace(masked, attack=replace(masked.attack, mouth_open=False))
    assert any("closed mouth" in text for text in captions(closed))
