"""What every link promises, whatever it is made of: order, policies, credits, books, bytes."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import msgspec
import numpy as np
import pytest

from engine.caps import Caps
from engine.clock import FakeClock
from engine.frame import (
    Discontinuity,
    Frame,
    Item,
    Record,
    Signal,
    StreamEnd,
    UnknownRecord,
    Watermark,
)
from engine.timing import Stamp
from tests.contract.ends import KINDS, PATIENCE_S, START_NS, Link, eventually, frame, never

Open = Callable[..., Link]
MS = 1_000_000
END = StreamEnd("cam")


class Note(Record, frozen=True):
    """A record that both ends know."""

    text: str
    at: tuple[float, float]


@pytest.fixture(params=KINDS)
def open_link(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Makes a link of every kind, to be joined; the edge's fields may be given."""
    with ExitStack() as stack:

        def make(**fields: object) -> Link:
            link = Link(request.param, tmp_path, **fields)
            stack.callback(link.close)
            return link

        yield make


# ---- order and policies


def test_items_arrive_in_the_order_they_were_put(open_link: Open) -> None:
    link = open_link(queue=16, window=3).join()
    items = [
        frame(0),
        frame(1),
        Discontinuity("cam", "RECONNECTED"),
        frame(2),
        mark(3),
        frame(4),
        END,
    ]

    link.put(*items)

    came = until_end(link)
    assert [type(item) for item in came] == [type(item) for item in items]
    assert seqs(came) == [0, 1, 2, 4]
    assert signals(came) == signals(items)
    assert link.settled().drops == {}


def test_block_waits_for_room_and_loses_nothing(open_link: Open) -> None:
    link = open_link(queue=1, window=1).join()
    producer = threading.Thread(target=lambda: link.put(*map(frame, range(50)), END))

    producer.start()
    came = until_end(link)
    producer.join()

    assert seqs(came) == list(range(50))
    assert link.stats().peak_depth == 1
    assert link.settled().drops == {}


def test_block_gives_up_when_cancelled(open_link: Open) -> None:
    link = open_link(queue=1, window=1).join()
    fill(link)
    cancelled = threading.Event()
    answers: list[bool] = []
    producer = threading.Thread(
        target=lambda: answers.append(link.outbox.put(frame(9), cancelled.is_set))
    )

    producer.start()
    cancelled.set()
    link.outbox.wake()
    producer.join(PATIENCE_S)

    assert answers == [False]
    assert link.stats()


def test_block_gives_up_after_its_timeout_and_books_nothing(open_link: Open) -> None:
    link = open_link(queue=1, window=1).join()
    fill(link)
    before = link.stats()

    assert not link.outbox.put(frame(1), lambda: False, timeout_s=0)

    assert link.stats() == before


@pytest.mark.parametrize(("policy", "kept"), [("drop_oldest", 3), ("latest", 1)])
def test_a_lossy_queue_keeps_the_newest_and_marks_the_others(
    open_link: Open, policy: str, kept: int
) -> None:
    link = open_link(queue=3, policy=policy)

    link.put(*map(frame, range(20)), END)

    came = until_end(link.join())
    assert seqs(came) == list(range(20 - kept, 20))
    assert came[0] == mark(19 - kept), "the last dropped frame leaves its watermark"
    assert link.settled().drops == {"queue_full": 20 - kept}


def test_watermarks_of_dropped_frames_stay_few(open_link: Open) -> None:
    link = open_link(queue=2, policy="drop_oldest")

    for seq in range(300):
        link.put(frame(seq, stream_id="left"), frame(seq, stream_id="right"))
    link.put(END)

    came = until_end(link.join())
    assert signals(came) == [mark(298, "left"), mark(298, "right"), END]


def test_watermarks_without_frames_coalesce(open_link: Open) -> None:
    link = open_link()

    for seq in range(200):
        link.put(mark(seq), mark(seq, "other"))
    link.put(frame(200), END)

    came = until_end(link.join())
    assert sorted(signals(came[:2]), key=str) == sorted([mark(199), mark(199, "other")], key=str)
    assert seqs(came[2:]) == [200]


# ---- lateness and epochs


def test_a_frame_past_its_deadline_is_late(open_link: Open) -> None:
    link = open_link(queue=8, window=8).join()

    link.put(due(0, -1), due(1, 0), due(2, 1), END)

    came = until_end(link)
    assert came[0] == mark(0)
    assert seqs(came) == [1, 2]
    assert link.settled().drops == {"late": 1}


def test_a_frame_older_than_max_age_is_late(open_link: Open) -> None:
    link = open_link(queue=8, window=8, max_age_ms=40).join()

    link.put(frame(0, age_ms=41), frame(1, age_ms=40), frame(2, age_ms=39), END)

    came = until_end(link)
    assert came[0] == mark(0)
    assert seqs(came) == [1, 2]
    assert link.settled().drops == {"late": 1}


