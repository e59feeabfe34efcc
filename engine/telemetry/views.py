"""What a snapshot says, for people and for machines: totals, percentiles, plain data."""

from __future__ import annotations

from typing import Any

import msgspec

from engine.telemetry.stats import EdgeStats, Histogram, NodeStats, RunSnapshot

PERCENTS = (50, 95, 99)


def sources(snapshot: RunSnapshot) -> list[str]:
    """The nodes that nothing feeds."""
    fed = {name.partition("->")[2].partition(".")[0] for name in snapshot.edges}
    return [name for name in snapshot.nodes if name not in fed]


def sinks(snapshot: RunSnapshot) -> list[str]:
    """The nodes that feed nothing."""
    feeding = {name.partition(".")[0] for name in snapshot.edges}
    return [name for name in snapshot.nodes if name not in feeding]


def latencies(snapshot: RunSnapshot) -> dict[str, Histogram]:
    """Ages at the ends of the graph: by sink, or by its inputs where it has several."""
    found: dict[str, Histogram] = {}
    for name in sinks(snapshot):
        inputs = {
            edge.edge.partition("->")[2]: edge.age
            for edge in snapshot.edges.values()
            if edge.edge.partition("->")[2].partition(".")[0] == name
        }
        found |= inputs if len(inputs) > 1 else {name: snapshot.nodes[name].age}
    return found


def frames_read(snapshot: RunSnapshot) -> int:
    """Frames that the sources gave, before any drop."""
    return sum(snapshot.nodes[name].frames for name in sources(snapshot))


def per_second(count: int, snapshot: RunSnapshot) -> float:
    """Over the whole run."""
    return count / snapshot.seconds if snapshot.seconds > 0 else 0.0


def records_by_class(snapshot: RunSnapshot) -> dict[str, int]:
    """How many records of each class were found. The same record is seen by many nodes on its way,
    so the node that saw the most counts. What sources note (a packet's times) was not found.
    """
    found: dict[str, int] = {}
    for name in snapshot.nodes.keys() - set(sources(snapshot)):
        for record, count in snapshot.nodes[name].records.items():
            found[record] = max(found.get(record, 0), count)
    return dict(sorted(found.items()))


def drops_by_cause(snapshot: RunSnapshot) -> dict[str, int]:
    """Over all edges."""
    total: dict[str, int] = {}
    for edge in snapshot.edges.values():
        for cause, count in edge.drops.items():
            if count:
                total[cause] = total.get(cause, 0) + count
    return total


def plain(snapshot: RunSnapshot) -> dict[str, Any]:
    """The whole snapshot as plain data; the key names the unit."""
    frames = frames_read(snapshot)
    return {
        "graph": snapshot.graph,
        "mode": snapshot.mode,
        "page": snapshot.page,
        "seconds": round(snapshot.seconds, 3),
        "frames": frames,
        "fps": round(per_second(frames, snapshot), 2),
        "latency_ms": {name: percentiles(age) for name, age in latencies(snapshot).items()},
        "drops": drops_by_cause(snapshot),
        "records": records_by_class(snapshot),
        "nodes": {name: _node(node, snapshot) for name, node in snapshot.nodes.items()},
        "edges": {name: _edge(edge) for name, edge in snapshot.edges.items()},
        "workers": msgspec.to_builtins(snapshot.workers),
        "events": msgspec.to_builtins(snapshot.events),
    }


def percentiles(histogram: Histogram) -> dict[str, float] | None:
    """In milliseconds; None where nothing was measured."""
    if not histogram.count:
        return None
    return {f"p{percent}": round(histogram.percentile_ms(percent), 3) for percent in PERCENTS}


def _node(node: NodeStats, snapshot: RunSnapshot) -> dict[str, Any]:
    return {
        "node": node.node,
        "worker": node.worker,
        "device": node.device,
        "state": node.state,
        "frames": node.frames,
        "fps": round(node.fps, 2),
        "mean_fps": round(per_second(node.frames, snapshot), 2),
        "busy_ms": percentiles(node.busy),
        "age_ms": percentiles(node.age),
        "quarantined": node.quarantined,
        "restarts": node.restarts,
        "streams": node.streams,
        "records": node.records,
        "error": node.error,
    }


def _edge(edge: EdgeStats) -> dict[str, Any]:
    return {
        "edge": edge.edge,
        "link": edge.link,
        "policy": edge.policy,
        "sent": edge.sent,
        "consumed": edge.consumed,
        "in_flight": edge.in_flight,
        "drops": edge.drops,
        "depth": edge.depth,
        "peak_depth": edge.peak_depth,
        "bytes": edge.bytes,
        "slab_misses": edge.slab_misses,
        "malformed": edge.malformed,
        "fps": round(edge.fps, 2),
        "age_ms": percentiles(edge.age),
    }
