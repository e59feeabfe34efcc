"""What an operator made and no message can hold is refused at its own end, and the rest goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.frame import Frame, Record, StreamEnd, Watermark
from tests.contract.ends import REMOTE, Link, frame


class Anything(Record, frozen=True):
    """A record that does not say what it holds."""

    value: Any


@pytest.fixture(params=REMOTE)
def link(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Link]:
    made = Link(request.param, tmp_path, queue=8, window=1)
    yield made
    made.close()


@pytest.mark.parametrize(
    "value",
    ["\ud800", 2**70, object(), {"x": 1j}],
    ids=["broken text", "large number", "object", "complex"],
)
def test_a_record_that_cannot_be_written_costs_its_frame_alone(link: Link, value: object) -> None:
    link.put(frame(0), frame(1).with_records(Anything(value)), frame(2))

    link.join()

    assert link.take_frame().stamp.seq == 0
    assert isinstance(link.take(), Watermark)
    assert link.take_frame().stamp.seq == 2
    stats = link.settled()
    assert (stats.consumed, stats.drops, stats.malformed) == (2, {"quarantined": 1}, 1)


def test_a_stamp_that_cannot_be_written_costs_its_frame_alone(link: Link) -> None:
    strange = frame(1)
    stamp = msgspec.structs.replace(strange.stamp, capture_ns=-(2**70))
    link.put(frame(0), Frame(strange.data, strange.caps, stamp), frame(2))

    link.join()

    assert link.take_frame().stamp.seq == 0
    assert isinstance(link.take(), Watermark)
    assert link.take_frame().stamp.seq == 2


def test_a_mark_that_cannot_be_written_is_left_out(link: Link) -> None:
    link.put(Watermark("cam", 0, 2**70), frame(1))

    assert link.join().take_frame().stamp.seq == 1
    assert link.stats().malformed == 1


def test_an_end_with_broken_text_still_ends(link: Link) -> None:
    link.put(StreamEnd("cam", "cannot open \udcff.mp4"))

    assert link.join().take() == StreamEnd("cam", "cannot open ?.mp4")
