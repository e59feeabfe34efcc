"""Faces out of frames: the kernel's source on the processor, its twin, the operators' own way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engine import Caps
from engine.testing import make_frame
from operators.face.square import cut_out, square_matrix
from operators.kernels.crop import LAYOUTS, CropKernel, Squares, crop_twin, maps_of
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


def by_kernel(frame: Any, matrices: Any, kind: Squares) -> np.ndarray[Any, Any]:
    size = kind.size_px
    crops = host.stored((len(matrices), 3, size, size), kind.out)
    over = max(oversampling(matrix) for matrix in matrices)
    host.run(
        "crop", kind.out, (size, size, len(matrices)), frame, crops, maps_of(matrices),
        kind.numbers, kind.width, kind.height, LAYOUTS[kind.pix_fmt], size, over, kind.mirrored,
    )  # fmt: skip
    return host.as_float(crops, kind.out)


@pytest.mark.parametrize("mirrored", [True, False])
@pytest.mark.parametrize("pix_fmt", list(LAYOUTS))
def test_the_kernel_gives_what_its_twin_gives(pix_fmt: str, mirrored: bool) -> None:
    kind = Squares(160, 120, 40, pix_fmt, mirrored=mirrored)
    frame = frame_of(kind)
    matrices = np.stack(
        [
            turned(80, 60, 40, 40, 0),  # one to one
            turned(60.3, 50.7, 33.3, 40, 25),  # enlarged and turned
            turned(5, 8, 60, 40, -70),  # half outside
            turned(150, 110, 90, 40, 180),
            turned(-200, -200, 40, 40, 10),  # wholly outside
        ]
    )
    found, wanted = by_kernel(frame, matrices, kind), crop_twin(frame, matrices, kind)
    rim = 70 * LEVEL if not mirrored else 5 * LEVEL  # black begins 1/32 pixel earlier or later
    assert np.abs(found - wanted).max() < rim
    assert np.quantile(np.abs(found - wanted), 0.98) < 1.5 * LEVEL


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
    step = 2.0**-7 if out == "bfloat16" else 2.0**-10
    assert np.abs(found - wanted).max() < 2 * step + 3 * 0.02


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


def test_bytes_are_those_that_squares_show() -> None:
    kind = Squares(1920, 1080, 192, "nv12", out="float16")
    matrices = np.stack([turned(400, 400, 192, 192, 0)] * 4)
    assert kind.bytes_moved(matrices) == 4 * 192 * 192 * (1.5 + 3 * 2)


@pytest.mark.needs_cuda
@pytest.mark.parametrize("pix_fmt", list(LAYOUTS))
def test_on_a_gpu_it_gives_what_its_twin_gives(pix_fmt: str) -> None:
    import torch

    kind = Squares(640, 480, 192, pix_fmt)
    frame = frame_of(kind)
    matrices = np.stack([turned(300, 200, 250, 192, 9), turned(40, 60, 400, 192, -30)])
    crops = torch.empty(2, 3, 192, 192, device="cuda")
    stream, given = torch.cuda.Stream(), torch.from_numpy(frame).cuda()
    torch.cuda.synchronize()
    CropKernel(kind)(given, matrices, crops, stream.cuda_stream)
    stream.synchronize()
    assert np.abs(crops.cpu().numpy() - crop_twin(frame, matrices, kind)).max() < 5 * LEVEL
