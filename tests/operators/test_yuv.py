"""Planes of 4:2:0 frames and their colours, against OpenCV and FFmpeg."""

from __future__ import annotations

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace
from msgspec.structs import replace

from engine import CapsError
from operators.video.yuv import (
    letterbox,
    planes_of,
    rgb_to_yuv,
    small_rgb,
    yuv_matrix,
    yuv_to_rgb,
)
from tests.operators.faces import PIX_FMTS, as_rgb, astronaut, flat_picture, picture, pixels

COLOURS = [(s, r) for s in ("bt601", "bt709") for r in ("limited", "full")]
SPACES = {"bt601": Colorspace.ITU601, "bt709": Colorspace.ITU709}
RANGES = {"limited": ColorRange.MPEG, "full": ColorRange.JPEG}
PRIMARIES = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (200, 120, 60)]


def test_planes_are_views_in_the_order_y_u_v() -> None:
    data = np.arange(6 * 4, dtype=np.uint8).reshape(6, 4)
    planes = planes_of(data, 4, 4)
    assert planes.y.tolist() == data[:4].tolist()
    assert planes.u.ravel().tolist() == [16, 17, 18, 19]
    assert planes.v.ravel().tolist() == [20, 21, 22, 23]
    planes.v[1, 1] = 99
    assert data[5, 3] == 99


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("rgb", PRIMARIES)
def test_one_colour_there_and_back(colour: tuple[str, str], rgb: tuple[int, int, int]) -> None:
    yuv = rgb_to_yuv(rgb, *colour)
    back = yuv_to_rgb(np.array(yuv, np.uint8).reshape(1, 1, 3), *colour)
    assert np.abs(back.ravel().astype(int) - rgb).max() <= 2


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("rgb", PRIMARIES)
def test_colours_are_those_of_ffmpeg(colour: tuple[str, str], rgb: tuple[int, int, int]) -> None:
    flat = av.VideoFrame.from_ndarray(np.full((16, 16, 3), rgb, np.uint8), format="rgb24")
    made = flat.reformat(
        format="yuv444p",
        src_color_range=ColorRange.JPEG,
        dst_colorspace=SPACES[colour[0]],
        dst_color_range=RANGES[colour[1]],
    ).to_ndarray()
    assert np.abs(made[:, 8, 8].astype(int) - rgb_to_yuv(rgb, *colour)).max() <= 2


def test_bt601_limited_is_what_opencv_converts() -> None:
    data = pixels(astronaut(), "yuv420p", ("bt601", "limited"))
    expected = cv2.cvtColor(data, cv2.COLOR_YUV2RGB_I420).astype(int)
    got = as_rgb(picture(astronaut(), "yuv420p")).astype(int)
    assert np.abs(got - expected).max() <= 3


def test_limits_of_the_ranges() -> None:
    assert rgb_to_yuv((0, 0, 0), "bt709", "limited") == (16, 128, 128)
    assert rgb_to_yuv((255, 255, 255), "bt709", "limited") == (235, 128, 128)
    assert rgb_to_yuv((255, 255, 255), "bt601", "full") == (255, 128, 128)


def test_unset_colours_mean_hd_video() -> None:
    for got, expected in zip(yuv_matrix(None, None), yuv_matrix("bt709", "limited"), strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("colour", COLOURS)
def test_a_small_picture_has_the_colours_of_the_frame(colour: tuple[str, str]) -> None:
    frame = flat_picture((64, 48), (200, 60, 20), "yuv420p", colour=colour)
    small = small_rgb(frame, (16, 12)).astype(int)
    assert small.shape == (12, 16, 3)
    assert np.abs(small - (200, 60, 20)).max() <= 3


@pytest.mark.parametrize("pix_fmt", PIX_FMTS)
def test_letterbox_tells_where_the_frame_lies(pix_fmt: str) -> None:
    rgb = np.zeros((100, 400, 3), np.uint8)
    rgb[40:60, 180:220] = 255
    box = letterbox(picture(rgb, pix_fmt), 128)
    assert box.rgb.shape == (128, 128, 3)
    bright = np.argwhere(box.rgb.min(axis=2) > 128)
    top, left = (bright.min(axis=0) - (box.top_px, box.left_px)) / box.scale
    bottom, right = (bright.max(axis=0) + 1 - (box.top_px, box.left_px)) / box.scale
    assert (left, top, right, bottom) == pytest.approx((180, 40, 220, 60), abs=2 / box.scale)
    outside = np.delete(box.rgb, np.s_[48:80], axis=0)
    assert not outside.any()


def test_shrinking_averages_instead_of_skipping() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    small = small_rgb(picture(stripes), (8, 8)).astype(int)
    assert np.abs(small - 127).max() <= 2


def test_unknown_formats_and_sizes_are_refused() -> None:
    frame = picture(np.zeros((4, 4, 3), np.uint8))
    odd = frame.with_data(frame.data, type(frame.caps)(pix_fmt="yuyv422", width=4, height=4))
    with pytest.raises(CapsError, match="yuyv422"):
        small_rgb(odd, (2, 2))
    with pytest.raises(CapsError, match="size"):
        letterbox(frame.with_data(frame.data, type(frame.caps)(pix_fmt="rgb24")), 128)


@pytest.mark.parametrize("colour", COLOURS)
def test_chroma_side_by_side_is_chroma_in_planes(colour: tuple[str, str]) -> None:
    planar = picture(astronaut(), "yuv420p", colour=colour)
    height = planar.caps.height or 0
    chroma = planar.data[height:].reshape(2, -1).T.reshape(planar.data[height:].shape)
    caps = replace(planar.caps, pix_fmt="nv12")
    together = planar.with_data(np.concatenate([planar.data[:height], chroma]), caps)
    np.testing.assert_array_equal(small_rgb(together, (90, 60)), small_rgb(planar, (90, 60)))
