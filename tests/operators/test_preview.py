"""Previews: small, seldom, in the right colours."""

from __future__ import annotations

from fractions import Fraction

import cv2
import numpy as np
import pytest
from msgspec.structs import replace

from engine import Caps, CapsError, Frame, Stamp
from engine.device.staging import StagingRing
from engine.testing import HarnessContext, make_frame, run_operator
from operators.sinks._pixels import to_bgr
from operators.sinks.preview import Preview, PreviewConfig
from tests.operators.media import numbered
from tests.operators.pretended import on_device, pretended_gpu


def shown(frames, **config):
    ctx = HarnessContext()
    run_operator(Preview(PreviewConfig(**config)), frames, ctx=ctx)
    return [(topic, picture) for topic, picture in ctx.published if picture]


def test_small_and_seldom():
    published = shown(numbered(50, size=(640, 360)), max_fps=5)
    assert len(published) == 10
    assert {topic for topic, _ in published} == {"preview/cam"}
    image = cv2.imdecode(np.frombuffer(published[0][1], np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (180, 320, 3)


def test_each_stream_has_its_own_rhythm():
    mixed = [
        frame
        for pair in zip(numbered(10, stream_id="a"), numbered(10, stream_id="b"), strict=True)
        for frame in pair
    ]
    topics = [topic for topic, _ in shown(mixed, max_fps=5)]
    assert topics == ["preview/a", "preview/b"] * 2


def test_a_stream_that_starts_again_is_shown_at_once():
    frames = numbered(4)
    assert len(shown([*frames[1:], frames[0]])) == 2


def test_the_end_of_a_stream_takes_its_preview_away():
    ctx = HarnessContext()
    run_operator(Preview(PreviewConfig()), numbered(3), ctx=ctx)
    assert [(topic, bool(picture)) for topic, picture in ctx.published] == [
        ("preview/cam", True),
        ("preview/cam", False),
    ]


def test_small_frames_stay_as_they_are():
    assert to_bgr(numbered(1, size=(128, 64))[0], 320).shape == (64, 128, 3)


@pytest.mark.parametrize("colorspace", ["bt601", "bt709"])
@pytest.mark.parametrize("color_range", ["limited", "full"])
def test_colours_follow_matrix_and_range(colorspace, color_range):
    red, green, blue = 0.8, 0.2, 0.1
    kr, kb = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}[colorspace]
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    cb, cr = (blue - luma) / (2 - 2 * kb), (red - luma) / (2 - 2 * kr)
    scale_y, offset, scale_c = (219, 16, 224) if color_range == "limited" else (255, 0, 255)
    data = np.full((24, 16), round(offset + scale_y * luma), np.uint8)
    data[16:20], data[20:] = round(128 + scale_c * cb), round(128 + scale_c * cr)
    caps = Caps(
        media="video",
        pix_fmt="yuv420p",
        width=16,
        height=16,
        colorspace=colorspace,
        color_range=color_range,
    )
    image = to_bgr(Frame(data, caps, Stamp("s", 0, Fraction(1, 25), 0, 0)))
    assert np.abs(image[8, 8].astype(int) - (26, 51, 204)).max() <= 2


def test_other_formats():
    rgb = np.zeros((8, 12, 3), np.uint8)
    rgb[..., 0] = 255
    assert to_bgr(make_frame(rgb))[0, 0].tolist() == [0, 0, 255]
    assert to_bgr(make_frame(rgb[..., 0]))[0, 0].tolist() == [255, 255, 255]
    odd = make_frame(rgb, caps=Caps(media="video", pix_fmt="p010", width=12, height=8))
    with pytest.raises(CapsError, match="p010"):
        to_bgr(odd)


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "nv12"])
def test_frames_of_a_gpu_come_down_only_when_they_are_shown(monkeypatch, pix_fmt):
    frames = [as_layout(one, pix_fmt) for one in numbered(10)]
    here = shown(frames) if pix_fmt == "yuv420p" else shown(numbered(10))
    ctx = HarnessContext()
    ctx.device, ctx.gpu = "cuda:0", pretended_gpu()
    downloads = []
    download = StagingRing.download
    monkeypatch.setattr(
        StagingRing, "download", lambda *given: downloads.append(1) or download(*given)
    )
    run_operator(Preview(PreviewConfig()), [on_device(one) for one in frames], ctx=ctx)
    there = [one for one in ctx.published if one[1]]
    assert there == here
    assert len(downloads) == len(there) == 2


def as_layout(frame, pix_fmt):
    if pix_fmt == "yuv420p":
        return frame
    height = frame.caps.height
    chroma = frame.data[height:].reshape(2, -1).T.reshape(frame.data[height:].shape)
    caps = replace(frame.caps, pix_fmt="nv12")
    return frame.with_data(np.concatenate([frame.data[:height], chroma]), caps)
