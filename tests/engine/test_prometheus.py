"""Metrics: what a scrape sees, and what `top` makes of it again."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from engine.errors import EngineError
from engine.telemetry.prometheus import BOUNDS_MS, metrics_text, parse_metrics
from engine.telemetry.stats import EdgeStats, Histogram
from engine.telemetry.views import (
    drops_by_cause,
    frames_read,
    latencies,
    percentiles,
    plain,
    records_by_class,
    sinks,
    sources,
)
from tests.engine.snapshots import EDGE, histogram, snapshot


def samples(text: bytes) -> dict[tuple[str, frozenset[str]], float]:
    """(name, label values) -> value."""
    return {
        (sample.name, frozenset(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


EXPECTED = {
    ("frameloom_run_seconds",): 4.0,
    ("frameloom_run_info", "g", "live"): 1.0,
    ("frameloom_node_frames_total", "find"): 90.0,
    ("frameloom_node_fps", "camera"): 29.5,
    ("frameloom_node_streams", "camera"): 2.0,
    ("frameloom_node_quarantined_total", "find"): 3.0,
    ("frameloom_node_restarts_total", "find"): 1.0,
    ("frameloom_node_info", "find", "main", "cuda:0"): 1.0,
    ("frameloom_node_state", "find", "open_circuit"): 1.0,
    ("frameloom_node_state", "find", "running"): 0.0,
    ("frameloom_node_records_total", "find", "Face"): 180.0,
    ("frameloom_node_busy_seconds_count", "find"): 3.0,
    ("frameloom_node_busy_seconds_sum", "find"): 0.017,
    ("frameloom_node_busy_seconds_bucket", "find", "0.005"): 2.0,
    ("frameloom_node_busy_seconds_bucket", "find", "0.01"): 3.0,
    ("frameloom_node_age_seconds_bucket", "find", "10.0"): 3.0,
    ("frameloom_node_age_seconds_bucket", "find", "+Inf"): 4.0,
    ("frameloom_edge_sent_total", EDGE): 100.0,
    ("frameloom_edge_consumed_total", EDGE): 90.0,
    ("frameloom_edge_in_flight", EDGE): 2.0,
    ("frameloom_edge_drops_total", EDGE, "late"): 5.0,
    ("frameloom_edge_drops_total", EDGE, "queue_full"): 3.0,
    ("frameloom_edge_drops_total", EDGE, "peer_lost"): 0.0,
    ("frameloom_edge_queue_depth", EDGE): 1.0,
    ("frameloom_edge_queue_peak", EDGE): 4.0,
    ("frameloom_edge_bytes_total", EDGE): 138_240_000.0,
    ("frameloom_edge_slab_misses_total", EDGE): 2.0,
    ("frameloom_edge_malformed_total", EDGE): 1.0,
    ("frameloom_edge_info", EDGE, "ipc", "drop_oldest"): 1.0,
    ("frameloom_worker_rss_bytes", "main"): float(1 << 28),
    ("frameloom_worker_cpu_seconds_total", "main"): 2.5,
    ("frameloom_worker_threads", "main"): 9.0,
    ("frameloom_worker_restarts_total", "main"): 1.0,
    ("frameloom_worker_up", "main"): 1.0,
}


@pytest.mark.parametrize("key", EXPECTED, ids=" ".join)
def test_a_scrape_has_the_figure(key: tuple[str, ...]) -> None:
    name, *labels = key
    assert samples(metrics_text(snapshot()))[name, frozenset(labels)] == pytest.approx(
        EXPECTED[key]
    )


def test_every_cause_is_there_before_it_happens() -> None:
    """A rate of a series that appears only with the first drop would miss that drop."""
    fresh = snapshot()
    fresh.edges[EDGE].drops = {}
    causes = {"late", "queue_full", "stale_epoch", "quarantined", "peer_lost"}
    found = samples(metrics_text(fresh))
    assert all(
        found["frameloom_edge_drops_total", frozenset((EDGE, cause))] == 0 for cause in causes
    )


def test_buckets_never_fall() -> None:
    found = snapshot()
    found.nodes["find"].age = histogram(*(1.7**n / 50 for n in range(30)))
    counts = [
        value
        for (name, labels), value in samples(metrics_text(found)).items()
        if name == "frameloom_node_age_seconds_bucket" and "find" in labels
    ]
    assert counts == sorted(counts)
    assert counts[-1] == 30
    assert len(counts) == len(BOUNDS_MS) + 1


def test_top_reads_back_what_a_scrape_says() -> None:
    made = snapshot()
    read = parse_metrics(metrics_text(made).decode())
    assert (read.graph, read.mode, read.seconds) == ("g", "live", 4.0)
    for name, node in made.nodes.items():
        again = read.nodes[name]
        for field in ("worker", "device", "state", "frames", "fps", "quarantined", "restarts"):
            assert getattr(again, field) == getattr(node, field), field
        assert again.busy.count == node.busy.count
        assert again.busy.sum_ns == node.busy.sum_ns
    edge, again_edge = made.edges[EDGE], read.edges[EDGE]
    for field in (
        "link",
        "policy",
        "sent",
        "consumed",
        "in_flight",
        "depth",
        "peak_depth",
        "bytes",
    ):
        assert getattr(again_edge, field) == getattr(edge, field), field
    assert {k: v for k, v in again_edge.drops.items() if v} == edge.drops


def test_percentiles_read_back_lie_in_their_bucket() -> None:
    made = snapshot()
    made.nodes["find"].age = histogram(*[25.0] * 90, *[170.0] * 10)
    read = parse_metrics(metrics_text(made).decode()).nodes["find"].age
    assert 20 <= read.percentile_ms(50) <= 30
    assert 150 <= read.percentile_ms(99) <= 200


@pytest.mark.parametrize("text", ["", "up 1\n", "frameloom_node_fps{"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(EngineError, match="metrics"):
        parse_metrics(text)


def test_ends_of_the_graph() -> None:
    assert sources(snapshot()) == ["camera"]
    assert sinks(snapshot()) == ["find"]


def test_latencies_are_told_apart_where_a_sink_has_several_inputs() -> None:
    """Sound arrives earlier than pictures: together they would hide how late those are."""
    found = snapshot()
    assert list(latencies(found)) == ["find"]
    sound = EdgeStats(edge="camera.audio->find.audio", link="ipc", policy="drop_oldest")
    found.edges[sound.edge] = sound
    assert list(latencies(found)) == ["find.frames", "find.audio"]
    assert latencies(found)["find.frames"].count == 2


def test_totals() -> None:
    found = snapshot()
    assert frames_read(found) == 100
    assert drops_by_cause(found) == {"late": 5, "queue_full": 3}
    assert records_by_class(found) == {"Face": 180}  # a packet's times were not found


def test_plain_data_names_its_units() -> None:
    data = plain(snapshot())
    assert data["fps"] == 25.0
    assert data["latency_ms"]["find"].keys() == {"p50", "p95", "p99"}
    assert data["nodes"]["find"]["state"] == "open_circuit"
    assert data["edges"][EDGE]["drops"] == {"late": 5, "queue_full": 3}
    assert data["events"][0]["code"] == "TIMEOUT"
    assert percentiles(Histogram()) is None