def test_an_old_epoch_dies_at_the_producer(open_link: Open) -> None:
    link = open_link(queue=8)
    link.put(*map(frame, range(4)), frame(4, stream_id="other"), frame(5, epoch=1), END)

    link.outbox.flush_epoch("cam", 1)

    assert link.stats().drops == {"stale_epoch": 4}
    assert link.stats().depth == 2, "other streams and newer frames stay"
    came = until_end(link.join())
    assert came[0] == mark(3)
    assert seqs(came) == [4, 5]


def test_an_old_epoch_dies_at_the_consumer(open_link: Open) -> None:
    link = open_link(queue=8, window=8).join()
    link.epochs.raise_to("cam", 1)

    link.put(frame(0), frame(1), frame(0, stream_id="other"), frame(2, epoch=1), END)

    came = until_end(link)
    assert seqs(came) == [0, 2]
    assert [item.seq for item in came if isinstance(item, Watermark)] == [0, 1]
    assert link.settled().drops == {"stale_epoch": 2}


# ---- credits and books


def test_never_more_than_the_window_under_way(open_link: Open) -> None:
    link = open_link(queue=32, window=3).join()
    counts: list[int] = []
    link.put(*map(frame, range(24)), END)

    for _ in range(24):
        counts.append(under_way(link))
        next_frame(link)
        counts.append(under_way(link))

    assert max(counts) <= 3
    assert link.settled().drops == {}


def test_a_consumer_that_does_not_take_stops_the_flow(open_link: Open) -> None:
    link = open_link(queue=8, window=3).join()

    fill(link)

    assert under_way(link) == (0 if link.kind == "inproc" else 3)
    assert link.stats().depth == 8


def test_a_frame_that_was_taken_may_be_booked_as_dropped(open_link: Open) -> None:
    link = open_link(queue=8, window=8).join()
    link.put(frame(0), frame(1), frame(2), END)
    until_end(link)

    link.inbox.dropped("late")
    link.inbox.dropped("quarantined")

    eventually(lambda: sum(link.stats().drops.values()) == 2)
    assert link.settled().drops == {"late": 1, "quarantined": 1}
    assert link.stats().consumed == 1


def test_age_is_measured_from_capture_to_taking(open_link: Open) -> None:
    link = open_link(queue=8, window=8).join()

    link.put(frame(0, age_ms=25), END)
    until_end(link)

    age = link.settled().age
    assert (age.count, age.sum_ns) == (1, 25 * MS)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("policy", ["block", "drop_oldest", "latest"])
def test_the_books_balance_at_every_moment(open_link: Open, policy: str, seed: int) -> None:
    link = open_link(queue=3, policy=policy, window=2, max_age_ms=40).join()
    rng = random.Random(seed)
    taken = 0
    for seq in range(150):
        taken += _one_step(link, rng, seq)
        stats = link.stats()  # balanced
        assert stats.in_flight - stats.depth <= 2
    link.put(END)
    taken += len(seqs(until_end(link)))

    link.settled()
    eventually(lambda: link.stats().consumed == taken)  # the last re-booking


def _one_step(link: Link, rng: random.Random, seq: int) -> int:
    """Something happens to the link; how many frames more are used now."""
    if rng.random() < 0.05:
        link.epochs.raise_to("cam", link.epochs.current("cam") + 1)
        link.outbox.flush_epoch("cam", link.epochs.current("cam"))
    if rng.random() < 0.55:
        epoch, age_ms = link.epochs.current("cam"), rng.randrange(50)
        link.outbox.put(frame(seq, epoch=epoch, age_ms=age_ms), never, timeout_s=0)
    elif isinstance(link.inbox.take(), Frame):
        if rng.random() < 0.7:
            return 1
        link.inbox.dropped("quarantined")
    return 0


# ---- the end


def test_closed_is_seen_when_everything_has_been_taken(open_link: Open) -> None:
    link = open_link(queue=8, window=1).join()
    link.put(frame(0), frame(1), END)
    link.outbox.close()

    assert not link.inbox.closed
    link.take()
    link.take()
    assert not link.inbox.closed
    assert link.take() == END

    eventually(lambda: link.inbox.closed)
    assert link.inbox.take() is None
    assert link.settled().drops == {}


def test_what_an_abandoned_edge_holds_is_lost(open_link: Open) -> None:
    link = open_link(queue=8, window=2).join()
    link.put(*map(frame, range(6)))

    link.outbox.abandon()
    link.put(frame(6))

    assert link.stats().drops == {"peer_lost": 7}
    assert link.stats().in_flight == 0


# ---- the same bytes


