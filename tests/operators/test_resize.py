"""Resizing keeps the picture's middle, its colours and what records point at."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import Caps
from engine.testing import run_operator
from operators.face.detect import FaceDetect, FaceDetectConfig
from operators.face.records import Face, Landmarks, Track
from operators.video.resize import Resize, ResizeConfig, fit_window
from tests.operators.faces import (
    PIX_FMTS,
    as_rgb,
    astronaut,
    face,
    flat_picture,
    overlap,
    picture,
    track,
)

EVEN = st.integers(1, 400).map(lambda half: 2 * half)
FITS = ("letterbox", "crop", "stretch")


def resized(frame: object, width: int, height: int, fit: str) -> object:
    config = ResizeConfig(width=width, height=height, fit=fit)
    (after,) = run_operator(Resize(config), [frame])
    return after


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("pix_fmt", PIX_FMTS)
def test_size_stamp_and_read_only_data(pix_fmt: str, fit: str) -> None:
    before = picture(astronaut(), pix_fmt, seq=9)
    after = resized(before, 320, 180, fit)
    assert (after.caps.width, after.caps.height) == (320, 180)
    assert after.caps == msgspec.structs.replace(before.caps, width=320, height=180)
    assert after.data.shape == resized(after, 320, 180, fit).data.shape
    assert after.data.shape[0] == (270 if pix_fmt == "yuv420p" else 180)
    assert after.stamp is before.stamp
    assert not after.data.flags.writeable
    assert after.data.flags.c_contiguous


def test_the_right_size_passes_as_it_is() -> None:
    before = picture(astronaut(), "yuv420p")
    assert resized(before, 512, 512, "crop") is before


@pytest.mark.parametrize("colour", [("bt601", "limited"), ("bt709", "full")])
@pytest.mark.parametrize("pix_fmt", PIX_FMTS)
def test_letterbox_has_black_bars_and_true_colours(pix_fmt: str, colour: tuple[str, str]) -> None:
    before = flat_picture((64, 32), (180, 180, 180), pix_fmt, colour=colour)
    rgb = as_rgb(resized(before, 128, 128, "letterbox")).astype(int)
    assert rgb[:32].max() <= 1
    assert rgb[96:].max() <= 1
    assert np.abs(rgb[33:95] - 180).max() <= 2


@pytest.mark.parametrize("pix_fmt", PIX_FMTS)
def test_crop_keeps_the_middle(pix_fmt: str) -> None:
    rgb = np.zeros((64, 128, 3), np.uint8)
    rgb[:, 32:96] = 200
    after = as_rgb(resized(picture(rgb, pix_fmt), 32, 32, "crop")).astype(int)
    assert np.abs(after - 200).max() <= 2


@pytest.mark.parametrize("fit", FITS)
def test_planes_look_like_resized_rgb(fit: str) -> None:
    planes = as_rgb(resized(picture(astronaut(), "yuv420p"), 256, 144, fit)).astype(int)
    rgb = as_rgb(resized(picture(astronaut(), "rgb24"), 256, 144, fit)).astype(int)
    assert np.abs(planes - rgb).mean() < 3


@pytest.mark.parametrize("fit", FITS)
def test_records_point_at_the_same_face(fit: str) -> None:
    detect = FaceDetect(FaceDetectConfig(model="back"))
    (before,) = run_operator(detect, [picture(astronaut(), "yuv420p")])
    after = resized(before, 640, 480, fit)
    (moved,) = after.of(Face)
    (again,) = run_operator(detect, [after.without_records(Face)])
    assert overlap(moved.box, again.of(Face)[0].box) > 0.75
    assert np.hypot(*np.subtract(moved.points[2], again.of(Face)[0].points[2])) < 12

    mesh = Landmarks(0, 1.0, ((10.0, 20.0, 4.0),))
    records = (face(60, 60, 20), track(4, 60, 60, 20), mesh)
    before = flat_picture((100, 100), (0, 0, 0), "rgb24").with_records(*records)
    after = resized(before, 400, 200, "letterbox")
    expected = (60 * 2 + 100 - 20, 60 * 2 - 20, 60 * 2 + 100 + 20, 60 * 2 + 20)
    assert after.of(Face)[0].box == pytest.approx(expected)
    assert after.of(Track)[0].box == pytest.approx(expected)
    assert after.of(Track)[0].track_id == 4
    assert after.of(Landmarks)[0].points == ((120.0, 40.0, 8.0),)


@given(EVEN, EVEN, EVEN, EVEN, st.sampled_from(FITS))
def test_windows_are_even_inside_and_keep_the_aspect(
    width: int, height: int, new_width: int, new_height: int, fit: str
) -> None:
    window = fit_window((width, height), (new_width, new_height), fit)
    for (x, y, w, h), size in zip(window, ((width, height), (new_width, new_height)), strict=True):
        assert min(x, y) >= 0
        assert min(w, h) >= 2
        assert x + w <= size[0]
        assert y + h <= size[1]
        assert all(value % 2 == 0 for value in (x, y, w, h))
    if fit == "letterbox":
        assert window.source == (0, 0, width, height)
        assert window.target[2] == new_width or window.target[3] == new_height
    if fit == "crop":
        assert window.target == (0, 0, new_width, new_height)
        assert window.source[2] == width or window.source[3] == height


def test_the_config_tells_check_the_size() -> None:
    caps = Resize.output_caps(ResizeConfig(width=64, height=48), "out")
    assert caps == Caps(media="video", width=64, height=48, like="frames")


@pytest.mark.parametrize("width", [0, 3, -2, 20_000])
def test_odd_and_absurd_sizes_are_refused(width: int) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"width": width, "height": 2}, ResizeConfig)
