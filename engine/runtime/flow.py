"""The flow limit at the entry of a live graph: how many frames of one stream may be inside."""

from __future__ import annotations

import threading
from collections import deque

from engine.plan import Plan

LOST_AFTER_NS = 1_000_000_000  # a frame nobody accounted for stops holding the gate after this


class FlowLimit:
    """Counts frames between a source and every node where their way ends. Thread-safe.

    The idea is MediaPipe's flow limiter: one frame in work and one waiting gives nearly full
    throughput at nearly the lowest latency, and work once begun is never thrown away half-done.
    """

    def __init__(self, plan: Plan) -> None:
        self._limit = plan.max_in_flight if plan.mode == "live" else None
        self._ends = {node: terminals(plan, node) for node in plan.nodes}
        self._lock = threading.Lock()
        self._inside: dict[str, deque[tuple[int, int]]] = {}
        self._progress: dict[str, dict[str, int]] = {}
        self._newest: dict[str, int] = {}  # the last frame let in

    @property
    def active(self) -> bool:
        return self._limit is not None

    def admit(self, node: str, stream_id: str, seq: int, now_ns: int) -> bool:
        """Whether a source may let this frame in; counts it when so."""
        if self._limit is None:
            return True
        with self._lock:
            inside = self._inside.setdefault(stream_id, deque())
            done = self._progress.get(stream_id, {})
            reached = min((done.get(end, -1) for end in self._ends[node]), default=seq)
            while inside and (inside[0][0] <= reached or now_ns - inside[0][1] > LOST_AFTER_NS):
                inside.popleft()
            if len(inside) >= self._limit:
                return False
            inside.append((seq, now_ns))
            self._newest[stream_id] = seq
            return True

    def done(self, node: str, stream_id: str, seq: int) -> None:
        """A terminal node has finished with everything of the stream up to `seq`.

        What is said of a former life of the source, which counted further, holds no gate open.
        """
        with self._lock:
            newest = self._newest.get(stream_id)
            if newest is None:
                return  # it has ended meanwhile, or begins in another worker
            progress = self._progress.setdefault(stream_id, {})
            progress[node] = max(progress.get(node, -1), min(seq, newest))

    def forget(self, stream_id: str) -> None:
        """The stream has ended at its source."""
        with self._lock:
            self._inside.pop(stream_id, None)
            self._progress.pop(stream_id, None)
            self._newest.pop(stream_id, None)


def terminals(plan: Plan, node: str) -> frozenset[str]:
    """The nodes without outputs that frames of `node` can reach."""
    ends: set[str] = set()
    seen: set[str] = set()
    todo = [node]
    while todo:
        current = todo.pop()
        if current in seen:
            continue
        seen.add(current)
        edges = [edge for edge in plan.outputs_of(current) if not edge.back_edge]
        if not edges:
            ends.add(current)
        todo.extend(edge.consumer for edge in edges)
    return frozenset(ends)