RNG = np.random.default_rng(1)
ARRAYS = {
    "yuv420p": RNG.integers(0, 256, (12 * 3 // 2, 16), np.uint8),
    "rgb24": RNG.integers(0, 256, (12, 16, 3), np.uint8),
    "gray": RNG.random((12, 16), np.float32),
    "empty": np.empty(0, np.uint8),
    "packet": RNG.integers(0, 256, 7001, np.uint8),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_pixels_caps_and_records_arrive_as_they_were(open_link: Open, name: str) -> None:
    link = open_link(queue=8, window=8).join()
    array = ARRAYS[name]
    caps = Caps(
        media="event" if name == "empty" else "video", pix_fmt=name, dtype=str(array.dtype),
        width=16, height=12, device="cpu", colorspace="bt709", color_range="limited",
        codec="h264", extradata=b"\x00\x01",
    )  # fmt: skip
    stranger = UnknownRecord("OfAnotherWorker", msgspec.msgpack.encode({"a": 1}))
    records = (Note("here", (1.5, -2.0)), stranger)

    link.put(Frame(array, caps, frame(3).stamp, records))
    came = link.take()

    assert isinstance(came, Frame)
    assert came.data.dtype == array.dtype
    assert came.data.shape == array.shape
    assert came.data.tobytes() == array.tobytes()
    assert not came.data.flags.writeable
    assert came.caps == caps
    assert came.records == records


def test_a_stamp_keeps_everything_and_its_times_follow_the_clock(open_link: Open) -> None:
    """The monotonic clock of another host shows another time."""
    link = open_link()
    if link.edge.link == "tcp":
        link.clock = FakeClock(5 * START_NS)  # of the consumer, which joins now
    stamp = Stamp(
        "cam", 12345, Fraction(1001, 30000), START_NS - 7 * MS, 9, epoch=4,
        deadline_ns=START_NS + 90 * MS, synthetic=True, trace="00-ab-cd-01",
    )  # fmt: skip

    link.put(Frame(np.zeros((8, 8), np.uint8), frame(0).caps, stamp))

    now_ns = link.clock.now_ns()
    assert next_frame(link.join()).stamp == msgspec.structs.replace(
        stamp, capture_ns=now_ns - 7 * MS, deadline_ns=now_ns + 90 * MS
    )


def test_frames_may_change_their_size_midway(open_link: Open) -> None:
    link = open_link(queue=32, window=4).join()
    sizes = [8, 8, 200, 8, 64, 300, 300, 8]
    frames = [
        Frame(RNG.integers(0, 256, (size, size), np.uint8), frame(0).caps, frame(seq).stamp)
        for seq, size in enumerate(sizes)
    ]
    link.put(*frames)

    came = [next_frame(link) for _ in frames]

    for sent, received in zip(frames, came, strict=True):
        np.testing.assert_array_equal(received.data, sent.data)


def test_an_array_that_is_not_contiguous_arrives_whole(open_link: Open) -> None:
    link = open_link().join()
    array = RNG.integers(0, 256, (16, 16), np.uint8)[::2, ::-1]

    link.put(Frame(array, frame(0).caps, frame(0).stamp))

    np.testing.assert_array_equal(next_frame(link).data, array)


def fill(link: Link) -> None:
    """Put frames until the window and the queue are full."""
    window = 0 if link.kind == "inproc" else link.edge.window
    link.put(*map(frame, range(window)))
    eventually(lambda: under_way(link) == window)
    link.put(*(frame(window + index) for index in range(link.edge.queue)))


def under_way(link: Link) -> int:
    """Frames that have left the outbox and of which nothing is known yet."""
    stats = link.stats()
    return stats.in_flight - stats.depth


def until_end(link: Link) -> list[Item]:
    """Everything up to and with the end of the stream."""
    items = [link.take()]
    while items[-1] != END:
        items.append(link.take())
    return items


def next_frame(link: Link) -> Frame:
    """The next frame; signals in front of it are thrown away."""
    while not isinstance(item := link.take(), Frame):
        pass
    return item


def due(seq: int, left_ms: int) -> Frame:
    """A frame that must be used within `left_ms`."""
    made = frame(seq)
    stamp = msgspec.structs.replace(made.stamp, deadline_ns=START_NS + left_ms * MS)
    return Frame(made.data, made.caps, stamp)


def mark(seq: int, stream_id: str = "cam") -> Watermark:
    """The watermark that stands for that frame."""
    return Watermark(stream_id, seq, frame(seq).stamp.pts_ns)


def seqs(items: Iterable[Item]) -> list[int]:
    return [item.stamp.seq for item in items if isinstance(item, Frame)]


def signals(items: Iterable[Item]) -> list[Signal]:
    return [item for item in items if not isinstance(item, Frame)]
