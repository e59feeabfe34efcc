"""Frames from one run to another over ZeroMQ: as they were, encrypted, and found again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from engine import (
    Caps,
    EndOfStream,
    Frame,
    MonotonicClock,
    Operator,
    OperatorError,
    Record,
    Stamp,
)
from engine.testing import HarnessContext, make_frame
from engine.transport.keys import new_keypair
from operators.sinks.zmq_push import ZmqPush, ZmqPushConfig
from operators.sources.zmq_pull import ZmqPull, ZmqPullConfig

PATIENCE_S = 10.0
LOOPBACK = "tcp://127.0.0.1:0"


class ZmqSpot(Record, frozen=True):
    """A record of this test."""

    x_px: float


class Node:
    """An operator with its context, closed in the end as a lane does."""

    def __init__(self, operator: Operator[Any]) -> None:
        self.operator = operator
        self.ctx = HarnessContext(mode="live", clock=MonotonicClock(), stream_id="mine")
        self.is_open = False

    def open(self) -> Node:
        self.operator.open(self.ctx)
        self.is_open = True
        return self

    def close(self) -> None:
        if self.is_open:
            self.is_open = False
            self.operator.close()
        self.ctx.exits.close()

    def codes(self) -> list[str]:
        return [code for code, _ in self.ctx.reports]

    @property
    def address(self) -> str:
        """Where a push that was given port 0 listens."""
        return dict(self.ctx.reports)["LISTENING"].rpartition(" ")[2]


@pytest.fixture
def node() -> Iterator[Callable[..., Node]]:
    nodes: list[Node] = []

    def build(operator: Operator[Any]) -> Node:
        nodes.append(Node(operator))
        return nodes[-1].open()

    yield build
    for made in reversed(nodes):
        made.close()


Build = Callable[..., Node]


def push(node: Build, endpoint: str, **config: Any) -> Node:
    return node(ZmqPush(msgspec.convert({"endpoint": endpoint, **config}, ZmqPushConfig)))


def pull(node: Build, endpoint: str, **config: Any) -> Node:
    settings = {"endpoint": endpoint, "pix_fmt": "gray", **config}
    return node(ZmqPull(msgspec.convert(settings, ZmqPullConfig)))


def next_frame(puller: Node) -> Frame:
    """The next frame; AssertionError if none comes."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        result = puller.operator.process()
        if result is not None:
            frame = result.frames
            assert isinstance(frame, Frame)
            return frame
    raise AssertionError("no frame came")


