"""Nodes with several driving ports: which frames go together, whatever comes first."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping

from engine.contract import Mode
from engine.frame import Discontinuity, Frame, Item, Signal, StreamEnd, Watermark
from engine.plan import Plan
from engine.runtime.work import Side, Work
from engine.spec import JoinSpec
from engine.timing import Place, Stamp
from engine.transport.link import Inbox

NOWHERE: Place = (-1, -1)  # before every stream
HELD = 32  # frames a join holds per port before it stops taking (file) or forgets (live)


def frames_held(plan: Plan) -> int:
    """How many frames a port of a join must be able to hold.

    A batch on the way to its other port first has to fill up: a join that stopped taking before
    would have the source wait for ever.
    """
    return HELD + sum(node.batch.max_size for node in plan.nodes.values() if node.batch)


def streams_behind(plan: Plan, node: str) -> frozenset[str]:
    """The streams, as far as the plan names them, that reach what `node` sends."""
    found: set[str] = set()
    seen: set[str] = set()
    todo = [node]
    while todo:
        current = todo.pop()
        if current in seen:
            continue
        seen.add(current)
        edges = plan.inputs_of(current)
        todo.extend(edge.producer for edge in edges)
        if not edges:
            found.update(plan.nodes[current].streams or (current,))
    return frozenset(found)


class Queues:
    """What several ports have received and not yet given away, per stream; marks and ends kept."""

    def __init__(self, inboxes: Mapping[str, Inbox], mode: Mode, plan: Plan | None) -> None:
        self.inboxes = inboxes
        self.held = frames_held(plan) if plan else HELD
        self._may_bring = {
            name: streams_behind(plan, inbox.edge.producer) if plan else frozenset[str]()
            for name, inbox in inboxes.items()
        }
        self.live = mode == "live"
        self.items: dict[str, dict[str, deque[Frame]]] = {name: {} for name in inboxes}
        self.mark: dict[str, dict[str, Place]] = {name: {} for name in inboxes}
        self.pts_mark: dict[str, dict[str, int]] = {name: {} for name in inboxes}
        self.ended: dict[str, dict[str, StreamEnd]] = {name: {} for name in inboxes}
        self.signals: deque[Signal] = deque()
        self._told: dict[str, Place] = {}
        # (port, stream) that may yet tell a break which another port has told -> that port, and
        # when its first frame since was captured.
        self._echoes: dict[tuple[str, str], tuple[str, float]] = {}
        self.beside: frozenset[str] = frozenset()  # ports whose breaks are no one else's matter
        self.broken_beside: list[tuple[str, str]] = []  # (port, stream) of those

    def pull(self) -> None:
        for name, inbox in self.inboxes.items():
            while self.live or sum(map(len, self.items[name].values())) < self.held:
                item = inbox.take()
                if item is None:
                    break
                self._file(name, item)

    def _file(self, name: str, item: Item) -> None:
        if isinstance(item, Frame):
            stream_id = item.stamp.stream_id
            if self._echoes:
                self._limit_echoes(name, item.stamp)
            queue = self.items[name].setdefault(stream_id, deque())
            self._make_room(name, queue, item)
            queue.append(item)
            self._mark(name, stream_id, item.stamp.place)
        elif isinstance(item, Watermark):
            self._mark(name, item.stream_id, (item.seq, item.pts_ns))
        elif isinstance(item, StreamEnd):
            self.ended[name][item.stream_id] = item
        else:
            self._break(name, item)

    def _make_room(self, name: str, queue: deque[Frame], frame: Frame) -> None:
        """Live: joins must not hoard, neither for a partner that never came nor of an old count."""
        if not self.live:
            return
        if queue and frame.stamp.seq < queue[-1].stamp.seq:  # the source counts from 0 again
            while queue:
                queue.popleft()
                self.inboxes[name].dropped("peer_lost")
        elif len(queue) >= self.held:
            queue.popleft()
            self.inboxes[name].dropped("queue_full")

    def _break(self, name: str, item: Discontinuity) -> None:
        """After a break a source may count from 0 again: what its old count said is forgotten."""
        self.mark[name].pop(item.stream_id, None)
        self.pts_mark[name].pop(item.stream_id, None)
        if name in self.beside:
            self._break_beside(name, item.stream_id)
            return
        self._told.pop(item.stream_id, None)
        if self._echoes.pop((name, item.stream_id), None) is None:
            others = [other for other in self.inboxes if other != name]
            self._echoes |= {(other, item.stream_id): (name, math.inf) for other in others}
            self.signals.append(item)  # told once, though every port says it

    def _break_beside(self, name: str, stream_id: str) -> None:
        """What only accompanies the frames broke: they go on, without what it had said."""
        for _ in self.items[name].pop(stream_id, ()):
            self.inboxes[name].dropped("peer_lost")
        self._echoes.pop((name, stream_id), None)
        self.broken_beside.append((name, stream_id))

    def _limit_echoes(self, name: str, stamp: Stamp) -> None:
        """A port that gives frames captured since another's break did not break itself: what it
        says later is a break of its own.
        """
        for (port, stream_id), (teller, since_ns) in list(self._echoes.items()):
            if stream_id != stamp.stream_id:
                continue
            if teller == name and math.isinf(since_ns):
                self._echoes[port, stream_id] = (teller, stamp.capture_ns)
            elif port == name and stamp.capture_ns >= since_ns:
                del self._echoes[port, stream_id]

    def _mark(self, name: str, stream_id: str, place: Place) -> None:
        self.mark[name][stream_id] = max(self.mark[name].get(stream_id, NOWHERE), place)
        self.pts_mark[name][stream_id] = max(self.pts_mark[name].get(stream_id, -1), place[1])

    def streams(self) -> list[str]:
        """Every stream that any port knows, in order of appearance."""
        known: dict[str, None] = {}
        for name in self.inboxes:
            known.update(dict.fromkeys(self.mark[name]))
            known.update(dict.fromkeys(self.ended[name]))
        return list(known)

    def past(self, name: str, stream_id: str, place: Place) -> bool:
        """Whether nothing of that place in the stream or older can still come at that port."""
        return (
            stream_id in self.ended[name]
            or self.inboxes[name].closed
            or self._never(name, stream_id)
            or self.mark[name].get(stream_id, NOWHERE) >= place
        )

    def over(self, stream_id: str) -> StreamEnd | None:
        """The end of a stream, once every port has ended it and nothing of it is held.

        Live, a port that never saw the stream is not waited for: it may be another camera's.
        """
        if any(self.items[name].get(stream_id) for name in self.inboxes):
            return None
        ends = [self.ended[name].get(stream_id) for name in self.inboxes]
        known = [end for end in ends if end is not None]
        open_ports = [
            name
            for name, end in zip(self.inboxes, ends, strict=True)
            if end is None and not self.inboxes[name].closed and self._expects(name, stream_id)
        ]
        if not known or open_ports:
            return None
        return next((end for end in known if end.error), known[0])

    def _expects(self, name: str, stream_id: str) -> bool:
        """Whether something of the stream may be on its way to that port."""
        if self.live:
            return stream_id in self.mark[name]
        return not self._never(name, stream_id)

    def _never(self, name: str, stream_id: str) -> bool:
        """Whether the stream is of a source that feeds other ports only."""
        if stream_id in self._may_bring[name]:
            return False
        return any(stream_id in streams for streams in self._may_bring.values())

    def forget(self, stream_id: str) -> None:
        for name in self.inboxes:
            self.items[name].pop(stream_id, None)
            self.mark[name].pop(stream_id, None)
            self.pts_mark[name].pop(stream_id, None)
            self.ended[name].pop(stream_id, None)
            self._echoes.pop((name, stream_id), None)
        self._told.pop(stream_id, None)

    def advance(self, stream_id: str) -> Watermark | None:
        """A mark for downstream, when all ports have moved on without anything to process."""
        if any(self.items[name].get(stream_id) for name in self.inboxes):
            return None
        marks = [
            self.mark[name].get(stream_id, NOWHERE)
            for name, inbox in self.inboxes.items()
            if self._expects(name, stream_id)
            and stream_id not in self.ended[name]
            and not inbox.closed
        ]
        if not marks or min(marks) <= self._told.get(stream_id, NOWHERE):
            return None
        seq, pts_ns = self._told[stream_id] = min(marks)
        return Watermark(stream_id, seq, pts_ns)

    @property
    def finished(self) -> bool:
        held = any(queue for table in self.items.values() for queue in table.values())
        ends = any(self.ended.values())
        closed = all(inbox.closed for inbox in self.inboxes.values())
        return closed and not held and not ends and not self.signals


class ManyInputs:
    """Several driving ports. Subclasses say which frames go together."""

    def __init__(self, queues: Queues, side: Side) -> None:
        self._queues = queues
        self._inboxes = queues.inboxes
        self._side = side

    def next(self, now_ns: int) -> Work | Signal | None:
        if not self._side.refresh():
            return None
        queues = self._queues
        queues.pull()
        if queues.signals:
            return queues.signals.popleft()
        for stream_id in queues.streams():
            work = self._match(stream_id)
            if work is not None:
                work.arguments.update(self._side.arguments)
                return work
            end = queues.over(stream_id)
            if end is not None:
                queues.forget(stream_id)
                self._forget(stream_id)
                return end
            mark = queues.advance(stream_id)
            if mark is not None:
                return mark
        return None

    def _match(self, stream_id: str) -> Work | None:
        raise NotImplementedError

    def _forget(self, stream_id: str) -> None:
        """Drop what a subclass keeps of a stream that has ended."""

    def wait_ns(self, now_ns: int) -> int | None:
        return None

    @property
    def finished(self) -> bool:
        return self._queues.finished

    @property
    def closed(self) -> bool:
        return self.finished and self._side.closed


class MergeInputs(ManyInputs):
    """Optional ports: one frame a call. File: in the order of the source; live: as it comes."""

    def _match(self, stream_id: str) -> Work | None:
        queues = self._queues
        heads = [
            (queue[0].stamp.place, name)
            for name in self._inboxes
            if (queue := queues.items[name].get(stream_id))
        ]
        if not heads:
            return None
        place, name = min(heads)
        others = [other for other in self._inboxes if other != name]
        if not queues.live and not all(queues.past(other, stream_id, place) for other in others):
            return None
        frame = queues.items[name][stream_id].popleft()
        arguments = {**dict.fromkeys(others), name: frame}
        return Work(arguments, [(self._inboxes[name], frame)])


class JoinInputs(ManyInputs):
    """Required ports: one frame each. `exact` by seq, `nearest` by pts, `latest` by the first.

    Under `nearest` and `latest` an optional port that has nothing gives None; live it is never
    waited for. Where it breaks, because a worker on its way was replaced, its last frame is
    forgotten and the others go on: a film is not cut in two for want of a verdict.
    """

    def __init__(
        self, queues: Queues, join: JoinSpec, side: Side, optional: frozenset[str] = frozenset()
    ) -> None:
        super().__init__(queues, side)
        self._optional = optional
        self._policy = join.policy
        self._tolerance_ns = int(join.tolerance_ms * 1e6)
        self._first = next(iter(queues.inboxes))
        if join.policy != "exact":
            queues.beside = optional - {self._first}
        self._last: dict[tuple[str, str], Frame] = {}
        self._served: dict[tuple[str, str], Stamp] = {}

    def _match(self, stream_id: str) -> Work | None:
        if self._policy == "exact":
            return self._match_exact(stream_id)
        for key in self._queues.broken_beside:
            self._last.pop(key, None)
        self._queues.broken_beside.clear()
        return self._match_around_first(stream_id)

    def _forget(self, stream_id: str) -> None:
        for name in self._inboxes:
            self._last.pop((name, stream_id), None)
            self._served.pop((name, stream_id), None)

    def _match_exact(self, stream_id: str) -> Work | None:
        queues = self._queues
        while True:
            heads = {
                name: queue[0].stamp.place
                for name in self._inboxes
                if (queue := queues.items[name].get(stream_id))
            }
            if not heads:
                return None
            oldest = min(heads.values())
            missing = [name for name in self._inboxes if heads.get(name) != oldest]
            if not missing:
                return self._work({n: queues.items[n][stream_id].popleft() for n in heads})
            if not all(queues.past(name, stream_id, oldest) for name in missing):
                return None
            for name, place in heads.items():
                if place == oldest:  # its partner was dropped elsewhere and will never come
                    queues.items[name][stream_id].popleft()
                    self._inboxes[name].dropped("unmatched")

    def _match_around_first(self, stream_id: str) -> Work | None:
        firsts = self._queues.items[self._first].get(stream_id) or deque()
        others = [name for name in self._inboxes if name != self._first]
        while True:
            reach_ns = self._reach_ns(stream_id, firsts)
            for name in others:
                self._drop_older(name, stream_id, reach_ns)
            if not firsts or not all(self._decided(n, stream_id, reach_ns) for n in others):
                return None
            first = firsts.popleft()
            partners = {name: self._partner(name, stream_id, reach_ns) for name in others}
            chosen = {name: frame for name, frame in partners.items() if frame is not None}
            absent = partners.keys() - chosen.keys()
            if absent <= self._optional:
                return self._work({**chosen, self._first: first}, absent)
            self._inboxes[self._first].dropped("unmatched")

    def _reach_ns(self, stream_id: str, firsts: deque[Frame]) -> float:
        """The pts of the frame that looks for partners, or what the next one will be beyond."""
        if firsts:
            return firsts[0].stamp.pts_ns
        queues = self._queues
        over = stream_id in queues.ended[self._first] or self._inboxes[self._first].closed
        if over or (queues.live and self._policy == "latest"):
            return math.inf
        return queues.pts_mark[self._first].get(stream_id, -1)

    def _drop_older(self, name: str, stream_id: str, reach_ns: float) -> None:
        """Forget what no frame from `reach_ns` on would take, so that nobody waits for room."""
        queue = self._queues.items[name].get(stream_id) or deque()
        if self._policy == "latest":
            while queue and queue[0].stamp.pts_ns <= reach_ns:
                self._pass_over(name, self._last.get((name, stream_id)))
                self._last[name, stream_id] = queue.popleft()
            return
        while len(queue) > 1 and queue[1].stamp.pts_ns <= reach_ns:
            self._pass_over(name, queue.popleft())
        while queue and queue[0].stamp.pts_ns < reach_ns - self._tolerance_ns:
            self._pass_over(name, queue.popleft())

    def _pass_over(self, name: str, frame: Frame | None) -> None:
        """A frame that will serve no more; one that never did is counted."""
        if frame is None:
            return
        if self._served.get((name, frame.stamp.stream_id)) is not frame.stamp:
            self._inboxes[name].dropped("unmatched")

    def _decided(self, name: str, stream_id: str, wanted_ns: float) -> bool:
        """Whether no better partner can still come."""
        queues = self._queues
        if stream_id in queues.ended[name] or queues.inboxes[name].closed:
            return True
        if queues.live and self._policy == "latest":
            return name in self._optional or (name, stream_id) in self._last
        return queues.pts_mark[name].get(stream_id, -1) >= wanted_ns

    def _partner(self, name: str, stream_id: str, wanted_ns: float) -> Frame | None:
        if self._policy == "latest":
            return self._last.get((name, stream_id))
        queue = self._queues.items[name].get(stream_id) or deque()
        near = min(queue, key=lambda frame: abs(frame.stamp.pts_ns - wanted_ns), default=None)
        if near is None or abs(near.stamp.pts_ns - wanted_ns) > self._tolerance_ns:
            return None
        return near

    def _work(self, frames: dict[str, Frame], absent: Iterable[str] = ()) -> Work:
        """The frame that leads comes last; a partner that serves again is not booked again."""
        pairs = []
        for name, frame in frames.items():
            key = name, frame.stamp.stream_id
            if self._served.get(key) is not frame.stamp:
                self._served[key] = frame.stamp
                pairs.append((self._inboxes[name], frame))
        return Work({**frames, **dict.fromkeys(absent)}, pairs)
