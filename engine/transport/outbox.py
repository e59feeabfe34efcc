"""The pending buffer of one edge at its producer: here the policy acts, here are the books."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping

from engine.clock import Clock
from engine.frame import Frame, Item
from engine.plan import PlannedEdge
from engine.spec import Cause
from engine.telemetry.stats import EdgeStats, Histogram
from engine.transport.link import tidied, watermark_of


class Outbox:
    """Bounded, thread-safe. `sent == consumed + drops + in flight` whenever `stats()` is taken.

    Frames count against `queue`; signals keep their place among them and take no room. A dropped
    frame leaves its watermark there. Between two frames only the newest watermark and the newest
    break of a stream are kept, so that signals are bounded too.
    """

    def __init__(self, edge: PlannedEdge, clock: Clock) -> None:
        self.edge = edge
        self.on_ready: Callable[[], None] = _nothing
        self._clock = clock
        self._changed = threading.Condition()
        self._items: deque[Item] = deque()
        self._pending = 0
        self._under_way = 0
        self._closing = False
        self._abandoned = False
        self._peak = 0
        self._sent = 0
        self._consumed = 0
        self._drops: dict[str, int] = {}
        self._bytes = 0
        self._age = Histogram()
        self.slab_misses = 0  # frames that found no free slot and went through the socket
        self.malformed = 0
        self.slab_error: str | None = None  # why shared memory could not be had

    # ---- the producer's side

    def put(self, item: Item, cancel: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """Add an item. Under `block` waits for room.

        False, and nothing is booked, when it was cancelled meanwhile (`wake` makes it look) or
        when there was no room for `timeout_s` seconds.
        """
        with self._changed:
            if isinstance(item, Frame):
                if not self._make_room(cancel, timeout_s):
                    return False
                self._append_frame(item)
            elif not self._abandoned:
                self._append_signal(item)
        self.on_ready()
        return True

    def refuse(self, frame: Frame, cause: Cause) -> None:
        """Count a frame as sent and dropped without letting it in (flow limit at the entry)."""
        with self._changed:
            self._sent += 1
            self._drop(cause)

    def close(self) -> None:
        """Nothing more will be put."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self.on_ready()

    def abandon(self) -> None:
        """The consumer will never come back: what waits and what is still put is `peer_lost`."""
        with self._changed:
            self._abandoned = True
            self._drop("peer_lost", self._pending + self._under_way)
            self._pending = self._under_way = 0
            self._items.clear()
            self._changed.notify_all()
        self.on_ready()

    def wake(self) -> None:
        """Have a waiting `put` look at its `cancel` again."""
        with self._changed:
            self._changed.notify_all()

    def flush_epoch(self, stream_id: str, epoch: int) -> None:
        """Drop waiting frames of the stream that are older than `epoch`."""
        with self._changed:
            for index, item in enumerate(self._items):
                if not isinstance(item, Frame) or item.stamp.stream_id != stream_id:
                    continue
                if item.stamp.epoch < epoch:
                    self._items[index] = watermark_of(item)
                    self._pending -= 1
                    self._drop("stale_epoch")
            self._items = deque(tidied(self._items))
            self._changed.notify_all()

    # ---- the side of whoever takes the items on

    def take(self, *, frames: bool = True, more: bool = False) -> Item | None:
        """The next item, or None. With `frames=False` (no credit) only a signal at the head.

        Who will go on until it gets None says `more`: a producer that waits for room is then woken
        when half of the queue is free or at the end, not for every frame.
        """
        with self._changed:
            if not self._items or (not frames and isinstance(self._items[0], Frame)):
                if more:
                    self._changed.notify()
                return None
            item = self._items.popleft()
            if isinstance(item, Frame):
                self._pending -= 1
                self._under_way += 1
                if not more or self._pending == self.edge.queue // 2:
                    self._changed.notify()
            return item

    def settle(
        self, consumed: int, dropped: Mapping[str, int], age: Histogram | None = None
    ) -> None:
        """What became of frames that were taken. A negative `consumed` re-books earlier ones."""
        with self._changed:
            self._consumed += consumed
            for cause, count in dropped.items():
                self._drops[cause] = self._drops.get(cause, 0) + count
            self._under_way -= consumed + sum(dropped.values())
            if age is not None:
                self._age.merge(age)

    def consumed(self, frame: Frame) -> None:
        """One frame that was taken is handed to `process` now."""
        with self._changed:
            self._consumed += 1
            self._under_way -= 1
            self._age.add(self._clock.now_ns() - frame.stamp.capture_ns)

    def lost(self) -> None:
        """Everything under way went with its consumer's process."""
        with self._changed:
            if self._under_way:
                self._drop("peer_lost", self._under_way)
            self._under_way = 0

    @property
    def closed(self) -> bool:
        """Closed by the producer, and everything has been taken."""
        with self._changed:
            return self._closing and not self._items

    @property
    def abandoned(self) -> bool:
        """The consumer will never come back."""
        return self._abandoned

    def stats(self) -> EdgeStats:
        with self._changed:
            return EdgeStats(
                edge=self.edge.id,
                link=self.edge.link,
                policy=self.edge.policy,
                sent=self._sent,
                consumed=self._consumed,
                in_flight=self._pending + self._under_way,
                drops=dict(self._drops),
                depth=self._pending,
                peak_depth=self._peak,
                bytes=self._bytes,
                slab_misses=self.slab_misses,
                malformed=self.malformed,
                age=Histogram(dict(self._age.bins), self._age.count, self._age.sum_ns),
            )

    # ---- with the lock held

    def _make_room(self, cancel: Callable[[], bool], timeout_s: float | None) -> bool:
        policy = self.edge.policy
        if policy == "block":
            self._changed.wait_for(
                lambda: self._pending < self.edge.queue or self._abandoned or cancel(), timeout_s
            )
            return not cancel() and (self._pending < self.edge.queue or self._abandoned)
        limit = 1 if policy == "latest" else self.edge.queue
        while self._pending >= limit:
            self._drop_oldest()
        return True

    def _drop_oldest(self) -> None:
        """The first frame becomes a mark; what now lies in front of the second is tidied."""
        run: list[Item] = []
        while not isinstance(self._items[0], Frame):
            run.append(self._items.popleft())
        frame = self._items.popleft()
        assert isinstance(frame, Frame)
        run.append(watermark_of(frame))
        while self._items and not isinstance(self._items[0], Frame):
            run.append(self._items.popleft())
        self._items.extendleft(reversed(tidied(run)))
        self._pending -= 1
        self._drop("queue_full")

    def _append_frame(self, frame: Frame) -> None:
        self._sent += 1
        if self._abandoned:
            self._drop("peer_lost")
            return
        self._pending += 1
        self._bytes += frame.nbytes
        self._peak = max(self._peak, self._pending)
        self._items.append(frame)

    def _append_signal(self, item: Item) -> None:
        run = [item]
        while self._items and not isinstance(self._items[-1], Frame):
            run.append(self._items.pop())
        self._items.extend(tidied(run[::-1]))

    def _drop(self, cause: str, count: int = 1) -> None:
        if count:
            self._drops[cause] = self._drops.get(cause, 0) + count


def _nothing() -> None:
    """Nobody is listening yet."""
