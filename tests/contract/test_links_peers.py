"""What links between processes do when a peer dies, comes again, or sends what it must not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import zmq

from engine.clock import FakeClock
from engine.errors import TransportError
from engine.frame import Discontinuity, Frame, Record, StreamEnd, Watermark
from engine.transport import wire
from engine.transport.epochs import EpochTable
from engine.transport.hub import Hub
from engine.transport.keys import KeyRing, new_keypair
from engine.transport.receiver import RemoteInbox
from engine.transport.sender import SPARE_SLOTS
from tests.contract.ends import EDGE, PATIENCE_S, REMOTE, START_NS, Link, eventually, frame

ROOT = Path(__file__).parents[2]
Make = Callable[..., Link]


class Remark(Record, frozen=True):
    """A record of any size."""

    text: str


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    links: list[Link] = []

    def build(kind: str, **settings: object) -> Link:
        links.append(Link(kind, tmp_path, **settings))
        return links[-1]

    yield build
    for link in links:
        link.close()


def start_peer(link: Link, count: int, folder: Path) -> subprocess.Popen[str]:
    """A consumer that has taken `count` frames and holds them."""
    keys = []
    if link.keys is not None:
        for suffix, key in (("public", link.keys.public), ("secret", link.keys.secret)):
            (folder / f"all.{suffix}").write_bytes(key)
            (folder / f"all.{suffix}").chmod(0o600)
        keys = [str(folder)]
    arguments = [link.endpoint, link.edge.link, str(link.edge.window), str(count), *keys]
    peer = subprocess.Popen(
        [sys.executable, "-m", "tests.contract.peer", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert peer.stdout is not None
    assert peer.stdout.readline() == "held\n"
    return peer


@pytest.mark.parametrize("kind", REMOTE)
def test_a_killed_peer_costs_what_it_held_and_nothing_else(
    make: Make, kind: str, tmp_path: Path
) -> None:
    link = make(kind, queue=8, window=3)
    link.put(*map(frame, range(8)))
    peer = start_peer(link, 2, tmp_path)
    eventually(lambda: link.stats().consumed == 2)
    eventually(lambda: link.stats().depth == 3)  # 2 consumed, 3 under way
    peer.kill()
    peer.communicate()
    assert link.producer is not None
    link.producer.peer_gone(link.edge.id)
    stats = link.stats()
    assert (stats.sent, stats.consumed, stats.drops) == (8, 2, {"peer_lost": 3})
    assert (stats.depth, stats.in_flight) == (3, 3)

    link.join()
    kept = [link.take_frame() for _ in range(3)]
    for seq in range(8, 8 + link.edge.window + SPARE_SLOTS - 3):  # as many as there are slots
        link.put(frame(seq))
        kept.append(link.take_frame())
    assert [item.stamp.seq for item in kept] == list(range(5, 5 + len(kept)))
    assert link.settled().slab_misses == 0  # every lease of the dead peer was free again


@pytest.mark.parametrize("kind", REMOTE)
def test_a_new_hello_ends_the_old_session(make: Make, kind: str) -> None:
    """The old consumer holds frames, has others waiting, and acks too late."""
    link = make(kind, queue=8, window=3).join()
    link.put(*map(frame, range(6)))
    held = link.take_frame()
    eventually(lambda: link.stats().consumed == 1)
    old = link.inbox
    assert isinstance(old, RemoteInbox)
    link.join()
    assert [link.take_frame().stamp.seq for _ in range(2)] == [4, 5]
    old.take()
    old.dropped("quarantined")
    stats = link.settled()
    assert (stats.sent, stats.consumed, stats.drops) == (6, 3, {"peer_lost": 3})
    assert held.stamp.seq == 0


def session_of(link: Link) -> str:
    """The session that the producer serves."""
    assert link.producer is not None
    return link.producer._senders[link.edge.id]._session


def test_what_the_old_session_still_reads_is_never_written_again(make: Make) -> None:
    """The old consumer may live: its connection was lost, or another one took its place."""
    link = make("ipc", queue=8, window=2).join()
    link.put(frame(1))
    held = link.take_frame()
    before = held.data.copy()
    old = link.inbox
    link.join()
    assert isinstance(old, RemoteInbox)
    eventually(lambda: old.session != session_of(link))
    for seq in range(2, 2 + 2 * (2 + SPARE_SLOTS)):  # every slot, twice
        link.put(frame(seq))
        assert link.take_frame().stamp.seq == seq
    assert (held.data == before).all()
    assert link.settled().slab_misses == 0


@pytest.mark.parametrize("kind", REMOTE)
def test_a_producer_that_came_back_is_a_discontinuity(make: Make, kind: str) -> None:
    """For every stream that has not ended; the books of the new session begin with it."""
    link = make(kind, queue=8, window=3).join()
    link.put(frame(0), StreamEnd("ended"), frame(1, stream_id="other"), frame(2))
    assert link.take_frame().stamp.seq == 0
    eventually(lambda: link.stats().consumed == 1 and link.stats().depth == 0)
    inbox = link.inbox
    assert isinstance(inbox, RemoteInbox)
    inbox.reconnect(link.endpoint)
    inbox.dropped("quarantined")  # a frame of the old session: its books are closed
    eventually(lambda: link.stats().drops == {"peer_lost": 2})
    link.put(frame(7))
    taken = [link.take() for _ in range(4)]
    assert taken[0] == StreamEnd("ended")
    assert taken[1:3] == [Discontinuity(name, "PEER_RESTARTED") for name in ("cam", "other")]
    assert isinstance(taken[3], Frame)
    stats = link.settled()
    assert (stats.sent, stats.consumed, stats.drops) == (4, 2, {"peer_lost": 2})


@pytest.mark.parametrize("kind", REMOTE)
def test_abandoned_edges_lose_what_is_put(make: Make, kind: str) -> None:
    link = make(kind, queue=1).join()
    link.put(frame(0))
    link.take_frame()
    eventually(lambda: link.stats().consumed == 1)
    link.outbox.abandon()
    link.put(frame(1), frame(2), frame(3))
    stats = link.stats()
    assert (stats.sent, stats.consumed, stats.drops) == (4, 1, {"peer_lost": 3})
    assert link.producer is not None
    assert link.producer.over(link.edge.id)


@pytest.fixture
def raw() -> Iterator[Callable[[int], zmq.Socket[Any]]]:
    """Sockets that say whatever they like."""
    context: zmq.Context[Any] = zmq.Context()
    sockets = []

    def build(kind: int) -> zmq.Socket[Any]:
        socket: zmq.Socket[Any] = context.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVTIMEO, int(PATIENCE_S * 1000))
        sockets.append(socket)
        return socket

    yield build
    for socket in sockets:
        socket.close()
    context.term()


def ack(session: str, **changes: Any) -> bytes:
    settings = {
        "edge": EDGE.id, "session": session, "credits": 0, "consumed": 0,
        "drops": {}, "released": [], "age": wire.Histogram(),
    }  # fmt: skip
    return wire.encode(wire.Ack(**(settings | changes)))


@pytest.mark.parametrize("kind", ["ipc", "tcp"])
def test_a_producer_refuses_what_is_no_message(
    make: Make, kind: str, raw: Callable[[int], zmq.Socket[Any]]
) -> None:
    link = make(kind, window=4)
    assert link.producer is not None
    link.put(*map(frame, range(4)))
    peer = raw(zmq.DEALER)
    peer.connect(link.endpoint)
    hello = wire.encode(wire.Hello(EDGE.id, "mine", 4))
    peer.send(hello)
    for _ in range(4):
        assert wire.decode_to_consumer(peer.recv_multipart()[0]).session == "mine"
    bad = [
        b"",
        b"\x01",
        b"\x02" + hello[1:],
        hello + b"x",
        wire.VERSION + bytes(wire.MAX_HEADER_BYTES),
        wire.encode(wire.Hello("no.such->edge", "mine", 4)),
        wire.encode(wire.Hello(EDGE.id, "another", 0)),
        ack("mine", credits=5, consumed=5),
        ack("mine", credits=-1, consumed=-1),
        ack("mine", credits=2, consumed=1),
        ack("mine", credits=1, consumed=2, drops={"late": -1}),
        ack("mine", credits=1, drops={"boredom": 1}),
    ]
    for message in bad:
        peer.send(message)
    peer.send_multipart([hello, hello])
    peer.send(ack("another", credits=4, consumed=4))  # of an older session: not wrong, but late
    peer.send(ack("mine", credits=4, consumed=3, drops={"late": 1}, released=[("x", -1, 0)]))
    stats = link.settled()
    assert (stats.consumed, stats.drops) == (3, {"late": 1})
    assert link.producer.malformed == len(bad) + 1
    assert stats.malformed == 6


def frame_message(session: str, payload: bytes = b"", **changes: Any) -> list[bytes]:
    """A frame of 64 bytes as the wire has it, with some fields changed."""
    good = wire.frame_header(frame(1), EDGE.id, session, None, None)
    header = wire.decode_to_consumer(good)
    assert isinstance(header, wire.FrameHeader)
    if "stamp" in changes:
        changes["stamp"] = msgspec.structs.replace(header.stamp, **changes["stamp"])
    return [wire.encode(msgspec.structs.replace(header, **changes)), payload or bytes(64)]


def bad_frames(session: str) -> list[list[bytes]]:
    """In the books: their sender waits for an answer to each of them."""

    def slot(name: str, index: int = 0) -> dict[str, Any]:
        return {"slot": wire.Slot(name, index, 1, 4096)}

    return [
        frame_message(session, bytes(63)),
        frame_message(session, shape=(8, 9)),
        frame_message(session, shape=(-8, -8)),
        frame_message(session, shape=(0, 2**40)),
        frame_message(session, shape=(2**14, 2**14, 2**14)),
        frame_message(session, shape=(1,) * 9),
        frame_message(session, dtype="object"),
        frame_message(session, dtype="<M8[ns]"),
        frame_message(session, caps=msgspec.Raw(msgspec.msgpack.encode({"width": "wide"}))),
        frame_message(session, stamp={"tick": (1, 0)}),
        frame_message(session, records=[("Face", b"\xc1")]),
        frame_message(session, **slot("../../etc/passwd")),
        frame_message(session, **slot("frameloom-1-1-1")),
        frame_message(session)[:1],
        [*frame_message(session), b"one part too many"],
    ]


@pytest.mark.parametrize("kind", ["ipc", "tcp"])
def test_a_consumer_refuses_what_is_no_message(
    make: Make, kind: str, tmp_path: Path, raw: Callable[[int], zmq.Socket[Any]]
) -> None:
    """Each is counted, gives its credit back, and the good frame after them is taken."""
    import operators.face.records  # noqa: F401  so that `Face` is a known record

    producer = raw(zmq.ROUTER)
    producer.bind("tcp://127.0.0.1:*" if kind == "tcp" else f"ipc://{tmp_path / 'raw.sock'}")
    endpoint = producer.getsockopt_string(zmq.LAST_ENDPOINT)
    link = Link("inproc", tmp_path)
    hub = Hub("consumer", FakeClock(START_NS), EpochTable())
    hub.start()
    try:
        inbox = hub.connect(msgspec.structs.replace(EDGE, link=kind, window=1), endpoint)
        inbox.on_ready = link.bell.set
        link.inbox = inbox
        address, hello = producer.recv_multipart()
        session = wire.decode_to_producer(hello).session
        garbage = [
            b"",
            b"\x00" * 9,
            b"\x07" + frame_message(session)[0][1:],
            wire.encode(wire.Hello(EDGE.id, session, 1)),
            wire.VERSION + bytes(wire.MAX_HEADER_BYTES),
            frame_message(session, edge="other")[0],
        ]
        frames = bad_frames(session)
        for parts in [*([part] for part in garbage), *frames, frame_message("old session")]:
            producer.send_multipart([address, *parts])
        producer.send_multipart([address, *frame_message(session)])
        item = link.take()
        while isinstance(item, Watermark):
            item = link.take()
        assert isinstance(item, Frame)
        assert np.array_equal(item.data, np.zeros((8, 8), np.uint8))
        malformed = credits = 0
        drops: dict[str, int] = {}
        while credits < len(frames) + 1:
            answer = wire.decode_to_producer(producer.recv_multipart()[1])
            assert isinstance(answer, wire.Ack)
            malformed += answer.malformed
            credits += answer.credits
            for cause, count in answer.drops.items():
                drops[cause] = drops.get(cause, 0) + count
        assert malformed == len(garbage) + len(frames)
        assert drops == {"quarantined": len(frames)}
    finally:
        hub.stop()


@pytest.mark.parametrize("kind", REMOTE)
def test_a_frame_that_cannot_be_sent_is_refused_where_it_is(make: Make, kind: str) -> None:
    """Too many records for a header; an array of objects. Credit and slot are free again."""
    link = make(kind, window=1, queue=8).join()
    records = tuple(map(Remark, ("x" * 1000,) * 70))
    strange = Frame(np.array([{}, {}]), frame(1).caps, frame(1).stamp)
    for _ in range(20):
        link.put(frame(0).with_records(*records), strange)
    link.put(frame(2))
    item = link.take()
    while isinstance(item, Watermark):
        item = link.take()
    assert isinstance(item, Frame)
    assert item.stamp.seq == 2
    stats = link.settled()
    assert (stats.consumed, stats.drops, stats.malformed) == (1, {"quarantined": 40}, 40)
    assert stats.slab_misses == 0


def test_a_stranger_is_turned_away(make: Make, tmp_path: Path) -> None:
    link = make("curve")
    new_keypair(tmp_path / "stranger", "me")
    stranger = Hub("stranger", link.clock, EpochTable(), keys=KeyRing.load(tmp_path / "stranger"))
    stranger.start()
    try:
        assert link.keys is not None
        assert link.producer is not None
        inbox = stranger.connect(link.edge, link.endpoint, server=link.keys.public, lasting=True)
        eventually(lambda: inbox.connection == "AUTH_FAILED")
        assert link.producer.refused > 0
        link.put(frame(0))
        assert link.join().take_frame().stamp.seq == 0  # those with the key are served
        assert inbox.take() is None
    finally:
        stranger.stop()


def test_plain_tcp_stays_on_this_host(tmp_path: Path) -> None:
    hub = Hub("plain", FakeClock(), EpochTable())
    hub.start()
    try:
        for endpoint in ("tcp://0.0.0.0:0", "tcp://*:0", "tcp://192.0.2.1:5000", "tcp://[::]:0"):
            with pytest.raises(TransportError, match="keygen"):
                hub.listen(endpoint)
            with pytest.raises(TransportError, match="keygen"):
                hub.connect(EDGE, endpoint)
        with pytest.raises(TransportError, match="cannot listen"):
            hub.listen(f"ipc://{tmp_path}/no/such/folder/x.sock")
    finally:
        hub.stop()
