"""The producer's pending buffer: what may be left out, and the books among many threads."""

from __future__ import annotations

import random
import threading

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.clock import FakeClock
from engine.frame import Discontinuity, Frame, Item, StreamEnd, Watermark
from engine.telemetry.stats import EdgeStats
from engine.transport.epochs import EpochTable
from engine.transport.inproc import InprocInbox
from engine.transport.link import tidied
from engine.transport.outbox import Outbox
from tests.contract.ends import EDGE, START_NS, frame, never

streams = st.sampled_from("ab")
items = st.lists(
    st.one_of(
        st.builds(lambda name: frame(0, stream_id=name), streams),
        st.builds(Watermark, streams, st.integers(0, 9), st.just(0)),
        st.builds(Discontinuity, streams, st.sampled_from("XY")),
        st.builds(StreamEnd, streams),
    ),
    max_size=12,
)


def told(sequence: list[Item]) -> list[object]:
    """What a consumer knows at every frame and at the end, and the ends it has seen."""
    known: dict[str, list[Item]] = {"a": [], "b": []}
    story: list[object] = []
    for item in [*sequence, frame(9)]:
        if isinstance(item, Frame):
            story.append((item.stamp.stream_id, {name: list(news) for name, news in known.items()}))
            known = {"a": [], "b": []}
        elif isinstance(item, Watermark):
            news = known[item.stream_id]
            if news and isinstance(news[-1], Watermark):
                news.pop()
            news.append(item)
        else:
            news = known[item.stream_id]
            while isinstance(item, Discontinuity) and news and not isinstance(news[-1], StreamEnd):
                news.pop()
            news.append(item)
    return story


@given(items)
def test_tidying_loses_nothing_that_a_consumer_would_know(sequence: list[Item]) -> None:
    kept = tidied(sequence)
    assert told(kept) == told(sequence)
    assert tidied(kept) == kept


@given(items)
def test_between_two_frames_little_is_left(sequence: list[Item]) -> None:
    run = [item for item in tidied(sequence) if not isinstance(item, Frame)]
    frames = sum(isinstance(item, Frame) for item in sequence)
    ends = sum(isinstance(item, StreamEnd) for item in sequence)
    assert len(run) <= (frames + 1) * 2 * 2 + ends * 3


def start_all(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()


def join_all(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["block", "drop_oldest", "latest"])
def test_the_books_are_exact_among_many_threads(policy: str) -> None:
    """Four producers, a consumer that also re-books, and one who raises epochs."""
    epochs, clock, rng = EpochTable(), FakeClock(START_NS), random.Random(1)
    outbox = Outbox(msgspec.structs.replace(EDGE, policy=policy), clock)
    inbox = InprocInbox(outbox, epochs, clock)
    unbalanced: list[EdgeStats] = []

    def produce(name: str) -> None:
        for seq in range(100):
            outbox.put(frame(seq, stream_id=name, epoch=seq // 25), never)

    def consume() -> None:
        while not inbox.closed:
            if isinstance(inbox.take(), Frame) and rng.random() < 0.1:
                inbox.dropped("quarantined")

    def disturb() -> None:
        for epoch in range(1, 4):
            epochs.raise_to("p0", epoch)
            outbox.flush_epoch("p0", epoch)
            stats = outbox.stats()
            unbalanced.extend([stats] * (not stats.balanced))

    producers = [threading.Thread(target=produce, args=(f"p{n}",)) for n in range(4)]
    others = [threading.Thread(target=consume), threading.Thread(target=disturb)]
    start_all(producers + others)
    join_all(producers)
    outbox.close()
    join_all(others)
    stats = outbox.stats()
    assert unbalanced == []
    assert (stats.sent, stats.in_flight, stats.balanced) == (400, 0, True)


def test_abandoning_frees_a_blocked_producer() -> None:
    outbox = Outbox(msgspec.structs.replace(EDGE, queue=1), FakeClock())
    outbox.put(frame(0), never)
    done: list[bool] = []
    thread = threading.Thread(target=lambda: done.append(outbox.put(frame(1), never)))
    thread.start()
    outbox.abandon()
    thread.join(5)
    assert done == [True]
    stats = outbox.stats()
    assert (stats.sent, stats.in_flight, stats.drops) == (2, 0, {"peer_lost": 2})


def test_epochs_only_rise() -> None:
    epochs = EpochTable()
    epochs.raise_to("cam", 3)
    epochs.raise_to("cam", 2)
    assert (epochs.current("cam"), epochs.current("other")) == (3, 0)
    assert epochs.is_stale(frame(0, epoch=2).stamp)
    assert not epochs.is_stale(frame(0, epoch=3).stamp)
    assert not epochs.is_stale(frame(0, stream_id="other").stamp)


@pytest.mark.parametrize("taken", [1, 2, 3])
def test_who_takes_several_lets_a_blocked_producer_go_on_at_the_end(taken: int) -> None:
    """Also when credit runs out before half of the queue is free."""
    edge = msgspec.structs.replace(EDGE, queue=4, policy="block")
    box = Outbox(edge, FakeClock(START_NS))
    for seq in range(4):
        box.put(frame(seq), never)
    producer = threading.Thread(target=lambda: box.put(frame(4), never))
    producer.start()
    for _ in range(taken):
        assert isinstance(box.take(more=True), Frame)
    assert box.take(frames=False, more=True) is None
    producer.join(5)
    assert not producer.is_alive()
    assert box.stats().depth == 5 - taken
