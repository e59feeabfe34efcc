"""Encoding where the node is: on a GPU by NVENC, or a refusal that says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch
from msgspec.structs import replace

from engine import Caps, Frame
from engine.device.opening import Devices
from engine.errors import OperatorError
from engine.testing import HarnessContext, make_frame, run_operator
from operators.sinks._encoders import X264, Nvenc, nv12_of
from operators.sinks.mp4 import Mp4Sink, Mp4SinkConfig
from tests.operators.media import decoded, numbered
from tests.operators.pretended import on_device, pretended_gpu


@pytest.fixture
def as_if(monkeypatch: pytest.MonkeyPatch) -> None:
    """NVENC's place is taken by x264, which reads the same planes from host memory."""
    monkeypatch.setattr(Nvenc, "name", "libx264")
    monkeypatch.setattr(Nvenc, "pix_fmt", "nv12")
    monkeypatch.setattr(Nvenc, "options", X264.options)
    monkeypatch.setattr(Nvenc, "try_out", lambda self, device: None)


def record(frames: list[Frame], output: Path, on_gpu: bool = True) -> Path:
    ctx = HarnessContext(output=output)
    if on_gpu:
        ctx.device, ctx.gpu = "cuda:0", pretended_gpu()
    run_operator(Mp4Sink(Mp4SinkConfig(crf=12)), {"frames": frames}, ctx=ctx)
    return output / f"{frames[0].stamp.stream_id}.mp4"


def pictures(path: Path) -> np.ndarray[Any, Any]:
    with av.open(str(path)) as container:
        return np.stack([one.to_ndarray(format="rgb24") for one in container.decode(video=0)])


def coloured(pix_fmt: str, size: tuple[int, int] = (96, 64)) -> Frame:
    noise = np.random.default_rng(3).integers(0, 256, (4, 6, 3), np.uint8)
    rgb = cv2.resize(noise, size, interpolation=cv2.INTER_CUBIC)
    frame = make_frame(rgb)
    if pix_fmt == "rgb24":
        return frame
    caps = replace(frame.caps, pix_fmt=pix_fmt, colorspace="bt601", color_range="limited")
    i420 = cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420)
    if pix_fmt == "yuv420p":
        return frame.with_data(i420, caps)
    height = size[1]
    chroma = i420[height:].reshape(2, -1).T.reshape(height // 2, size[0])
    return frame.with_data(np.concatenate([i420[:height], chroma]), caps)


@pytest.mark.usefixtures("as_if")
def test_every_frame_comes_back_with_its_pts(tmp_path: Path) -> None:
    path = record([on_device(one) for one in numbered(12)], tmp_path)
    assert decoded(path) == [(number / 25, number) for number in range(12)]


@pytest.mark.usefixtures("as_if")
@pytest.mark.parametrize("pix_fmt", ["rgb24", "nv12", "yuv420p"])
def test_colours_are_those_of_the_processor(tmp_path: Path, pix_fmt: str) -> None:
    here = pictures(record([coloured(pix_fmt)], tmp_path / "cpu", on_gpu=False))
    there = pictures(record([on_device(coloured(pix_fmt))], tmp_path / "gpu"))
    assert np.abs(here.astype(int) - there).mean() < 1.5


@pytest.mark.usefixtures("as_if")
def test_odd_sizes_lose_their_last_row_and_column(tmp_path: Path) -> None:
    path = record([on_device(coloured("rgb24", (97, 65)))], tmp_path)
    assert pictures(path).shape == (1, 64, 96, 3)


@pytest.mark.usefixtures("as_if")
def test_layouts_that_nvenc_does_not_take_are_refused(tmp_path: Path) -> None:
    frame = coloured("rgb24")
    grey = frame.with_data(frame.data[..., 0].copy(), replace(frame.caps, pix_fmt="gray8"))
    with pytest.raises(OperatorError, match="not gray8") as caught:
        record([on_device(grey)], tmp_path)
    assert caught.value.code == "UNSUPPORTED_FORMAT"


@pytest.mark.parametrize("colorspace", ["bt601", "bt709"])
def test_planes_are_those_of_the_recommendation(colorspace: str) -> None:
    """White, black, and primaries to within a level of the published values."""
    levels = {
        "bt601": [(235, 128, 128), (16, 128, 128), (81, 90, 240), (145, 54, 34), (41, 240, 110)],
        "bt709": [(235, 128, 128), (16, 128, 128), (63, 102, 240), (173, 42, 26), (32, 240, 118)],
    }[colorspace]
    colours = [(255, 255, 255), (0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255)]
    for colour, wanted in zip(colours, levels, strict=True):
        rgb = torch.tensor(colour, dtype=torch.uint8).expand(2, 2, 3).contiguous()
        luma, chroma = nv12_of(rgb, Caps(colorspace=colorspace))
        found = torch.cat([luma[0, :1], chroma[0, 0]]).int()
        assert (found - torch.tensor(wanted)).abs().max() <= 1


def test_without_the_unit_the_refusal_names_cause_and_remedy() -> None:
    codec = av.CodecContext.create("h264_nvenc", "w")
    codec.width = codec.height = 256
    with pytest.raises(OperatorError, match=r"does not encode 256x256 here: .*ToHost") as caught:
        Nvenc().encode(codec, None)
    assert caught.value.code == "ENCODER_FAILED"


@pytest.mark.needs_cuda
def test_a_gpu_records_or_says_that_it_cannot(tmp_path: Path) -> None:
    """H100 and H200 have no NVENC: there the refusal comes at the start, not at the first frame."""
    frame = coloured("nv12", (256, 192))
    with Devices().scope("cuda:0", 0) as scope:
        ctx = HarnessContext(output=tmp_path)
        ctx.device, ctx.gpu = "cuda:0", scope
        sink = Mp4Sink(Mp4SinkConfig(crf=12))
        with scope.stream.use():
            try:
                sink.open(ctx)
            except OperatorError as error:
                if error.code != "ENCODER_FAILED":
                    raise
                return
            pixels = torch.from_numpy(frame.data).cuda()
            caps = replace(frame.caps, device="cuda:0")
            sent = scope.call(lambda: frame.with_data(pixels, caps), [])
            sink.process(sent, None)
            sink.close()
    here = record([frame], tmp_path / "cpu", on_gpu=False)
    found = pictures(next(tmp_path.glob("*.mp4")))
    assert np.abs(found.astype(int) - pictures(here)).mean() < 3
