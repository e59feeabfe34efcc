"""Snapshots as Prometheus metrics, and back again for `frameloom top`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from engine.errors import EngineError
from engine.spec import CAUSES
from engine.telemetry.stats import (
    GROWTH,
    SMALLEST_NS,
    EdgeStats,
    Histogram,
    NodeStats,
    RunSnapshot,
    WorkerStats,
)

PREFIX = "frameloom"
BOUNDS_MS = (
    0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 40.0, 60.0, 80.0,
    100.0, 150.0, 200.0, 300.0, 500.0, 750.0, 1000.0, 2000.0, 5000.0, 10_000.0,
)  # fmt: skip
STATES = ("starting", "running", "retrying", "open_circuit", "failed", "finished")

# name, help, field of the statistics: each a counter or a gauge per node, edge or worker
NODE_COUNTERS = (
    ("frames", "Frames handed to process; for a source: read", "frames"),
    ("quarantined", "Frames that made process raise", "quarantined"),
    ("restarts", "Restarts after an error or with the worker", "restarts"),
)
NODE_GAUGES = (
    ("fps", "Frames per second over the last seconds", "fps"),
    ("streams", "Streams alive in a source", "streams"),
)
EDGE_COUNTERS = (
    ("sent", "Frames that the producer gave", "sent"),
    ("consumed", "Frames handed to the consumer", "consumed"),
    ("bytes", "Pixel bytes sent", "bytes"),
    ("slab_misses", "Frames copied through the socket for want of a slot", "slab_misses"),
    ("malformed", "Messages refused", "malformed"),
)
EDGE_GAUGES = (
    ("fps", "Frames per second over the last seconds", "fps"),
    ("in_flight", "Frames sent and not yet consumed or dropped", "in_flight"),
    ("queue_depth", "Frames waiting at the producer", "depth"),
    ("queue_peak", "Most frames that ever waited at the producer", "peak_depth"),
)
WORKER_COUNTERS = (
    ("restarts", "Restarts of the process", "restarts"),
    ("cpu_seconds", "Processor time", "cpu_seconds"),
    ("malformed", "Messages that named no edge of the process", "malformed"),
    ("refused", "Connections with an unknown key", "refused"),
)
WORKER_GAUGES = (
    ("rss_bytes", "Resident memory", "rss_bytes"),
    ("threads", "Threads", "threads"),
)


def metrics_text(snapshot: RunSnapshot) -> bytes:
    """The answer to a scrape, in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Snapshot(snapshot))
    return bytes(generate_latest(registry))