def until(puller: Node, claim: Callable[[], bool]) -> None:
    """Have a source go on until something holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not claim():
        assert time.monotonic() < deadline, puller.ctx.reports
        assert puller.operator.process() is None


def shade(seq: int, stream_id: str = "theirs") -> Frame:
    return make_frame(np.full((8, 8), seq, np.uint8), seq=seq, stream_id=stream_id)


@pytest.mark.parametrize("kind", ["ipc", "tcp"])
def test_a_frame_arrives_as_it_was(node: Build, tmp_path: Path, kind: str) -> None:
    endpoint = f"ipc://{tmp_path}/frames" if kind == "ipc" else LOOPBACK
    pusher = push(node, endpoint)
    clock = pusher.ctx.clock
    captured_ns = clock.now_ns() - 30_000_000
    stamp = Stamp("theirs", 900, Fraction(1, 90_000), captured_ns, 7, 2, None, True, "00-aa")
    sent = Frame(shade(9).data, shade(9).caps, stamp, (ZmqSpot(1.5),))
    pusher.operator.process(sent)
    puller = pull(node, endpoint if kind == "ipc" else pusher.address)
    came = next_frame(puller)
    assert np.array_equal(came.data, sent.data)
    assert (came.caps, came.records) == (sent.caps, (ZmqSpot(1.5),))
    own = came.stamp
    assert (own.stream_id, own.seq, own.epoch) == ("mine", 0, 0)  # of the run that pulls
    assert (own.pts, own.time_base, own.synthetic, own.trace) == (
        900,
        stamp.time_base,
        True,
        "00-aa",
    )
    assert 0 <= own.capture_ns - captured_ns < (1 if kind == "ipc" else 5_000_000_000)
    assert (puller.codes(), puller.ctx.breaks) == ([], [])


def test_block_loses_nothing_and_ends_when_the_other_run_ends(node: Build, tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/frames"
    pusher = push(node, endpoint, full="block", queue=2)
    puller = pull(node, endpoint)

    def run() -> None:
        for seq in range(30):
            pusher.operator.process(shade(seq))
        pusher.close()

    thread = threading.Thread(target=run)
    thread.start()
    shades = [int(next_frame(puller).data[0, 0]) for _ in range(30)]
    with pytest.raises(EndOfStream):
        next_frame(puller)
    thread.join()
    assert shades == list(range(30))
    assert pusher.codes() == []


def test_block_says_when_nobody_pulls(node: Build) -> None:
    pusher = push(node, LOOPBACK, full="block", queue=1, patience_ms=10)
    pusher.operator.process(shade(0))
    with pytest.raises(OperatorError, match="drop_oldest") as caught:
        pusher.operator.process(shade(1))
    assert (caught.value.code, caught.value.permanent) == ("NOBODY_PULLS", False)
    pusher.close()
    assert pusher.codes() == ["LISTENING", "UNDELIVERED"]


def test_without_block_the_newest_frames_wait(node: Build) -> None:
    pusher = push(node, LOOPBACK, queue=2)
    for seq in range(50):
        pusher.operator.process(shade(seq))
    books = pusher.ctx.accounts["frames"]
    assert (books().sent, books().drops, books().in_flight) == (50, {"queue_full": 48}, 2)
    puller = pull(node, pusher.address)
    assert [int(next_frame(puller).data[0, 0]) for _ in range(2)] == [48, 49]


def test_what_nobody_took_in_the_end_is_on_the_books(node: Build) -> None:
    pusher = push(node, LOOPBACK, queue=2)
    for seq in range(3):
        pusher.operator.process(shade(seq))
    pusher.close()
    assert pusher.codes()[-1] == "UNDELIVERED"
    books = pusher.ctx.accounts["frames"]()
    assert (books.drops, books.in_flight) == ({"queue_full": 1, "peer_lost": 2}, 0)
    assert books.balanced


@pytest.mark.slow
def test_a_run_that_was_killed_is_found_again(node: Build, tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/frames"
    first = push(node, endpoint)
    puller = pull(node, endpoint)
    first.operator.process(shade(5))
    before = next_frame(puller)
    first.ctx.exits.close()  # as if killed: the connection goes, no end is told
    first.is_open = False
    until(puller, lambda: puller.codes() == ["DISCONNECTED"])
    second = push(node, endpoint)
    second.operator.process(shade(0))
    after = next_frame(puller)
    assert puller.codes() == ["DISCONNECTED", "RECONNECTED"]
    assert puller.ctx.breaks == ["DISCONNECTED"]
    assert after.data[0, 0] == 0
    assert after.stamp.pts_ns > before.stamp.pts_ns  # though the other run counts from 0 again
    assert after.stamp.seq == 1


@pytest.mark.slow
def test_follow_waits_for_the_next_run(node: Build, tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/frames"
    first = push(node, endpoint)
    puller = pull(node, endpoint, follow=True)
    first.operator.process(shade(5))
    next_frame(puller)
    closing = threading.Thread(target=first.close)
    closing.start()
    until(puller, lambda: "PUSH_ENDED" in puller.codes())
    closing.join()
    second = push(node, endpoint)
    second.operator.process(shade(6))
    assert next_frame(puller).data[0, 0] == 6
    assert puller.ctx.breaks == ["PUSH_ENDED"]


def test_a_break_in_the_other_run_is_one_here(node: Build) -> None:
    pusher = push(node, LOOPBACK)
    puller = pull(node, pusher.address)
    pusher.operator.process(shade(0))
    next_frame(puller)
    pusher.operator.reset("theirs")
    pusher.operator.process(shade(1))
    next_frame(puller)
    assert puller.ctx.breaks == ["PUSHED_BREAK"]


@pytest.mark.parametrize(("wanted", "shades"), [("", [0, 2]), ("b", [1, 3])])
def test_one_stream_of_several_is_taken(node: Build, wanted: str, shades: list[int]) -> None:
    pusher = push(node, LOOPBACK)
    for seq in range(4):
        pusher.operator.process(shade(seq, stream_id="ab"[seq % 2]))
    puller = pull(node, pusher.address, stream=wanted)
    assert [int(next_frame(puller).data[0, 0]) for _ in shades] == shades
    assert puller.codes() == ["OTHER_STREAM"]


def test_another_format_than_promised_is_an_error(node: Build) -> None:
    pusher = push(node, LOOPBACK)
    pusher.operator.process(shade(0))
    puller = pull(node, pusher.address, pix_fmt="bgr24")
    with pytest.raises(OperatorError, match="set `pix_fmt: gray`") as caught:
        next_frame(puller)
    assert caught.value.code == "WRONG_FORMAT"


@pytest.mark.slow
def test_nobody_there_is_told_once(node: Build, tmp_path: Path) -> None:
    puller = pull(node, f"ipc://{tmp_path}/nobody", answer_ms=10)
    for _ in range(2):
        until(puller, lambda: puller.codes() == ["TIMEOUT"])
    puller.ctx.stop.set()
    with pytest.raises(EndOfStream):
        puller.operator.process()


def keyrings(folder: Path) -> tuple[Path, Path]:
    """Two folders with a pair each and the other's public key."""
    here, there = folder / "here", folder / "there"
    new_keypair(here, "here")
    new_keypair(there, "there")
    (here / "there.public").write_bytes((there / "there.public").read_bytes())
    (there / "here.public").write_bytes((here / "here.public").read_bytes())
    return here, there


