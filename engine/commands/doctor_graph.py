"""The part of `doctor` that asks whether one graph can run here: its devices, its shared memory."""

from __future__ import annotations

from collections.abc import Sequence

from engine.budget import budget
from engine.catalog import load_operator
from engine.check import check_file
from engine.commands.finding import Finding
from engine.commands.inputs import resolve_inputs
from engine.commands.probes import last_words, run_code
from engine.plan import PlannedNode

MEBIBYTE = 1 << 20
OPEN = """
from engine.device.opening import open_device
device = open_device({name!r})
stream = device.stream(0)
device.clear(device.empty((8,), "float32", stream), stream)
stream.record().wait_host()
"""


NEED = """
from {module} import {function}
{function}({device!r})
"""


def graph_findings(
    graph: str, uris: list[str], assignments: list[str], mode: str | None
) -> list[Finding]:
    """One line per device that the graph asks for and per need of its nodes there, and one for
    shared memory. GraphError if the graph is wrong.
    """
    inputs = resolve_inputs(uris, mode)
    _, plan = check_file(graph, assignments, inputs.edit)
    findings = []
    for device in sorted({node.device for node in plan.nodes.values()}):
        nodes = [node for node in plan.nodes.values() if node.device == device]
        names = ", ".join(node.name for node in nodes)
        if device == "cpu":
            findings.append(Finding("cpu", "ok", f"runs {names}, as the graph says"))
            continue
        opened = _tried(device, OPEN.format(name=device), names)
        findings.append(opened)
        if opened.verdict == "ok":
            findings += _needs(device, nodes)
    costs = budget(plan)
    if costs.shm_bytes:
        free = (costs.shm_free_bytes or 0) / MEBIBYTE
        note = f"at most {costs.shm_bytes / MEBIBYTE:.0f} MiB needed, {free:.0f} MiB are free"
        what = f"shared memory for {plan.graph}"
        findings.append(Finding(what, "ok" if costs.fits_shm else "broken", note))
    return findings


def _needs(device: str, nodes: Sequence[PlannedNode]) -> list[Finding]:
    """A line for each thing that nodes need on a GPU beside the GPU itself, tried there."""
    asked: dict[tuple[str, str], list[str]] = {}
    for node in nodes:
        for need in load_operator(node.op).gpu_needs.items():
            asked.setdefault(need, []).append(node.name)
    found = []
    for (what, place), names in asked.items():
        module, _, function = place.partition(":")
        code = NEED.format(module=module, function=function, device=device)
        found.append(_tried(f"{what} on {device}", code, ", ".join(names)))
    return found


def _tried(what: str, code: str, names: str) -> Finding:
    works, note = run_code(code)
    told = f"runs {names}" if works else f"cannot run {names}: {last_words(note)}"
    return Finding(what, "ok" if works else "broken", told)
