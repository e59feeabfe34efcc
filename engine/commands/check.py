"""`frameloom check`: the plan of a graph and what it may cost; GraphError has every problem."""

from __future__ import annotations

from typing import Any

import msgspec
from rich.table import Table
from rich.text import Text

from engine.budget import Budget, budget
from engine.check import check_file
from engine.commands.console import print_json, stdout
from engine.commands.inputs import resolve_inputs
from engine.commands.tables import make_table
from engine.device.presence import absent_devices
from engine.plan import Plan

MEBIBYTE = 1 << 20


def check_command(
    graph: str, uris: list[str], assignments: list[str], mode: str | None, *, as_json: bool
) -> None:
    """Print plan and budget. Raises GraphError when the graph cannot run."""
    inputs = resolve_inputs(uris, mode)
    _, plan = check_file(graph, assignments, inputs.edit)
    costs = budget(plan)
    absent = absent_devices(plan)
    if as_json:
        data = {"plan": plan_data(plan), "budget": msgspec.to_builtins(costs), "absent": absent}
        print_json(data)
        return
    console = stdout()
    console.print(Text(f"graph '{plan.graph}' is right: mode {plan.mode}", style="bold green"))
    for line in inputs.lines:
        console.print(f"input {line}", markup=False, highlight=False)
    console.print(_node_table(plan))
    console.print(_edge_table(plan, costs))
    for line in _budget_lines(costs):
        console.print(line, markup=False, highlight=False)
    for device, cause in absent.items():
        told = f"NOT HERE: {device}: {cause}; the graph cannot run on this computer as it is"
        console.print(Text(told, style="bold yellow"), soft_wrap=True)


def plan_data(plan: Plan) -> dict[str, Any]:
    """The plan as plain data, configs left out: they may hold passwords."""
    data: dict[str, Any] = msgspec.to_builtins(plan)
    for node in data["nodes"].values():
        node["streams"] = list(node["streams"])
        del node["config"]
    return data


def _node_table(plan: Plan) -> Table:
    table = make_table("node", "operator", "worker", "device", "streams", "batch")
    for node in plan.nodes.values():
        batch = str(node.batch.max_size) if node.batch else "-"
        streams = ", ".join(node.streams) or "-"
        table.add_row(node.name, node.op, node.worker, node.device, streams, batch)
    return table


def _edge_table(plan: Plan, costs: Budget) -> Table:
    table = make_table(
        "edge", "link", "policy", ">queue", "content", ">MiB at most", ">MB/s", ">fps"
    )
    for edge, cost in zip(plan.edges, costs.edges, strict=True):
        table.add_row(
            edge.id,
            edge.link,
            edge.policy,
            str(edge.queue),
            cost.content,
            f"{cost.memory_bytes / MEBIBYTE:.1f}",
            f"{cost.bytes_per_second / 1e6:.1f}",
            f"{cost.fps:g}",
        )
    return table


def _budget_lines(costs: Budget) -> list[str]:
    lines = [
        f"memory of queues at most {costs.memory_bytes / MEBIBYTE:.0f} MiB,"
        f" {costs.bytes_per_second / 1e6:.0f} MB/s over all edges"
    ]
    if costs.shm_bytes:
        free = costs.shm_free_bytes
        has = "there is none here" if free is None else f"{free / MEBIBYTE:.0f} MiB are free"
        warning = "" if costs.fits_shm else ": NOT ENOUGH, enlarge it or use smaller queues"
        need = costs.shm_bytes / MEBIBYTE
        lines.append(f"shared memory at most {need:.0f} MiB, {has}{warning}")
    if costs.gpu_shared_bytes:
        lines.append(f"between workers in GPU memory {costs.gpu_shared_bytes / MEBIBYTE:.0f} MiB")
    wait = f"worst wait in queues {costs.latency_ms:.0f} ms, the nodes' own work not counted"
    limit = costs.latency_budget_ms
    lines.append(wait if limit is None else f"{wait}; older than {limit} ms is dropped")
    if costs.assumptions:
        lines.append("assumed: " + "; ".join(costs.assumptions))
    return lines