class _Snapshot(Collector):
    """One moment, as prometheus_client asks for it."""

    def __init__(self, snapshot: RunSnapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterable[Metric]:
        snapshot = self._snapshot
        run = InfoMetricFamily(f"{PREFIX}_run", "The graph that runs")
        run.add_metric([], {"graph": snapshot.graph, "mode": snapshot.mode})
        seconds = GaugeMetricFamily(f"{PREFIX}_run_seconds", "Time since the run began")
        seconds.add_metric([], snapshot.seconds)
        yield from (run, seconds)
        yield from _of_nodes(snapshot.nodes)
        yield from _of_edges(snapshot.edges)
        yield from _of_workers(snapshot.workers)


def _of_nodes(nodes: Mapping[str, NodeStats]) -> Iterator[Metric]:
    yield from _plain("node", nodes, NODE_COUNTERS, NODE_GAUGES)
    yield _histogram("node_busy", "Time inside process", "node", nodes, "busy")
    yield _histogram("node_age", "From capture to the end of process", "node", nodes, "age")
    info = InfoMetricFamily(f"{PREFIX}_node", "Where a node runs", labels=["node"])
    state = GaugeMetricFamily(
        f"{PREFIX}_node_state", "1 for the state that a node is in", labels=["node", "state"]
    )
    records = CounterMetricFamily(
        f"{PREFIX}_node_records", "Records on frames that left", labels=["node", "record"]
    )
    for node in nodes.values():
        info.add_metric([node.node], {"worker": node.worker, "device": node.device})
        for name in STATES:
            state.add_metric([node.node, name], float(node.state == name))
        for record, count in node.records.items():
            records.add_metric([node.node, record], count)
    yield from (info, state, records)


def _of_edges(edges: Mapping[str, EdgeStats]) -> Iterator[Metric]:
    yield from _plain("edge", edges, EDGE_COUNTERS, EDGE_GAUGES)
    yield _histogram("edge_age", "From capture to consumption", "edge", edges, "age")
    info = InfoMetricFamily(f"{PREFIX}_edge", "How an edge crosses", labels=["edge"])
    drops = CounterMetricFamily(f"{PREFIX}_edge_drops", "Frames dropped", labels=["edge", "cause"])
    for edge in edges.values():
        info.add_metric([edge.edge], {"link": edge.link, "policy": edge.policy})
        for cause in dict.fromkeys((*CAUSES, *edge.drops)):
            drops.add_metric([edge.edge, cause], edge.drops.get(cause, 0))
    yield from (info, drops)


def _of_workers(workers: Mapping[str, WorkerStats]) -> Iterator[Metric]:
    yield from _plain("worker", workers, WORKER_COUNTERS, WORKER_GAUGES)
    up = GaugeMetricFamily(f"{PREFIX}_worker_up", "1 while the process runs", labels=["worker"])
    for worker in workers.values():
        up.add_metric([worker.worker], float(worker.state == "running"))
    yield up


Fields = tuple[tuple[str, str, str], ...]


def _plain(
    kind: str, items: Mapping[str, Any], counters: Fields, gauges: Fields
) -> Iterator[Metric]:
    families = (
        *((CounterMetricFamily, f) for f in counters),
        *((GaugeMetricFamily, f) for f in gauges),
    )
    for family, (name, about, field) in families:
        metric = family(f"{PREFIX}_{kind}_{name}", about, labels=[kind])
        for key, item in items.items():
            metric.add_metric([key], getattr(item, field))
        yield metric


def _histogram(
    name: str, about: str, kind: str, items: Mapping[str, Any], field: str
) -> HistogramMetricFamily:
    metric = HistogramMetricFamily(f"{PREFIX}_{name}_seconds", about, labels=[kind])
    for key, item in items.items():
        histogram: Histogram = getattr(item, field)
        buckets = [(repr(ms / 1000), n) for ms, n in histogram.cumulative(BOUNDS_MS)]
        buckets.append(("+Inf", histogram.count))
        metric.add_metric([key], buckets, histogram.sum_ns / 1e9)
    return metric


# ---- and back -----------------------------------------------------------------------------------


def parse_metrics(text: str) -> RunSnapshot:
    """The snapshot that `metrics_text` made this of, as far as metrics tell; EngineError if it is
    something else. Percentiles are as wide as the buckets.
    """
    try:
        families = {family.name: family for family in text_string_to_metric_families(text)}
    except ValueError as error:
        raise EngineError(f"these are no Prometheus metrics: {error}") from error
    if f"{PREFIX}_run_seconds" not in families:
        raise EngineError(f"these are no metrics of {PREFIX}")
    run = _labels(families, "run_info")[0]
    snapshot = RunSnapshot(
        graph=run["graph"],
        mode=run["mode"],
        seconds=families[f"{PREFIX}_run_seconds"].samples[0].value,
    )
    for labels in _labels(families, "node_info"):
        stats = NodeStats(node=labels["node"], worker=labels["worker"], device=labels["device"])
        snapshot.nodes[stats.node] = stats
    for labels in _labels(families, "edge_info"):
        edge = msgspec.convert(labels, EdgeStats)
        snapshot.edges[edge.edge] = edge
    _read_plain(families, "node", snapshot.nodes, (*NODE_COUNTERS, *NODE_GAUGES))
    _read_plain(families, "edge", snapshot.edges, (*EDGE_COUNTERS, *EDGE_GAUGES))
    _read_histograms(families, "node_busy", "node", snapshot.nodes, "busy")
    _read_histograms(families, "node_age", "node", snapshot.nodes, "age")
    _read_histograms(families, "edge_age", "edge", snapshot.edges, "age")
    for sample in _samples(families, "node_state"):
        if sample.value:
            snapshot.nodes[sample.labels["node"]].state = sample.labels["state"]
    for sample in _samples(families, "edge_drops"):
        snapshot.edges[sample.labels["edge"]].drops[sample.labels["cause"]] = int(sample.value)
    return snapshot


def _samples(families: Mapping[str, Metric], name: str) -> list[Any]:
    family = families.get(f"{PREFIX}_{name}")
    return [] if family is None else list(family.samples)


def _labels(families: Mapping[str, Metric], name: str) -> list[dict[str, str]]:
    return [dict(sample.labels) for sample in _samples(families, name)]


def _read_plain(
    families: Mapping[str, Metric], kind: str, items: Mapping[str, Any], fields: Fields
) -> None:
    for name, _, field in fields:
        for sample in _samples(families, f"{kind}_{name}"):
            if not sample.name.endswith("_created"):
                item = items[sample.labels[kind]]
                setattr(item, field, type(getattr(item, field))(sample.value))


def _read_histograms(
    families: Mapping[str, Metric], name: str, kind: str, items: Mapping[str, Any], field: str
) -> None:
    below: dict[str, tuple[float, int]] = {}  # node or edge -> the bucket before: bound, count
    for sample in _samples(families, f"{name}_seconds"):
        key = sample.labels[kind]
        histogram: Histogram = getattr(items[key], field)
        if sample.name.endswith("_sum"):
            histogram.sum_ns = round(sample.value * 1e9)
        elif sample.name.endswith("_bucket"):
            bound, count = float(sample.labels["le"]), int(sample.value)
            low, seen = below.get(key, (0.0, 0))
            if count > seen:
                _put(histogram, low, bound, count - seen)
            below[key] = (bound, count)


def _put(histogram: Histogram, low_s: float, high_s: float, count: int) -> None:
    """The frames of one bucket, at its middle; those above the last bound, at that bound."""
    middle_s = low_s if math.isinf(high_s) else (low_s + high_s) / 2
    index = max(0, int(math.log(max(middle_s * 1e9 / SMALLEST_NS, 1.0)) / math.log(GROWTH)))
    histogram.bins[index] = histogram.bins.get(index, 0) + count
    histogram.count += count
