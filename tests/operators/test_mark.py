"""The badge: on every synthetic frame, on no other, to be seen at every size."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from msgspec.structs import replace

from engine import Caps, Config, EndOfStream, Frame, Operator
from engine.check import check
from engine.errors import GraphError
from engine.graph import Graph
from engine.testing import HarnessContext, run_operator
from operators.sinks.null import NullSink
from operators.video.mark import WORDS, Mark, MarkConfig, Marked
from operators.video.overlay import Overlay
from tests.operators.faces import PIX_FMTS, as_rgb, flat_picture
from tests.operators.kernels import host
from tests.operators.layouts import as_nv12
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


def test_chroma_side_by_side_is_marked_as_chroma_in_planes() -> None:
    before = made((320, 240))
    np.testing.assert_array_equal(marked(as_nv12(before)).data, as_nv12(marked(before)).data)


class PictureConfig(Config, frozen=True):
    """A layout."""

    pix_fmt: str = "yuv420p"
    dtype: str = "uint8"


class Pictures(Operator[PictureConfig]):
    """Synthetic ones in any layout."""

    devices = ("cpu", "cuda")
    gpu_caps: ClassVar = {"out": Caps(device="cuda")}
    synthesizes = True

    @classmethod
    def output_caps(cls, config: Any, port: str) -> Caps:
        return Caps(media="video", pix_fmt=config.pix_fmt, dtype=config.dtype, device="cpu")

    def process(self) -> Frame:
        raise EndOfStream


def problems_with(op: type[Operator[Any]], device: str, pix_fmt: str, dtype: str) -> list[str]:
    """What `check` says of `op` behind such pictures."""
    g = Graph("layouts")
    config = PictureConfig(pix_fmt=pix_fmt, dtype=dtype)
    source = g.add("source", Pictures, config, device=device)
    edge = source.edge(queue=2, full="block")
    drawn = g.add("drawn", op, inputs={"frames": edge}, device=device)
    g.add("sink", NullSink, inputs={"frames": drawn.edge(queue=2, full="block")})
    try:
        check(g.spec())
    except GraphError as error:
        return [problem.message for problem in error.problems]
    return []


LAYOUTS = [
    ("cpu", "yuv420p", "uint8", ""),
    ("cpu", "nv12", "uint8", ""),
    ("cpu", "gray", "uint8", ""),
    ("cpu", "p010", "uint8", "pix_fmt: p010 where"),
    ("cpu", "rgb24", "float32", "dtype: float32 where uint8"),
    ("cuda:0", "nv12", "uint8", ""),
    ("cuda:0", "rgb24", "uint8", "pix_fmt: rgb24 where yuv420p|nv12"),
]


@pytest.mark.parametrize("op", [Mark, Overlay])
@pytest.mark.parametrize(("device", "pix_fmt", "dtype", "told"), LAYOUTS)
def test_check_tells_what_cannot_be_drawn_on(
    op: Any, device: str, pix_fmt: str, dtype: str, told: str
) -> None:
    problems = problems_with(op, device, pix_fmt, dtype)
    assert len(problems) == bool(told)
    assert all(problem.startswith(told) for problem in problems)


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
