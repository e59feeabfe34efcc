"""The output side of a node: its ports, their edges, and what travels when nothing comes out."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import replace
from typing import Any

from msgspec import structs

from engine.contract import Marked
from engine.frame import Batch, Frame, Signal, Watermark
from engine.timing import Stamp
from engine.transport.outbox import Outbox

Taint = Callable[[Stamp], bool]  # which results are synthetic for what went in


class Outlets:
    """Sends results of `process` to the edges of each port, in edge order."""

    def __init__(
        self,
        ports: Mapping[str, list[Outbox]],
        cancel: Callable[[], bool],
        looks_ahead: bool,
        records: dict[str, int],
        synthesizes: bool = False,
    ) -> None:
        self._ports = ports
        self._cancel = cancel
        self._looks_ahead = looks_ahead
        self._synthesizes = synthesizes
        self._records = records  # how many of each class left, by name

    def send_result(
        self,
        result: Any,
        source: Frame | None,
        taint: Taint | None = None,
        given: Iterable[Frame] = (),
        trusted: Container[str] | None = None,
    ) -> None:
        """Send what `process` returned; ports that stay empty get the watermark of `source`.

        Those that `taint` names become synthetic; from a node that synthesizes all are whose data
        is not, untouched, that of a frame it was `given`. On ports that are not `trusted` (None:
        all are) a frame keeps `Marked` only where its data is that of a marked one given.
        TypeError, and nothing is sent, when it is not what the node said it gives.
        """
        named = split_result(result, list(self._ports))
        unknown = ", ".join(named.keys() - self._ports.keys())
        if unknown:
            has = ", ".join(self._ports) or "none"
            raise TypeError(f"process returned something for output {unknown}; there is {has}")
        given = tuple(given)
        tainted = self._tainting(taint, given)
        for port, boxes in self._ports.items():
            frames = tuple(tainted(frame) for frame in named.get(port, ()))
            if trusted is not None and port not in trusted:
                frames = tuple(_with_true_mark(frame, given) for frame in frames)
            for frame in frames:
                self._count(frame)
                for box in boxes:
                    box.put(frame, self._cancel)
            if not frames and source is not None and not self._looks_ahead:
                self.mark(port, source)

    @property
    def lead_nowhere(self) -> bool:
        """Nobody takes what the node gives."""
        return not any(self._ports.values())

    def mark(self, port: str, source: Frame) -> None:
        """Tell a port's edges that nothing as old as `source` comes any more."""
        stamp = source.stamp
        for box in self._ports[port]:
            box.put(Watermark(stamp.stream_id, stamp.seq, stamp.pts_ns), self._cancel)

    def skip(self, source: Frame) -> None:
        """A frame went no further: every port's watermark moves on."""
        if not self._looks_ahead:
            for port in self._ports:
                self.mark(port, source)

    def signal(self, signal: Signal) -> None:
        if self._looks_ahead and isinstance(signal, Watermark):
            return  # older frames are still held back here
        for boxes in self._ports.values():
            for box in boxes:
                box.put(signal, self._cancel)

    def refuse(self, result: Any) -> None:
        """Entry flow limit: count the frames as sent and dropped, and let nothing in."""
        for port, frames in split_result(result, list(self._ports)).items():
            for frame in frames:
                for box in self._ports.get(port, ()):
                    box.refuse(frame, "queue_full")

    def close(self) -> None:
        for boxes in self._ports.values():
            for box in boxes:
                box.close()

    def _tainting(self, taint: Taint | None, given: Iterable[Frame]) -> Callable[[Frame], Frame]:
        captured = [frame.data for frame in given] if self._synthesizes else []

        def tainted(frame: Frame) -> Frame:
            stamp = frame.stamp
            made = self._synthesizes and all(frame.data is not data for data in captured)
            if stamp.synthetic or not (made or (taint is not None and taint(stamp))):
                return frame
            return replace(frame, stamp=structs.replace(stamp, synthetic=True))

        return tainted

    def _count(self, frame: Frame) -> None:
        for record in frame.records:
            name = type(record).__name__
            self._records[name] = self._records.get(name, 0) + 1


def _with_true_mark(frame: Frame, given: Iterable[Frame]) -> Frame:
    """Without what was said of the pixels that were there before."""
    if not frame.of(Marked):
        return frame
    untouched = any(frame.data is before.data and before.of(Marked) for before in given)
    return frame if untouched else frame.without_records(Marked)


def split_result(result: Any, ports: list[str]) -> dict[str, tuple[Frame, ...]]:
    """What `process` returned, by port: a frame, a batch, a list, or a NamedTuple of those."""
    if result is None:
        return {}
    if hasattr(result, "_asdict"):
        fields = result._asdict().items()
        return {port: _frames(value) for port, value in fields if value is not None}
    return {ports[0] if ports else "out": _frames(result)}


def _frames(value: Any) -> tuple[Frame, ...]:
    if isinstance(value, Frame):
        return (value,)
    if isinstance(value, Batch | list):
        frames = tuple(value.frames if isinstance(value, Batch) else value)
        for item in frames:
            if not isinstance(item, Frame):
                raise TypeError(f"process returned {type(item).__name__} among frames, not Frame")
        return frames
    message = f"process returned {type(value).__name__}; Frame, Batch, list or NamedTuple expected"
    raise TypeError(message)
