"""Watches output, not only signs of life: who has work waiting and gets nothing done is stuck."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from engine.plan import Plan
from engine.runtime.messages import Heartbeat
from engine.telemetry.stats import EdgeStats, NodeStats

STALE_NS = 10_000_000_000  # a live source that gives nothing for so long is told once


@dataclass
class Progress:
    """How far a node had come, and since when."""

    frames: int
    since_ns: int
    told: bool = False


@dataclass(frozen=True)
class Finding:
    """A node that does not do what it should. STUCK: its worker is to be killed."""

    node: str
    code: Literal["STUCK", "STALE", "FRESH"]
    message: str


class Freshness:
    """Fed with every heartbeat. A node that waits for room downstream is not to blame."""

    def __init__(self, plan: Plan, stuck_ns: int) -> None:
        self._plan = plan
        self._stuck_ns = stuck_ns
        self._seen: dict[str, Progress] = {}

    def forget(self, worker: str) -> None:
        """The worker starts again: its nodes get their time anew."""
        for node in self._plan.nodes.values():
            if node.worker == worker:
                self._seen.pop(node.name, None)

    def look(self, beat: Heartbeat, edges: Mapping[str, EdgeStats], now_ns: int) -> list[Finding]:
        """What is to be said or done about a worker; `edges` are those of the whole graph."""
        findings = [
            Finding(
                node,
                "STUCK",
                f"`process` has not returned for {busy_ms / 1000:.0f} s; worker"
                f" '{beat.stats.worker}' is killed and started again",
            )
            for node, busy_ms in beat.stuck_ms.items()
            if busy_ms * 1e6 > self._stuck_ns
        ]
        return findings or [*self._look_at_output(beat, edges, now_ns)]

    def _look_at_output(
        self, beat: Heartbeat, edges: Mapping[str, EdgeStats], now_ns: int
    ) -> Iterator[Finding]:
        for name, stats in beat.nodes.items():
            before = self._seen.get(name)
            if before is None or stats.frames != before.frames or stats.state != "running":
                if before is not None and before.told and stats.frames != before.frames:
                    seconds = (now_ns - before.since_ns) / 1e9
                    yield Finding(name, "FRESH", f"frames come again after {seconds:.0f} s")
                self._seen[name] = Progress(stats.frames, now_ns)
                continue
            finding = self._judge(name, stats, edges, now_ns - before.since_ns)
            if finding is not None and not before.told:
                before.told = True
                yield finding

    def _judge(
        self, name: str, stats: NodeStats, edges: Mapping[str, EdgeStats], idle_ns: int
    ) -> Finding | None:
        inputs = self._plan.inputs_of(name)
        if not inputs:
            live = self._plan.mode == "live" and stats.streams > 0
            if live and idle_ns > STALE_NS and not self._held_up(name, edges):
                told = f"no frame from any stream for {idle_ns / 1e9:.0f} s"
                return Finding(name, "STALE", told)
            return None
        # A join may rightly wait for one input; with something on all of them it has no excuse.
        waiting = all(edges[edge.id].depth for edge in inputs if edge.arrival != "latest")
        if waiting and idle_ns > self._stuck_ns and not self._held_up(name, edges):
            worker = self._plan.nodes[name].worker
            told = f"frames wait and none was processed for {idle_ns / 1e9:.0f} s;"
            return Finding(name, "STUCK", f"{told} worker '{worker}' is killed and started again")
        return None

    def _held_up(self, name: str, edges: Mapping[str, EdgeStats]) -> bool:
        return any(
            edge.policy == "block" and edges[edge.id].depth >= edge.queue
            for edge in self._plan.outputs_of(name)
        )
