"""The badge: on every synthetic frame, on no other, to be seen at every size."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from engine import Frame
from engine.testing import HarnessContext, run_operator
from operators.video.mark import WORDS, Mark, MarkConfig, Marked
from tests.operators.faces import PIX_FMTS, as_rgb, flat_picture
from tests.operators.kernels import host
from tests.operators.pretended import pretended_gpu


def made(size: tuple[int, int], pix_fmt: str = "yuv420p") -> Frame:
    """A dark synthetic frame."""
    plain = flat_picture(size, (30, 40, 60), pix_fmt)
    stamp = replace(plain.stamp, synthetic=True)
    return Frame(plain.data, plain.caps, stamp, plain.records)


def marked(frame: Frame, **settings: Any) -> Frame:
    (after,) = run_operator(Mark(MarkConfig(**settings)), [frame])
    return after


@pytest.mark.parametrize("pix_fmt", PIX_FMTS)
@pytest.mark.parametrize("size", [(64, 64), (320, 240), (1280, 720)])
def test_a_synthetic_frame_says_so(pix_fmt: str, size: tuple[int, int]) -> None:
    before = made(size, pix_fmt)
    after = marked(before)
    changed = np.abs(as_rgb(after).astype(int) - as_rgb(before)).max(axis=2) > 40
    height, width = changed.shape
    corner = changed[: height // 2, : width * 3 // 4]
    assert corner.sum() == changed.sum(), "the badge stays in its corner"
    assert changed.sum() >= 0.004 * height * width
    rows, _ = np.nonzero(changed)
    assert np.ptp(rows) + 1 >= 10, "letters that can be read"
    (record,) = after.of(Marked)
    assert record.badge in WORDS
    assert after.stamp == before.stamp


def test_what_a_camera_took_passes_untouched() -> None:
    frame = flat_picture((320, 240), (30, 40, 60), "yuv420p")
    assert marked(frame) is frame


def test_the_record_alone_is_not_believed() -> None:
    """A model that repaints a marked frame keeps its records."""
    before = made((320, 240)).with_records(Marked("SYNTHETIC"))
    after = marked(before)
    assert (after.data != before.data).any()
    assert len(after.of(Marked)) == 1


@pytest.mark.parametrize("corner", ["top-left", "top-right", "bottom-left", "bottom-right"])
def test_the_corner_can_be_chosen(corner: str) -> None:
    before = made((320, 240), "rgb24")
    after = marked(before, corner=corner)
    rows, columns, _ = np.nonzero(after.data != before.data)
    assert (rows.mean() < 120) == corner.startswith("top")
    assert (columns.mean() < 160) == corner.endswith("left")


def test_on_a_gpu_the_badge_is_the_same() -> None:
    before = made((320, 240))
    operator, ctx = Mark(MarkConfig()), HarnessContext()
    ctx.device, ctx.gpu = "cuda:0", pretended_gpu()
    operator.open(ctx)
    with host.processor() as gpu:
        array = SimpleNamespace(clone=lambda: gpu.array(before.data))
        lies = before.with_data(SimpleNamespace(array=array))
        there = operator.process(lies).data.numbers
    apart = np.abs(there.astype(int) - marked(before).data)
    assert apart[:240].max() <= 2
    assert apart[240:].max() <= 8
