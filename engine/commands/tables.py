"""A snapshot of a run as tables: while it runs, from its metrics, and at its end."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from engine.telemetry.stats import Histogram, NodeStats, RunSnapshot
from engine.telemetry.views import (
    PERCENTS,
    drops_by_cause,
    frames_read,
    latencies,
    per_second,
    records_by_class,
)

STYLES = {
    "running": "green",
    "finished": "dim",
    "retrying": "yellow",
    "open_circuit": "red",
    "failed": "red",
}


def live_view(snapshot: RunSnapshot) -> Group:
    """Every node and edge now."""
    head = f"{snapshot.graph} · {snapshot.mode} · {snapshot.seconds:.0f} s"
    if snapshot.page:
        head += f" · {snapshot.page}"
    return Group(Text(head, style="bold"), node_table(snapshot), edge_table(snapshot))


def node_table(snapshot: RunSnapshot) -> Table:
    """Frames, rate, age (capture to the end of `process`) and state of each node."""
    table = make_table("node", "worker", "device", ">frames", ">fps", ">busy p50")
    for percent in PERCENTS:
        table.add_column(f"age p{percent}", justify="right")
    for title in ("quarantined", "restarts"):
        table.add_column(title, justify="right")
    table.add_column("state")
    for node in snapshot.nodes.values():
        table.add_row(
            node.node,
            node.worker,
            node.device,
            str(node.frames),
            f"{node.fps:.1f}",
            ms(node.busy, 50),
            *(ms(node.age, percent) for percent in PERCENTS),
            _count(node.quarantined),
            _count(node.restarts),
            _state(node),
        )
    return table


def edge_table(snapshot: RunSnapshot) -> Table:
    """Queue, age and drops of each edge."""
    table = make_table("edge", "link", "policy", ">fps", ">queue", ">peak", ">age p99", "drops")
    for edge in snapshot.edges.values():
        table.add_row(
            edge.edge,
            edge.link,
            edge.policy,
            f"{edge.fps:.1f}",
            str(edge.depth),
            str(edge.peak_depth),
            ms(edge.age, 99),
            drops_in_words(edge.drops),
        )
    return table


def summary_view(snapshot: RunSnapshot) -> Group:
    """How a run went: totals and latency in front, then every node, then what edges lost."""
    totals = Table.grid(padding=(0, 2))
    for name, value in _totals(snapshot):
        totals.add_row(Text(name, style="bold"), value)
    nodes = make_table("node", ">frames", ">fps", ">busy p50", "device", "state", ">restarts")
    for node in snapshot.nodes.values():
        nodes.add_row(
            node.node,
            str(node.frames),
            f"{per_second(node.frames, snapshot):.1f}",
            ms(node.busy, 50),
            node.device,
            _state(node),
            str(node.restarts),
        )
    return Group(totals, nodes)


def drops_in_words(drops: dict[str, int]) -> str:
    return ", ".join(f"{cause} {count}" for cause, count in drops.items() if count) or "-"


def ms(histogram: Histogram, percent: float) -> str:
    """A percentile in milliseconds, or a dash where nothing was measured."""
    if not histogram.count:
        return "-"
    value = histogram.percentile_ms(percent)
    return f"{value:.2f} ms" if value < 10 else f"{value:.0f} ms"


def _totals(snapshot: RunSnapshot) -> list[tuple[str, str]]:
    frames = frames_read(snapshot)
    rate = per_second(frames, snapshot)
    rows = [
        ("graph", f"{snapshot.graph} ({snapshot.mode})"),
        ("frames", f"{frames} in {snapshot.seconds:.1f} s = {rate:.1f} fps"),
    ]
    for name, age in latencies(snapshot).items():
        if age.count:
            figures = " / ".join(ms(age, percent) for percent in PERCENTS)
            rows.append((f"latency at {name}", f"p50 / p95 / p99 = {figures}"))
    rows.append(("dropped", drops_in_words(drops_by_cause(snapshot))))
    records = records_by_class(snapshot)
    if records:
        rows.append(("found", ", ".join(f"{name} {records[name]}" for name in sorted(records))))
    return rows


def make_table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    for title in titles:
        table.add_column(title.removeprefix(">"), justify="right" if title[0] == ">" else "left")
    return table


def _state(node: NodeStats) -> Text:
    error = f": {node.error}" if node.error else ""
    return Text(node.state + error, style=STYLES.get(node.state, ""))


def _count(number: int) -> Text:
    return Text(str(number), style="red" if number else "dim")
