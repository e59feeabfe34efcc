"""The overlay of frames on a GPU shows what that of frames in host memory shows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from engine import CapsError, Frame, Record
from engine.testing import HarnessContext, run_operator
from operators.face.verdicts import Verdict
from operators.video.overlay import Overlay, OverlayConfig
from tests.operators.faces import face, flat_picture, track
from tests.operators.kernels import host
from tests.operators.pretended import pretended_gpu

SIZE = (320, 240)
SPOOF = Verdict(7, "spoof", "mask", "score", -2.0, "p", 0.0, 3, 40, ("mask3d:0",), opens=False)


def on_gpu(frame: Frame, gpu: Any, pix_fmt: str) -> Frame:
    """The frame in the memory of a kernel's host, its chroma laid out as asked."""
    data, height = frame.data, frame.caps.height or 0
    if pix_fmt == "nv12":
        chroma = data[height:].reshape(2, -1).T.reshape(data[height:].shape)
        data = np.concatenate([data[:height], chroma])
    lies = SimpleNamespace(array=SimpleNamespace(clone=lambda: gpu.array(data)))
    return frame.with_data(lies, replace(frame.caps, pix_fmt=pix_fmt, device="cuda:0"))


def both(pix_fmt: str, *records: Record, **settings: Any) -> tuple[Any, Any]:
    """Drawn by the processor and by the kernel, as planes [H*3/2, W] of yuv420p."""
    operator = Overlay(OverlayConfig(**settings))
    before = flat_picture(SIZE, (90, 90, 90), "yuv420p").with_records(*records)
    (here,) = run_operator(operator, [before])
    with host.processor() as gpu:
        operator = Overlay(OverlayConfig(**settings))
        ctx = HarnessContext()
        ctx.device, ctx.gpu = "cuda:0", pretended_gpu()
        operator.open(ctx)
        made = operator.process(on_gpu(before, gpu, pix_fmt)).data.numbers
        assert len(gpu.launches) <= 1
    height = SIZE[1]
    if pix_fmt == "nv12":
        chroma = made[height:].reshape(-1, 2).T.reshape(made[height:].shape)
        made = np.concatenate([made[:height], chroma])
    return here.data, made


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "nv12"])
@pytest.mark.parametrize(
    "records",
    [
        (track(1, 160, 120, size=80),),
        (track(7, 10, 230, size=90), SPOOF),
        (track(2, 310, 5, size=60), track(3, 600, 400, size=60)),
        (face(100, 100, 50), face(200, 150, 70)),
        (),
    ],
)
def test_the_kernel_draws_what_the_processor_draws(
    pix_fmt: str, records: tuple[Record, ...]
) -> None:
    here, there = both(pix_fmt, *records, points=True)
    apart = np.abs(here.astype(int) - there)
    height = SIZE[1]
    assert apart[:height].max() <= 2
    assert (apart[height:] > 24).mean() < 0.01  # thin lines: halved there, averaged here
    assert (here != 90).any()


def test_layouts_that_the_kernel_does_not_draw_on_are_refused() -> None:
    frame = flat_picture(SIZE, (90, 90, 90), "rgb24")
    operator, ctx = Overlay(OverlayConfig()), HarnessContext()
    ctx.device, ctx.gpu = "cuda:0", pretended_gpu()
    operator.open(ctx)
    with pytest.raises(CapsError, match=r"rgb24 of 320x240 on a GPU: yuv420p and nv12"):
        operator.process(frame)
