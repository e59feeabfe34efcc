"""What a lane sees of an edge, whatever link the frames came by."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from engine.frame import Discontinuity, Frame, Item, StreamEnd, Watermark
from engine.plan import PlannedEdge
from engine.spec import Cause
from engine.transport.epochs import EpochTable


class Inbox(Protocol):
    """The consumer's end of one edge. `take` and `dropped` are called by the lane only."""

    edge: PlannedEdge
    on_ready: Callable[[], None]  # rung, from any thread, when something can be taken

    def take(self) -> Item | None:
        """The next item, or None. Taking a frame counts it as consumed and returns its credit.

        A frame that is late or of an older epoch is dropped here and its watermark given instead.
        """

    def dropped(self, cause: Cause) -> None:
        """A frame that was taken was not used after all: book it under `cause`."""

    @property
    def closed(self) -> bool:
        """Nothing is here and nothing more will come."""

    def close(self) -> None:
        """The producer will not come back: what is here may still be taken."""


def reject_cause(frame: Frame, edge: PlannedEdge, epochs: EpochTable, now_ns: int) -> Cause | None:
    """Why a frame must not be used any more, if so."""
    stamp = frame.stamp
    if epochs.is_stale(stamp):
        return "stale_epoch"
    if stamp.deadline_ns is not None and now_ns > stamp.deadline_ns:
        return "late"
    if edge.max_age_ms is not None and now_ns - stamp.capture_ns > edge.max_age_ms * 1_000_000:
        return "late"
    return None


def watermark_of(frame: Frame) -> Watermark:
    """What is passed on in the place of a dropped frame."""
    return Watermark(frame.stamp.stream_id, frame.stamp.seq, frame.stamp.pts_ns)


def tidied(items: Iterable[Item]) -> list[Item]:
    """Without the marks and breaks that say nothing more than a later one before the next frame."""
    kept: list[Item] = []
    told: set[tuple[type[Item], str]] = set()
    for item in reversed(list(items)):
        if isinstance(item, Frame):
            told.clear()
        elif isinstance(item, StreamEnd):
            told -= {(Watermark, item.stream_id), (Discontinuity, item.stream_id)}
        elif (type(item), item.stream_id) in told:
            continue
        else:
            told.add((type(item), item.stream_id))
            if isinstance(item, Discontinuity):  # a break forgets older marks
                told.add((Watermark, item.stream_id))
        kept.append(item)
    return kept[::-1]
