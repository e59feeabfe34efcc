"""The part of `doctor` that asks whether one graph can run here: its devices, its shared memory."""

from __future__ import annotations

from engine.budget import budget
from engine.check import check_file
from engine.commands.finding import Finding
from engine.commands.inputs import resolve_inputs
from engine.commands.probes import last_words, run_code

MEBIBYTE = 1 << 20
OPEN = """
from engine.device.opening import open_device
device = open_device({name!r})
stream = device.stream(0)
device.clear(device.empty((8,), "float32", stream), stream)
stream.record().wait_host()
"""


def graph_findings(
    graph: str, uris: list[str], assignments: list[str], mode: str | None
) -> list[Finding]:
    """One line per device that the graph asks for, and one for shared memory. GraphError if the
    graph is wrong.
    """
    inputs = resolve_inputs(uris, mode)
    _, plan = check_file(graph, assignments, inputs.edit)
    findings = []
    for device in sorted({node.device for node in plan.nodes.values()}):
        names = ", ".join(node.name for node in plan.nodes.values() if node.device == device)
        if device == "cpu":
            findings.append(Finding("cpu", "ok", f"runs {names}, as the graph says"))
            continue
        works, note = run_code(OPEN.format(name=device))
        told = f"runs {names}" if works else f"cannot run {names}: {last_words(note)}"
        findings.append(Finding(device, "ok" if works else "broken", told))
    costs = budget(plan)
    if costs.shm_bytes:
        free = (costs.shm_free_bytes or 0) / MEBIBYTE
        note = f"at most {costs.shm_bytes / MEBIBYTE:.0f} MiB needed, {free:.0f} MiB are free"
        what = f"shared memory for {plan.graph}"
        findings.append(Finding(what, "ok" if costs.fits_shm else "broken", note))
    return findings
