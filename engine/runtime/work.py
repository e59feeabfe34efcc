"""What a lane processes in one go, and what it asks for more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from engine.frame import Batch, Frame, Latest, Signal
from engine.runtime.outlets import Taint
from engine.timing import Place, Stamp
from engine.transport.link import Inbox


def everything(stamp: Stamp) -> bool:
    """The taint of all results."""
    return True


@dataclass(slots=True)
class Work:
    """Arguments for one call of `process`, and the frames in it with the edge each came by."""

    arguments: dict[str, Any]
    frames: list[tuple[Inbox, Frame]]

    def all_frames(self) -> Iterator[Frame]:
        """Those in it, and what the `Latest` ports hold."""
        yield from (frame for _, frame in self.frames)
        for value in self.arguments.values():
            if isinstance(value, Latest) and isinstance(value.value, Frame):
                yield value.value

    @property
    def taint(self) -> Taint | None:
        """Which results are synthetic for what went in.

        Of a batch those of the same moment of the same stream, and those of a moment that the batch
        does not have; what came beside the batch taints all.
        """
        batched = self._batched()
        if any(frame.stamp.synthetic for frame in self._beside_the_batch()):
            return everything
        made = {_moment(frame.stamp) for frame in batched if frame.stamp.synthetic}
        if not made:
            return None
        captured = {_moment(frame.stamp) for frame in batched} - made
        return lambda stamp: _moment(stamp) not in captured

    @property
    def synthetic_streams(self) -> set[str]:
        """Streams whose state in the operator has something synthetic in it from here on."""
        if any(frame.stamp.synthetic for frame in self._beside_the_batch()):
            return {frame.stamp.stream_id for _, frame in self.frames}
        return {frame.stamp.stream_id for frame in self._batched() if frame.stamp.synthetic}

    def _batched(self) -> list[Frame]:
        batches = [value for value in self.arguments.values() if isinstance(value, Batch)]
        return [frame for batch in batches for frame in batch.frames]

    def _beside_the_batch(self) -> list[Frame]:
        held = [value.value for value in self.arguments.values() if isinstance(value, Latest)]
        given = [*self.arguments.values(), *held]
        return [frame for frame in given if isinstance(frame, Frame)]

    @property
    def newest(self) -> Frame:
        return self.frames[-1][1]


def _moment(stamp: Stamp) -> tuple[str, Place]:
    return stamp.stream_id, stamp.place


class Inputs(Protocol):
    """What a lane asks in turn: work, a signal to handle, or None when there is nothing yet."""

    def next(self, now_ns: int) -> Work | Signal | None: ...

    def wait_ns(self, now_ns: int) -> int | None:
        """How long the lane may sleep unless the bell rings; None means until it rings."""

    @property
    def finished(self) -> bool:
        """No work or signal is left, and none will come."""

    @property
    def closed(self) -> bool:
        """Finished, and nothing more will come at the `Latest` ports either."""


class Side:
    """The `Latest` ports: emptied before every call, so that the newest value is what is used."""

    def __init__(self, values: dict[str, Latest[Frame]], inboxes: dict[str, Inbox]) -> None:
        self._values = values
        self._inboxes = inboxes

    def refresh(self) -> bool:
        """Take what has come. True once every connected port has had a value.

        A back edge is not waited for: its first value is made of what goes out here.
        """
        for name, inbox in self._inboxes.items():
            while (item := inbox.take()) is not None:
                if isinstance(item, Frame):
                    self._values[name].value = item
        return all(
            self._values[name].value is not None or inbox.closed or inbox.edge.back_edge
            for name, inbox in self._inboxes.items()
        )

    @property
    def closed(self) -> bool:
        """Whether nothing more will come."""
        return all(inbox.closed for inbox in self._inboxes.values())

    @property
    def arguments(self) -> dict[str, Latest[Frame]]:
        return self._values
