"""A producer that sends more than it has credit for gets no further than the window."""

from __future__ import annotations

import msgspec
import numpy as np

from engine.clock import FakeClock
from engine.device.opening import Devices
from engine.frame import Frame
from engine.transport import wire
from engine.transport.epochs import EpochTable
from engine.transport.receiver import RemoteInbox
from tests.contract.ends import EDGE, START_NS, frame


def test_frames_beyond_the_window_are_refused_and_counted() -> None:
    edge = msgspec.structs.replace(EDGE, link="tcp", window=2)
    inbox = RemoteInbox(edge, EpochTable(), FakeClock(START_NS), Devices(), _nothing, _nothing)
    inbox.begin(again=False)

    def send(seq: int) -> None:
        header = wire.frame_header(frame(seq), edge.id, inbox.session, None, START_NS)
        inbox.receive([header, memoryview(np.ascontiguousarray(frame(seq).data)).cast("B")])

    for seq in range(4):
        send(seq)
    first = inbox.take()
    send(4)
    taken = [first, inbox.take(), inbox.take(), inbox.take()]

    assert [item.stamp.seq for item in taken if isinstance(item, Frame)] == [0, 1, 4]
    ack = wire.decode_to_producer(inbox.outcomes() or b"")
    assert isinstance(ack, wire.Ack)
    assert (ack.credits, ack.consumed, ack.malformed) == (3, 3, 2)


def _nothing(*_: object) -> None:
    """Nobody is asked to wake anybody."""