def test_two_hosts_with_each_others_keys(node: Build, tmp_path: Path) -> None:
    here, there = keyrings(tmp_path)
    pusher = push(node, LOOPBACK, keys=str(here))
    puller = pull(node, pusher.address, keys=str(there), server="here")
    pusher.operator.process(shade(3))
    assert next_frame(puller).data[0, 0] == 3


@pytest.mark.parametrize("case", ["stranger", "wrong server"])
def test_keys_that_do_not_fit_fail_at_once(node: Build, tmp_path: Path, case: str) -> None:
    here, there = keyrings(tmp_path)
    if case == "stranger":
        (here / "there.public").unlink()
    pusher = push(node, LOOPBACK, keys=str(here))
    server = "here" if case == "stranger" else "there"
    puller = pull(node, pusher.address, keys=str(there), server=server)
    with pytest.raises(OperatorError, match="public keys") as caught:
        next_frame(puller)
    assert (caught.value.code, caught.value.permanent) == ("AUTH_FAILED", True)
    if case == "stranger":
        pusher.operator.process(shade(0))
        assert "REFUSED" in pusher.codes()
    secret = (there / "there.secret").read_text().strip()
    assert secret not in str(caught.value)


@pytest.mark.parametrize("operator", [ZmqPush, ZmqPull])
def test_plain_tcp_to_other_hosts_is_refused(node: Build, operator: type[Operator[Any]]) -> None:
    config = msgspec.convert({"endpoint": "tcp://192.0.2.1:5600"}, operator.config_type)
    with pytest.raises(OperatorError, match="keygen") as caught:
        node(operator(config))
    assert caught.value.code == "NOT_ENCRYPTED"


def test_bad_keys_and_addresses_are_told(node: Build, tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"BAD_KEYS.*secret"):
        push(node, LOOPBACK, keys=str(tmp_path))
    here, _ = keyrings(tmp_path)
    with pytest.raises(OperatorError, match=r"BAD_KEYS.*nobody"):
        pull(node, "tcp://127.0.0.1:9", keys=str(here), server="nobody")
    first = push(node, LOOPBACK)
    with pytest.raises(OperatorError, match=r"CANNOT_LISTEN.*in use"):
        push(node, first.address)


@pytest.mark.parametrize(
    ("endpoint", "beyond"),
    [
        ("ipc:///run/x", False),
        ("tcp://127.0.0.1:5600", False),
        ("tcp://[::1]:5600", False),
        ("tcp://localhost:5600", False),
        ("tcp://0.0.0.0:5600", True),
        ("tcp://*:5600", True),
        ("tcp://192.0.2.1:5600", True),
    ],
)
def test_who_can_see_what_is_pushed(endpoint: str, beyond: bool) -> None:
    assert ZmqPush.network_sink
    assert ZmqPush.reaches_beyond_host(ZmqPushConfig(endpoint=endpoint)) is beyond


def test_the_config_decides_the_caps() -> None:
    config = ZmqPullConfig(endpoint="ipc:///run/x", pix_fmt="bgr24")
    assert ZmqPull.output_caps(config, "frames") == Caps(media="video", pix_fmt="bgr24")
