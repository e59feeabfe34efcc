"""`run_operator` treats an operator as the engine does: open, process, reset, close, in order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from engine import Batch, EndOfStream, FakeClock, Frame, Latest, NoConfig, OpContext, Operator
from engine.testing import HarnessContext, make_frame, run_operator
from tests.engine.fakes import Blur, BlurConfig, Camera, CameraConfig


class Diary(Operator):
    """Writes down what happens to it."""

    def __init__(self, config: NoConfig) -> None:
        super().__init__(config)
        self.events: list[str] = []

    def open(self, ctx: OpContext) -> None:
        ctx.enter(self._resource())
        self.events.append("open")

    def process(self, frames: Frame) -> Frame | None:
        self.events.append(f"{frames.stamp.stream_id}{frames.stamp.seq}")
        if frames.stamp.seq == 9:
            message = "cannot"
            raise RuntimeError(message)
        return None if frames.stamp.seq == 1 else frames

    def reset(self, stream_id: str) -> list[Frame]:
        self.events.append(f"reset {stream_id}")
        return [make_frame(np.zeros((1, 1)), seq=99, stream_id=stream_id)]

    def close(self) -> None:
        self.events.append("close")

    @contextmanager
    def _resource(self) -> Iterator[None]:
        try:
            yield
        finally:
            self.events.append("released")


def frame(seq: int, stream_id: str = "a") -> Frame:
    return make_frame(np.full((2, 2), seq, np.uint8), seq=seq, stream_id=stream_id)


def test_the_life_of_an_operator_in_order() -> None:
    diary = Diary(NoConfig())
    results = run_operator(diary, [frame(0), frame(0, "b"), frame(1), frame(2)])
    assert diary.events == [
        *["open", "a0", "b0", "a1", "a2"],
        *["reset a", "reset b", "close", "released"],
    ]
    assert [(f.stamp.stream_id, f.stamp.seq) for f in results] == [
        ("a", 0),
        ("b", 0),
        ("a", 2),
        ("a", 99),
        ("b", 99),
    ]


def test_an_operator_that_raises_is_closed_and_its_resources_released() -> None:
    diary = Diary(NoConfig())
    with pytest.raises(RuntimeError, match="cannot"):
        run_operator(diary, [frame(9)])
    assert diary.events[-2:] == ["close", "released"]


def test_a_frame_goes_through_in_five_lines() -> None:
    (out,) = run_operator(Blur(BlurConfig(radius=3)), [frame(1)])
    assert int(out.data[0, 0]) == 4


def test_a_source_runs_to_its_end_or_the_limit() -> None:
    assert len(run_operator(Camera(CameraConfig(uri="x", frames=4)))) == 4
    assert len(run_operator(Camera(CameraConfig(uri="x", frames=4)), limit=2)) == 2


class Mixer(Operator):
    """Shows what each kind of port is given."""

    def process(self, frames: Frame, many: Batch[Frame], last: Latest[Frame]) -> Frame:
        assert last.value is not None
        total = sum(int(f.data[0, 0]) for f in (frames, *many.frames, last.value))
        return frames.with_data(np.full((1, 1), total))


def test_ports_are_fed_by_name() -> None:
    results = run_operator(
        Mixer(NoConfig()),
        {"frames": [frame(1), frame(2)], "many": [frame(10)], "last": [frame(100)]},
    )
    assert [int(f.data[0, 0]) for f in results] == [111, 102]  # the latest stays, batches do not


class Chatty(Operator):
    """Uses everything that the context offers a source."""

    def open(self, ctx: OpContext) -> None:
        self._ctx = ctx
        self._seen = ctx.per_stream(lambda stream_id: [stream_id])

    def process(self) -> Frame:
        if self._ctx.stopping():
            raise EndOfStream
        self._ctx.report("TIMEOUT", "no answer")
        self._ctx.publish("preview", b"jpeg")
        self._ctx.discontinuity("reconnect")
        self._ctx.output_path("sub/events.jsonl").write_text("{}")
        assert self._seen["s"] == ["s"]
        made = frame(0)
        stamp = self._ctx.stamp(7, Fraction(1, 25))
        return Frame(made.data, made.caps, stamp)


def test_the_context_records_what_it_is_told(tmp_path: Path) -> None:
    ctx = HarnessContext(output=tmp_path, clock=FakeClock(42), stream_id="door")
    first, second = run_operator(Chatty(NoConfig()), ctx=ctx, limit=2)
    assert (first.stamp.stream_id, first.stamp.capture_ns) == ("door", 42)
    assert (first.stamp.seq, second.stamp.seq, first.stamp.pts) == (0, 1, 7)
    assert ctx.reports == [("TIMEOUT", "no answer")] * 2
    assert ctx.published == [("preview", b"jpeg")] * 2
    assert ctx.breaks == ["reconnect"] * 2
    assert (tmp_path / "sub" / "events.jsonl").is_file()
    assert len(ctx.states) == 1


def test_a_source_that_is_told_to_stop_ends() -> None:
    ctx = HarnessContext()
    ctx.stop.set()
    assert run_operator(Chatty(NoConfig()), ctx=ctx) == []


def test_writing_files_needs_a_folder() -> None:
    with pytest.raises(ValueError, match="give run_operator"):
        run_operator(Chatty(NoConfig()))


def test_made_frames_have_complete_caps_and_regular_stamps() -> None:
    made = make_frame(np.zeros((2, 4, 3), np.uint8), seq=15, fps=30)
    assert made.caps.describe() == "video rgb24 uint8 4x2 cpu"
    assert (made.stamp.pts_seconds, made.stamp.capture_ns) == (0.5, 500_000_000)
    assert frame(0).caps.pix_fmt == "gray"
