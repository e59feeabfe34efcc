"""What a lane has to know of synthetic frames: what they went into, and what must not be shown."""

from __future__ import annotations

from typing import Any

from engine.agreement import cleaned
from engine.contract import UNMARKED, UNSEEN, Marked, Operator
from engine.frame import Frame
from engine.runtime.outlets import Taint
from engine.runtime.work import Work, everything


class Provenance:
    """Of one lane. `leads_nowhere`: nobody takes what the node gives."""

    def __init__(self, operator: Operator[Any], leads_nowhere: bool) -> None:
        self.trusted = trusted_ports(operator)
        reads = operator.pixels != "ignored"
        self._shows = reads and (operator.network_sink or leads_nowhere)
        self._mixed: set[str] = set()  # streams that something synthetic went into

    def note(self, work: Work) -> None:
        """The operator is given this."""
        self._mixed |= work.synthetic_streams

    def of_call(self, stream_id: str) -> Taint | None:
        """Which results are synthetic that came of no frame, but of what had gone in before."""
        return everything if stream_id in self._mixed else None

    def of_rest(self, stream_id: str) -> Taint | None:
        """Which results of a `reset` are synthetic; from here on nothing has gone in."""
        if stream_id not in self._mixed:
            return None
        self._mixed.discard(stream_id)
        return everything

    def refused(self, work: Work) -> Frame | None:
        """The first frame that the node would show, and nothing on it says that it is synthetic."""
        if not self._shows:
            return None
        return next((frame for frame in work.all_frames() if is_unmarked(frame)), None)


def is_unmarked(frame: Frame) -> bool:
    """Made by a model, to be seen or heard, and nothing on it says so."""
    if not frame.stamp.synthetic or frame.caps.media in UNSEEN:
        return False
    return not any(isinstance(record, Marked) for record in frame.records)


def trusted_ports(operator: Operator[Any]) -> frozenset[str]:
    """The outputs whose `Marked` records are true whatever the operator did to the pixels."""
    if operator.pixels != "changed":
        return frozenset(operator.outputs)
    return frozenset(
        port
        for port in operator.outputs
        if UNMARKED in cleaned(operator.output_caps(operator.config, port))
    )
