"""YUV frames to network inputs: the kernel's source on the processor, its twin, other libraries."""

from __future__ import annotations

from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import Caps
from engine.testing import make_frame
from operators.kernels.planes import LAYOUTS, Fit, PlanesKernel, planes_twin
from operators.video.yuv import letterbox
from tests.operators.kernels import host

LEVEL = 1 / 255


def frame_of(fit: Fit, seed: int = 0) -> np.ndarray[Any, Any]:
    """Soft shapes and some noise, legal in either range."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : fit.height * 3 // 2, 0 : fit.width]
    waves = 128 + 60 * np.sin(x / 9 + seed) * np.cos(y / 7) + rng.normal(0, 8, x.shape)
    return np.clip(waves, 16, 235).astype(np.uint8)


def noise(fit: Fit, seed: int = 0) -> np.ndarray[Any, Any]:
    shape = (fit.height * 3 // 2, fit.width)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def by_kernel(frames: np.ndarray[Any, Any], fit: Fit) -> np.ndarray[Any, Any]:
    with host.processor() as gpu:
        return host.as_float(PlanesKernel(fit)(gpu.array(frames), None, 0))


SIZES = [
    ((64, 48), (32, 32)), ((320, 180), (64, 64)), ((128, 96), (128, 128)), ((6, 4), (17, 9)),
    ((2, 2), (1, 1)), ((2, 2), (5, 5)), ((130, 74), (61, 40)), ((96, 320), (50, 33)),
]  # fmt: skip


@pytest.mark.parametrize("pix_fmt", LAYOUTS)
@pytest.mark.parametrize(("source", "size"), SIZES)
def test_the_kernel_gives_what_its_twin_gives(
    pix_fmt: str, source: tuple[int, int], size: tuple[int, int]
) -> None:
    fit = Fit(*source, size, pix_fmt)
    frame = noise(fit)
    found, wanted = by_kernel(frame, fit), planes_twin(frame, fit)
    assert np.abs(found - wanted).max() < 0.1 * LEVEL


@settings(max_examples=40)
@given(
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
    st.sampled_from(LAYOUTS),
    st.sampled_from([None, "bt601", "bt709"]),
    st.sampled_from([None, "full", "limited"]),
)
def test_of_any_size_and_colour(
    halves: tuple[int, int], size: tuple[int, int], pix_fmt: str, space: Any, span: Any
) -> None:
    fit = Fit(2 * halves[0], 2 * halves[1], size, pix_fmt, space, span, pad=(114, 3, 255))
    frame = noise(fit)
    assert np.abs(by_kernel(frame, fit) - planes_twin(frame, fit)).max() < 0.1 * LEVEL


def test_a_batch_is_each_of_its_frames() -> None:
    fit = Fit(66, 34, (31, 40), "yuv420p")
    frames = np.stack([noise(fit, seed) for seed in range(3)])
    batch = by_kernel(frames, fit)
    for frame, picture in zip(frames, batch, strict=True):
        assert (by_kernel(frame, fit) == picture).all()


@pytest.mark.parametrize("out", ["float16", "bfloat16"])
@pytest.mark.parametrize("color", [("bt601", "full"), ("bt709", "limited"), (None, None)])
def test_every_type_and_colour_is_stored_to_the_last_bit(out: Any, color: Any) -> None:
    scale, shift = (0.017, 0.0175, 0.0174), (-2, -2, -1.8)
    fit = Fit(64, 48, (40, 40), "nv12", *color, scale=scale, shift=shift, out=out)
    frame = frame_of(fit)
    found, wanted = by_kernel(frame, fit), planes_twin(frame, fit)
    assert (np.abs(found - wanted) <= host.step_of(wanted, out) + 0.001 * LEVEL).all()
    assert np.mean(found != wanted) < 0.01, "but for values on the edge they are the same bits"


def test_bars_are_black_after_normalisation() -> None:
    fit = Fit(64, 16, (32, 32), shift=(-1.0, -2.0, -3.0))
    picture = by_kernel(frame_of(fit), fit)
    assert fit.box == (0, 12, 32, 8)
    for channel, black in enumerate((-1.0, -2.0, -3.0)):
        assert (picture[channel, :12] == black).all()
        assert (picture[channel, 20:] == black).all()
    grey = Fit(64, 16, (32, 32), pad=(114, 114, 114), shift=(0.5,) * 3)
    assert np.allclose(by_kernel(frame_of(grey), grey)[:, 20:], 114 / 255 + 0.5)


@pytest.mark.parametrize("colorspace", ["bt601", "bt709"])
@pytest.mark.parametrize("color_range", ["limited", "full"])
def test_the_twin_is_the_letterbox_that_runs_on_the_processor(
    colorspace: str, color_range: str
) -> None:
    fit = Fit(320, 180, (128, 128), "yuv420p", colorspace, color_range)
    caps = Caps(
        media="video", pix_fmt="yuv420p", dtype="uint8", width=320, height=180, device="cpu",
        colorspace=colorspace, color_range=color_range,
    )  # fmt: skip
    frame = frame_of(fit)
    other = letterbox(make_frame(frame, caps=caps), 128)
    mine = planes_twin(frame, fit).transpose(1, 2, 0) * 255
    assert (fit.box[0], fit.box[1]) == (other.left_px, other.top_px)
    assert np.abs(mine - other.rgb).max() < 3.0  # it rounds planes to whole levels


def test_the_twin_agrees_with_ffmpeg() -> None:
    fit = Fit(64, 48, (64, 48), "nv12", "bt709", "limited")
    frame = frame_of(fit)
    frame[48:] = 110  # one colour: libraries place and filter chroma differently
    decoded = av.VideoFrame.from_ndarray(frame, format="nv12")
    decoded.colorspace, decoded.color_range = 1, 1
    wanted = decoded.to_ndarray(format="rgb24").transpose(2, 0, 1) / 255
    assert np.abs(planes_twin(frame, fit) - wanted).max() < 3.2 * LEVEL


@pytest.mark.parametrize(
    "wrong",
    [
        {"pix_fmt": "rgb24"}, {"width": 63}, {"height": 0}, {"size": (0, 4)},
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"frames of|pictures of"):
        Fit(**({"width": 64, "height": 48, "size": (32, 32)} | wrong))


@pytest.mark.parametrize(
    ("frames", "pictures", "told"),
    [
        ((71, 64), (3, 32, 32), r"frames: \[71, 64\] uint8 came, \[72, 64\] uint8 is wanted"),
        ((72, 64), (3, 32, 31), r"pictures: \[3, 32, 31\] float32 came"),
        ((2, 72, 64), (3, 32, 32), r"\[2, 3, 32, 32\] float32 is wanted"),
    ],
)
def test_arrays_that_do_not_fit_never_reach_a_kernel(
    frames: tuple[int, ...], pictures: tuple[int, ...], told: str
) -> None:
    with host.processor() as gpu:
        kernel = PlanesKernel(Fit(64, 48, (32, 32)))
        with pytest.raises(ValueError, match=told):
            kernel(gpu.room(frames, "uint8"), gpu.room(pictures, "float32"), 0)
        assert not gpu.launches


def test_bytes_are_those_read_and_written() -> None:
    assert Fit(1920, 1080, (192, 192), out="float16").bytes_moved() == 3_110_400 + 3 * 192 * 192 * 2


@pytest.mark.needs_cuda
@pytest.mark.parametrize("out", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("pix_fmt", LAYOUTS)
def test_on_a_gpu_it_gives_what_its_twin_gives(pix_fmt: str, out: Any) -> None:
    import torch

    fit = Fit(1280, 720, (192, 192), pix_fmt, out=out)
    frames = np.stack([frame_of(fit, seed) for seed in range(3)])
    stream = torch.cuda.Stream()
    given = torch.from_numpy(frames).cuda()
    torch.cuda.synchronize()
    pictures = PlanesKernel(fit)(given, None, stream.cuda_stream)
    stream.synchronize()
    for frame, picture in zip(frames, pictures.float().cpu().numpy(), strict=True):
        wanted = planes_twin(frame, fit)
        assert (np.abs(picture - wanted) <= host.step_of(wanted, out) + 0.1 * LEVEL).all()
