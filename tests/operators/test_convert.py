"""Conversions between formats keep colours, whatever matrix and range the caps name."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest

from engine import Caps, CapsError, Frame
from engine.testing import run_operator
from operators.video.convert import Convert, ConvertConfig
from tests.operators.faces import PIX_FMTS, as_rgb, astronaut, face, flat_picture, picture, pixels

COLOURS = [(s, r) for s in ("bt601", "bt709") for r in ("limited", "full")]
ORANGE = (220, 130, 40)


def converted(frame: Frame, pix_fmt: str, **settings: str) -> Frame:
    (after,) = run_operator(Convert(ConvertConfig(pix_fmt=pix_fmt, **settings)), [frame])
    return after


@pytest.mark.parametrize(("source", "target"), list(itertools.product(PIX_FMTS, PIX_FMTS)))
def test_shape_stamp_records_and_read_only_data(source: str, target: str) -> None:
    before = flat_picture((32, 16), ORANGE, source, seq=4).with_records(face(8, 8))
    after = converted(before, target)
    assert after.caps.pix_fmt == target
    assert after.data.shape == flat_picture((32, 16), ORANGE, target).data.shape
    assert after.data.flags.c_contiguous
    assert not after.data.flags.writeable
    assert after.stamp is before.stamp
    assert after.records == before.records


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("target", ["rgb24", "bgr24"])
def test_planes_give_their_colours(target: str, colour: tuple[str, str]) -> None:
    after = converted(flat_picture((32, 16), ORANGE, "yuv420p", colour=colour), target)
    assert np.abs(as_rgb(after).astype(int) - ORANGE).max() <= 2


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("source", ["rgb24", "bgr24"])
def test_planes_are_made_as_asked(source: str, colour: tuple[str, str]) -> None:
    settings = {"colorspace": colour[0], "color_range": colour[1]}
    after = converted(flat_picture((32, 16), ORANGE, source), "yuv420p", **settings)
    assert (after.caps.colorspace, after.caps.color_range) == colour
    expected = pixels(np.full((16, 32, 3), ORANGE, np.uint8), "yuv420p", colour)
    assert np.abs(after.data.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(("first", "second"), list(itertools.product(COLOURS, COLOURS)))
def test_planes_to_planes_of_other_colours(first: tuple[str, str], second: tuple[str, str]) -> None:
    before = flat_picture((32, 16), ORANGE, "yuv420p", colour=first)
    after = converted(before, "yuv420p", colorspace=second[0], color_range=second[1])
    expected = flat_picture((32, 16), ORANGE, "yuv420p", colour=second)
    assert np.abs(after.data.astype(int) - expected.data).max() <= 2
    assert (after.data is before.data) == (first == second)


@pytest.mark.parametrize("colour", COLOURS)
def test_a_photograph_survives_there_and_back(colour: tuple[str, str]) -> None:
    photo = cv2.GaussianBlur(astronaut(), (0, 0), 2)  # chroma has half the resolution
    settings = {"colorspace": colour[0], "color_range": colour[1]}
    back = converted(converted(picture(photo), "yuv420p", **settings), "rgb24")
    assert np.abs(back.data.astype(int) - photo).mean() < 1.5


def test_bt601_limited_is_what_opencv_makes() -> None:
    frame = picture(astronaut(), "yuv420p")
    expected = cv2.cvtColor(frame.data, cv2.COLOR_YUV2RGB_I420).astype(int)
    assert np.abs(converted(frame, "rgb24").data.astype(int) - expected).mean() < 1.5


@pytest.mark.parametrize("colour", COLOURS)
def test_gray_is_full_range_luma(colour: tuple[str, str]) -> None:
    for value in (0, 100, 255):
        frame = flat_picture((4, 4), (value,) * 3, "yuv420p", colour=colour)
        assert np.abs(converted(frame, "gray").data.astype(int) - value).max() <= 1
        assert converted(frame, "gray").caps.color_range == "full"
    from_planes = converted(flat_picture((4, 4), ORANGE, "yuv420p", colour=colour), "gray")
    from_rgb = converted(flat_picture((4, 4), ORANGE, "rgb24", colour=colour), "gray")
    assert np.abs(from_planes.data.astype(int) - from_rgb.data).max() <= 2


def test_gray_to_planes_has_no_colour() -> None:
    after = converted(flat_picture((4, 4), (128, 128, 128), "gray"), "yuv420p")
    assert (after.data[4:] == 128).all()
    assert np.abs(as_rgb(after).astype(int) - 128).max() <= 1


def test_unset_colours_are_named_without_touching_a_byte() -> None:
    caps = Caps(media="video", pix_fmt="yuv420p", dtype="uint8", width=4, height=4, device="cpu")
    before = flat_picture((4, 4), ORANGE, "yuv420p")
    after = converted(before.with_data(before.data, caps), "yuv420p")
    assert after.data is before.data
    assert (after.caps.colorspace, after.caps.color_range) == ("bt709", "limited")


def test_the_matrix_of_the_frame_is_remembered() -> None:
    frame = flat_picture((4, 4), ORANGE, "yuv420p", colour=("bt601", "limited"))
    back = converted(converted(frame, "rgb24"), "yuv420p")
    assert back.caps == frame.caps
    assert np.abs(back.data.astype(int) - frame.data).max() <= 1


def test_odd_sides_have_no_planes() -> None:
    with pytest.raises(CapsError, match="even"):
        converted(picture(np.zeros((3, 4, 3), np.uint8)), "yuv420p")


def test_the_config_tells_check_the_format() -> None:
    caps = Convert.output_caps(ConvertConfig(pix_fmt="gray"), "out")
    assert caps == Caps(media="video", pix_fmt="gray", like="frames")
