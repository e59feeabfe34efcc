"""Boxes and labels on YUV frames: kernel and twin agree at every place, odd ones too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.kernels.launching import On
from operators.kernels.overlay import (
    Box,
    Label,
    Shape,
    Stroke,
    bytes_moved,
    overlay,
    overlay_twin,
)
from operators.video.yuv import planes_of, yuv_to_rgb
from tests.operators.kernels import host

WIDTH, HEIGHT = 144, 40  # more than a block of threads each way
SIZE = (WIDTH, HEIGHT)
GREEN = (150, 44, 21)


def frame_of() -> Any:
    rng = np.random.default_rng(3)
    return rng.integers(16, 236, (HEIGHT * 3 // 2, WIDTH), np.uint8)


def label(width: int, height: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (4, height, width), np.uint8)


def by_kernel(frame: Any, shapes: list[Shape], pix_fmt: str, *, backwards: bool = False) -> Any:
    with host.processor() as gpu:
        gpu.backwards = backwards
        made = gpu.array(frame)
        overlay(made, shapes, SIZE, pix_fmt, On(0))
        assert len(gpu.launches) <= 1, "all shapes in one pass"
        return made.numbers


places = st.tuples(
    st.integers(-20, 160),
    st.integers(-20, 50),
    st.integers(1, 30),
    st.integers(1, 30),
    st.integers(1, 4),
)


@settings(max_examples=60)
@given(places, st.sampled_from(["yuv420p", "nv12"]), st.sampled_from([Box, Label, Stroke]))
def test_the_kernel_gives_what_its_twin_gives(
    place: tuple[int, int, int, int, int], pix_fmt: str, kind: type[Shape]
) -> None:
    left, top, width, height, line = place
    shape: Shape = Box(left, top, width, height, line, GREEN)
    if kind is Label:
        shape = Label(left, top, label(width, height))
    elif kind is Stroke:
        shape = Stroke(left, top, label(width, height)[0], GREEN)
    frame = frame_of()
    found = by_kernel(frame, [shape], pix_fmt)
    wanted = overlay_twin(frame, [shape], SIZE, pix_fmt)
    assert np.abs(found.astype(int) - wanted).max() <= 1


def test_later_shapes_lie_on_earlier_ones() -> None:
    shapes: list[Shape] = [
        Box(4, 4, 20, 20, 3, GREEN),
        Label(6, 2, label(13, 9)),
        Box(10, 6, 21, 9, 1, (40, 240, 110)),
        Stroke(9, 3, label(7, 12, 2)[1], GREEN),
        Label(121, 31, label(9, 6, 1)),
    ]
    frame = frame_of()
    for pix_fmt in ("yuv420p", "nv12"):
        found = by_kernel(frame, shapes, pix_fmt)
        wanted = overlay_twin(frame, shapes, SIZE, pix_fmt)
        assert np.abs(found.astype(int) - wanted).max() <= 2  # a level per layer
        assert (by_kernel(frame, shapes, pix_fmt, backwards=True) == found).all()


def test_a_box_is_its_rim_and_nothing_else() -> None:
    frame = frame_of()
    made = by_kernel(frame, [Box(8, 6, 20, 12, 2, GREEN)], "yuv420p")
    luma = made[:HEIGHT]
    assert (luma[6:8, 8:28] == GREEN[0]).all()
    assert (luma[8:16, 10:26] == frame[8:16, 10:26]).all()
    assert (luma[:6] == frame[:6]).all()
    chroma = made[HEIGHT:].reshape(2, HEIGHT // 2, WIDTH // 2)
    assert (chroma[0, 3, 4:14] == GREEN[1]).all()
    assert (chroma[1, 3, 4:14] == GREEN[2]).all()


def test_shapes_that_are_not_on_the_frame_are_no_launch() -> None:
    away: list[Shape] = [Box(WIDTH, 0, 5, 5, 1, GREEN), Label(0, -9, label(4, 9))]
    with host.processor() as gpu:
        for shapes in ([], away[:1], away[1:]):
            overlay(gpu.array(frame_of()), shapes, SIZE, "nv12", On(0))
        assert not gpu.launches


@pytest.mark.parametrize("colorspace", ["bt601", "bt709"])
@pytest.mark.parametrize("color_range", ["limited", "full"])
def test_a_label_of_rgba_shows_its_colours(colorspace: str, color_range: str) -> None:
    rgba = np.zeros((8, 12, 4), np.uint8)
    rgba[:] = (200, 90, 30, 255)
    rgba[:, 6:, 3] = 0
    drawn = Label.of_rgba(4, 6, rgba, colorspace, color_range)
    frame = frame_of()
    made = by_kernel(frame, [drawn], "yuv420p")
    planes = planes_of(made, WIDTH, HEIGHT)
    yuv = np.array([[[planes.y[8, 6], planes.u[4, 3], planes.v[4, 3]]]], np.uint8)
    found = yuv_to_rgb(yuv, colorspace, color_range)[0, 0]
    assert np.abs(found.astype(int) - (200, 90, 30)).max() <= 2
    assert (made[:HEIGHT, 10:] == frame[:HEIGHT, 10:]).all()


@pytest.mark.parametrize(
    ("size", "pix_fmt", "told"),
    [
        ((WIDTH, HEIGHT), "rgb24", "rgb24 of 144x40"),
        ((WIDTH - 1, HEIGHT), "nv12", "of 143x40: yuv420p or nv12 of even sizes"),
        ((WIDTH + 2, HEIGHT), "nv12", "frame:"),
    ],
)
def test_frames_that_do_not_fit_never_reach_a_kernel(size: Any, pix_fmt: str, told: str) -> None:
    with host.processor() as gpu:
        with pytest.raises(ValueError, match=told):
            overlay(gpu.array(frame_of()), [Box(0, 0, 5, 5, 1, GREEN)], size, pix_fmt, On(0))
        assert not gpu.launches


@pytest.mark.parametrize(
    "make",
    [
        lambda: Box(0, 0, 0, 5, 1, GREEN),
        lambda: Box(0, 0, 5, 5, 0, GREEN),
        lambda: Label(0, 0, np.zeros((3, 4, 4), np.uint8)),
        lambda: Label(0, 0, np.zeros((4, 0, 4), np.uint8)),
        lambda: Label.of_rgba(0, 0, np.zeros((4, 4, 3), np.uint8), None, None),
        lambda: Stroke(0, 0, np.zeros((0, 4), np.uint8), GREEN),
    ],
)
def test_shapes_that_cannot_be_are_refused(make: Any) -> None:
    with pytest.raises(ValueError, match=r"a (box|label|stroke) of"):
        make()


def test_bytes_are_those_that_shapes_touch() -> None:
    assert bytes_moved([Box(0, 0, 10, 10, 1, GREEN)]) == 3 * 36
    assert bytes_moved([Label(0, 0, label(5, 4))]) == 3 * 20 + 80
    assert bytes_moved([Stroke(0, 0, label(5, 4)[0], GREEN)]) == 3 * 20 + 20


@pytest.mark.needs_cuda
def test_on_a_gpu_it_gives_what_its_twin_gives() -> None:
    import torch

    shapes: list[Shape] = [
        Box(5, 3, 21, 20, 3, GREEN),
        Label(7, 9, label(13, 9)),
        Stroke(2, 1, label(30, 12)[2], GREEN),
    ]
    frame = frame_of()
    for pix_fmt in ("yuv420p", "nv12"):
        given = torch.from_numpy(frame).cuda()
        stream = torch.cuda.Stream()
        torch.cuda.synchronize()
        overlay(given, shapes, SIZE, pix_fmt, On(stream.cuda_stream))
        stream.synchronize()
        wanted = overlay_twin(frame, shapes, SIZE, pix_fmt)
        assert np.abs(given.cpu().numpy().astype(int) - wanted).max() <= 2
