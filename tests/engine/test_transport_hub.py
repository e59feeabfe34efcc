"""The I/O thread of a worker: control first, connections that come and go, nothing left behind."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import zmq

from engine.clock import FakeClock
from engine.errors import TransportError
from engine.frame import Discontinuity, Frame
from engine.transport import wire
from engine.transport.epochs import EpochTable
from engine.transport.hub import PARTS_AT_ONCE, Hub
from engine.transport.outbox import Outbox
from engine.transport.slab import FOLDER
from tests.contract.ends import EDGE, PATIENCE_S, Link, eventually, frame, never

Start = Callable[..., Hub]


@pytest.fixture
def start() -> Iterator[Start]:
    """Makes running hubs, which are stopped at the end."""
    hubs: list[Hub] = []

    def build(name: str = "hub", **settings: Any) -> Hub:
        hubs.append(Hub(name, FakeClock(), EpochTable(), **settings))
        hubs[-1].start()
        return hubs[-1]

    yield build
    for hub in hubs:
        hub.stop()


@pytest.fixture
def supervisor() -> Iterator[zmq.Socket[Any]]:
    context: zmq.Context[Any] = zmq.Context()
    socket: zmq.Socket[Any] = context.socket(zmq.ROUTER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.RCVTIMEO, int(PATIENCE_S * 1000))
    socket.bind("tcp://127.0.0.1:*")
    yield socket
    socket.close()
    context.term()


def test_control_messages_go_both_ways(start: Start, supervisor: zmq.Socket[Any]) -> None:
    heard: list[list[bytes]] = []
    hub = start(on_control=heard.append)
    hub.connect_control(supervisor.getsockopt_string(zmq.LAST_ENDPOINT))
    threads = [
        threading.Thread(target=hub.send_control, args=([b"worker", bytes([n])],)) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    came = [supervisor.recv_multipart() for _ in threads]
    for thread in threads:
        thread.join()
    assert sorted(parts[1:] for parts in came) == [[b"worker", bytes([n])] for n in range(8)]
    supervisor.send_multipart([came[0][0], b"stop", b"now"])
    eventually(lambda: heard == [[b"stop", b"now"]])


def test_last_words_reach_the_supervisor(supervisor: zmq.Socket[Any]) -> None:
    hub = Hub("short-lived", FakeClock(), EpochTable())
    hub.start()
    hub.connect_control(supervisor.getsockopt_string(zmq.LAST_ENDPOINT))
    hub.send_control([b"done"])
    hub.stop()
    assert supervisor.recv_multipart()[1:] == [b"done"]


def test_control_never_waits_behind_frames(
    start: Start, supervisor: zmq.Socket[Any], tmp_path: Path
) -> None:
    came_before: list[int] = []
    items: list[bool] = []
    hub = start(on_control=lambda _: came_before.append(len(items)))
    hub.connect_control(supervisor.getsockopt_string(zmq.LAST_ENDPOINT))
    hub.send_control([b"hello"])
    worker = supervisor.recv_multipart()[0]
    context: zmq.Context[Any] = zmq.Context()
    try:
        with context.socket(zmq.ROUTER) as producer:
            producer.setsockopt(zmq.LINGER, 0)
            producer.bind(f"ipc://{tmp_path}/flood")
            inbox = hub.connect(EDGE, f"ipc://{tmp_path}/flood")
            inbox.on_ready = lambda: items.append(True)
            address, _ = producer.recv_multipart()
            signal = Discontinuity("cam", "X")
            message = wire.encode(wire.SignalHeader(EDGE.id, inbox.session, signal))
            hold, held = threading.Event(), threading.Event()
            blocked = threading.Thread(target=hub._call, args=(lambda: (held.set(), hold.wait()),))
            blocked.start()  # the I/O thread is busy while messages pile up
            assert held.wait(PATIENCE_S)
            for _ in range(10 * PARTS_AT_ONCE):
                producer.send_multipart([address, message])
            supervisor.send_multipart([worker, b"stop"])
            hold.set()
            blocked.join()
            eventually(lambda: bool(came_before) and len(items) >= 9)
            assert came_before[0] <= 2 * PARTS_AT_ONCE
    finally:
        context.destroy(linger=0)


def test_a_stopped_hub_leaves_nothing(tmp_path: Path) -> None:
    process = psutil.Process()
    before = process.num_fds(), threading.active_count(), set(FOLDER.iterdir())
    for _ in range(3):
        link = Link("ipc", tmp_path).join()
        link.put(frame(0))
        kept = link.take_frame()
        assert (tmp_path / "data.sock").exists()
        link.close()
        assert not (tmp_path / "data.sock").exists()
        assert kept.data[0, 0] == 0
    del kept, link
    gc.collect()  # a mapping keeps a descriptor
    eventually(lambda: process.num_fds() <= before[0])
    assert threading.active_count() == before[1]
    assert set(FOLDER.iterdir()) <= before[2]


def test_a_hub_that_does_not_run_says_so() -> None:
    hub = Hub("never started", FakeClock(), EpochTable())
    with pytest.raises(TransportError, match="start it"):
        hub.listen("tcp://127.0.0.1:0")
    hub.stop()


@pytest.mark.parametrize("kind", ["ipc", "tcp"])
def test_the_last_ack_is_not_lost_when_the_consumer_leaves(tmp_path: Path, kind: str) -> None:
    for _ in range(5):
        link = Link(kind, tmp_path, queue=8, window=4)
        consumer = Hub("consumer", link.clock, EpochTable())
        consumer.start()
        inbox = consumer.connect(link.edge, link.endpoint)
        link.put(frame(0), frame(1))
        for _ in range(2):
            eventually(lambda inbox=inbox: inbox.take() is not None)  # type: ignore[misc]
        consumer.stop()
        assert link.settled().consumed == 2
        link.close()


def test_frames_wait_for_the_next_consumer(tmp_path: Path) -> None:
    """One that left costs what was sent to it before that was noticed."""
    link = Link("tcp", tmp_path, queue=8, window=4).join()
    try:
        link.put(frame(0))
        link.take_frame()
        link.settled()
        link._consumers.pop().stop()
        assert link.producer is not None
        producer = link.producer

        def gone() -> bool:
            link.put(frame(1))
            return not producer.attached(link.edge.id)

        eventually(gone)
        link.put(frame(2))
        link.join()
        while link.take_frame().stamp.seq != 2:
            continue
        stats = link.settled()
        assert stats.sent == stats.consumed + stats.drops["peer_lost"]
    finally:
        link.close()


def test_no_consumer_gets_more_than_the_edge_allows(tmp_path: Path) -> None:
    link = Link("tcp", tmp_path, queue=8, window=2)
    link.put(*map(frame, range(5)))
    context: zmq.Context[Any] = zmq.Context()
    try:
        peer: zmq.Socket[Any] = context.socket(zmq.DEALER)
        peer.connect(link.endpoint)
        peer.send(wire.encode(wire.Hello(EDGE.id, "greedy", 1000)))
        eventually(lambda: link.stats().depth == 3)
        peer.recv_multipart()
        assert link.stats().depth == 3
    finally:
        context.destroy(linger=0)
        link.close()


@pytest.mark.slow
def test_a_lasting_connection_begins_again_by_itself(start: Start, tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/lasting"
    inbox = start("consumer").connect(EDGE, endpoint, lasting=True)
    taken: list[Any] = []

    def drain() -> int:
        while (item := inbox.take()) is not None:
            taken.append(item.stamp.seq if isinstance(item, Frame) else item)
        return len(taken)

    for life in range(3):
        outbox = Outbox(EDGE, FakeClock())
        producer = Hub(f"life {life}", FakeClock(), EpochTable())
        producer.start()
        producer.serve(outbox)
        producer.listen(endpoint)
        outbox.put(frame(life), never)
        eventually(lambda count=2 * life + 1: drain() == count)  # type: ignore[misc]
        producer.stop()
        eventually(lambda: inbox.connection == "DISCONNECTED")
    again = Discontinuity("cam", "PEER_RESTARTED")
    assert taken == [0, again, 1, again, 2]


def test_an_edge_is_served_until_it_is_not(tmp_path: Path) -> None:
    link = Link("ipc", tmp_path).join()
    try:
        link.put(frame(0))
        link.take_frame()
        link.settled()
        link.put(frame(1))
        assert link.producer is not None
        link.producer.unserve(link.edge.id)
        assert link.stats().drops == {"peer_lost": 1}
        assert link.producer.over(link.edge.id)
        assert not link.producer.attached(link.edge.id)
    finally:
        link.close()
