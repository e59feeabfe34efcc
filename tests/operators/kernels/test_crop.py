"""Faces out of frames: the kernel's source on the processor, its twin, the operators' own way."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import Caps
from engine.testing import make_frame
from operators.face.square import cut_out, square_matrix
from operators.kernels.crop import LAYOUTS, CropKernel, Squares, crop_twin
from operators.video.warp import oversampling
from tests.operators.kernels import host

LEVEL = 1 / 255


def frame_of(kind: Squares, seed: int = 0) -> np.ndarray[Any, Any]:
    """Soft shapes: where samples lie to 1/32 pixel must not matter."""
    rgb = kind.pix_fmt == "rgb24"
    rows = kind.height if rgb else kind.height * 3 // 2
    y, x = np.mgrid[0:rows, 0 : kind.width]
    if rgb:
        waves = [128 + 70 * np.sin(x / 19 + c + seed) * np.cos(y / 17) for c in range(3)]
        return np.clip(np.stack(waves, 2), 0, 255).astype(np.uint8)
    return np.clip(128 + 60 * np.sin(x / 19 + seed) * np.cos(y / 17), 16, 235).astype(np.uint8)


def turned(x: float, y: float, side: float, size: int, degrees: float) -> np.ndarray[Any, Any]:
    """Frame -> square pixels."""
    angle, scale = np.radians(degrees), size / side
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.column_stack([turn, (size - 1) / 2 - turn @ (x, y)])


def noise(kind: Squares, count: int = 1) -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).integers(0, 256, (count, *kind.frame_shape), np.uint8)


def by_kernel(frames: Any, matrices: Any, kind: Squares, of: Any = None) -> np.ndarray[Any, Any]:
    with host.processor() as gpu:
        return host.as_float(CropKernel(kind)(gpu.array(frames), matrices, None, 0, of))


@pytest.mark.parametrize("mirrored", [True, False])
@pytest.mark.parametrize("pix_fmt", list(LAYOUTS))
def test_the_kernel_gives_what_its_twin_gives(pix_fmt: str, mirrored: bool) -> None:
    kind = Squares(160, 120, 40, pix_fmt, mirrored=mirrored)
    frames, of = noise(kind, 3), (0, 2, 1, 2, 0)
    matrices = np.stack(
        [
            turned(80, 60, 40, 40, 0),  # one to one
            turned(60.3, 50.7, 33.3, 40, 25),  # enlarged and turned
            turned(5, 8, 60, 40, -70),  # half outside
            turned(150, 110, 90, 40, 180),  # made smaller
            turned(-200, -200, 40, 40, 10),  # wholly outside
        ]
    )
    found = by_kernel(frames, matrices, kind, of)
    assert np.abs(found - crop_twin(frames, matrices, kind, of)).max() < 0.1 * LEVEL


@settings(max_examples=40)
@given(
    st.tuples(st.integers(1, 30), st.integers(1, 30)),
    st.integers(1, 33),
    st.tuples(st.floats(-40, 100), st.floats(-40, 100), st.floats(2, 90), st.floats(-180, 180)),
    st.sampled_from([(pix_fmt, m) for pix_fmt in LAYOUTS for m in (True, False)]),
    st.sampled_from([("bt601", "full"), ("bt709", "limited"), (None, None)]),
)
def test_of_any_size_and_place(
    halves: tuple[int, int], size: int, place: Any, how: tuple[str, bool], color: Any
) -> None:
    pix_fmt, mirrored = how
    odd = pix_fmt == "rgb24"
    width, height = 2 * halves[0] + odd, 2 * halves[1] + odd
    kind = Squares(width, height, size, pix_fmt, *color, mirrored=mirrored)
    x, y, side, degrees = place
    frame, matrices = noise(kind)[0], turned(x, y, side, size, degrees)[None]
    found = by_kernel(frame, matrices, kind)
    assert np.abs(found - crop_twin(frame, matrices, kind)).max() < 0.1 * LEVEL


def test_what_a_square_shows_does_not_depend_on_its_neighbours() -> None:
    kind = Squares(160, 120, 20, "nv12")
    frame = noise(kind)[0]
    matrices = np.stack([turned(70, 60, 15, 20, 5), turned(70, 60, 100, 20, 5)])
    both = by_kernel(frame, matrices, kind)
    for at in (0, 1):
        assert (by_kernel(frame, matrices[at : at + 1], kind)[0] == both[at]).all()


@pytest.mark.parametrize("mirrored", [True, False])
def test_the_twin_agrees_with_opencv(mirrored: bool) -> None:
    kind = Squares(161, 121, 40, "rgb24", mirrored=mirrored)
    frame = frame_of(kind)
    for matrix in (turned(60.3, 50.7, 33.3, 40, 25), turned(5, 8, 45, 40, -70)):
        border = cv2.BORDER_REFLECT_101 if mirrored else cv2.BORDER_CONSTANT
        wanted = cv2.warpAffine(frame.astype(np.float32), matrix, (40, 40), borderMode=border)
        mine = crop_twin(frame, matrix[None], kind)[0].transpose(1, 2, 0) * 255
        # Some versions of OpenCV place samples in steps of 1/32 pixel: black begins there.
        assert np.quantile(np.abs(mine - wanted), 0.95) < 1
        assert np.abs(mine - wanted).max() < (1 if mirrored else 255 / 32 + 1)


def test_a_square_that_shrinks_skips_no_pixels() -> None:
    kind = Squares(512, 512, 32, "rgb24")
    frame = np.zeros((512, 512, 3), np.uint8)
    frame[::2] = 255  # a grating that samples alone would turn into stripes
    matrices = turned(256, 256, 256, 32, 0)[None]
    found = by_kernel(frame, matrices, kind)
    assert oversampling(matrices[0]) == 8
    assert np.abs(found - 0.5).max() < 0.02
    assert np.abs(found - crop_twin(frame, matrices, kind)).max() < 0.02


@pytest.mark.parametrize("out", ["float16", "bfloat16"])
def test_smaller_types_are_rounded_to_nearest(out: Any) -> None:
    kind = Squares(96, 96, 24, "nv12", scale=(0.02,) * 3, shift=(-2.0,) * 3, out=out)
    frame, matrices = frame_of(kind), turned(48, 48, 30, 24, 12)[None]
    found, wanted = by_kernel(frame, matrices, kind), crop_twin(frame, matrices, kind)
    assert (np.abs(found - wanted) <= host.step_of(wanted, out) + 0.001 * LEVEL).all()
    assert np.mean(found != wanted) < 0.02, "but for values on the edge they are the same bits"


def test_the_twin_is_how_faces_are_cut_on_the_processor() -> None:
    kind = Squares(320, 240, 96, "yuv420p", "bt709", "limited")
    frame = frame_of(kind)
    caps = Caps(
        media="video", pix_fmt="yuv420p", dtype="uint8", width=320, height=240, device="cpu",
        colorspace="bt709", color_range="limited",
    )  # fmt: skip
    for square in ((160.0, 120.0, 150.0), (30.0, 200.0, 300.0)):
        there = cut_out(make_frame(frame, caps=caps), square, 96)
        mine = crop_twin(frame, square_matrix(square, 96)[None], kind)[0]
        assert np.abs(mine.transpose(1, 2, 0) * 255 - there).max() < 4.0


@pytest.mark.parametrize(
    "wrong", [{"pix_fmt": "gray"}, {"size_px": 0}, {"width": 1}, {"height": 99}]
)
def test_what_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"frames of|squares of"):
        Squares(**({"width": 160, "height": 120, "size_px": 40} | wrong))


@pytest.mark.parametrize(
    ("of", "crops", "told"),
    [
        ((0,), (2, 3, 40, 40), "2 squares of frames"),
        ((0, 3), (2, 3, 40, 40), "there are 3 frames"),
        ((0, -1), (2, 3, 40, 40), "there are 3 frames"),
        ((0, 1), (1, 3, 40, 40), r"crops: \[1, 3, 40, 40\] float32 came"),
    ],
)
def test_what_does_not_fit_never_reaches_a_kernel(of: Any, crops: Any, told: str) -> None:
    kind = Squares(160, 120, 40, "nv12")
    matrices = np.stack([turned(80, 60, 40, 40, 0)] * 2)
    with host.processor() as gpu:
        with pytest.raises(ValueError, match=told):
            CropKernel(kind)(gpu.array(noise(kind, 3)), matrices, gpu.room(crops, "float32"), 0, of)
        assert not gpu.launches


def test_no_squares_are_no_launch() -> None:
    kind = Squares(160, 120, 40, "nv12")
    with host.processor() as gpu:
        made = CropKernel(kind)(gpu.array(noise(kind)), np.zeros((0, 2, 3)), None, 0)
        assert made.shape == (0, 3, 40, 40)
        assert not gpu.launches
    assert crop_twin(noise(kind), np.zeros((0, 2, 3)), kind).shape == (0, 3, 40, 40)


def test_bytes_are_those_that_squares_show() -> None:
    kind = Squares(1920, 1080, 192, "nv12", out="float16")
    matrices = np.stack([turned(400, 400, 192, 192, 0)] * 4)
    assert kind.bytes_moved(matrices) == 4 * 192 * 192 * (1.5 + 3 * 2)


@pytest.mark.needs_cuda
@pytest.mark.parametrize("pix_fmt", list(LAYOUTS))
def test_on_a_gpu_it_gives_what_its_twin_gives(pix_fmt: str) -> None:
    import torch

    kind = Squares(640, 480, 192, pix_fmt)
    frames, of = np.stack([frame_of(kind, seed) for seed in range(2)]), (1, 0)
    matrices = np.stack([turned(300, 200, 250, 192, 9), turned(40, 60, 400, 192, -30)])
    stream, given = torch.cuda.Stream(), torch.from_numpy(frames).cuda()
    torch.cuda.synchronize()
    crops = CropKernel(kind)(given, matrices, None, stream.cuda_stream, of)
    stream.synchronize()
    wanted = crop_twin(frames, matrices, kind, of)
    assert np.abs(crops.cpu().numpy() - wanted).max() < 0.1 * LEVEL
