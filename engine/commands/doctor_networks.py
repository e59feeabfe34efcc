"""The part of `doctor` that tells which backend each network that comes along will use, and why."""

from __future__ import annotations

import msgspec

from engine.commands.finding import Finding
from engine.device.engines import EngineStore
from engine.device.networks import network_names
from engine.device.report import Candidate, Precision

NONE = "no engine built: by its file's own runtime, or by torch eager"


class Chosen(msgspec.Struct):
    """What `auto` wrote down."""

    backend: str
    precision: Precision
    candidates: tuple[Candidate, ...]


def network_findings(store: EngineStore | None = None) -> list[Finding]:
    """A line per network: the choices that were measured on this machine, or that there is none."""
    told: dict[str, list[str]] = {name: [] for name in network_names()}
    for entry in (store or EngineStore()).entries():
        header = entry.header
        if header is None or header.key.backend != "auto" or header.label not in told:
            continue
        payload = entry.path.read_bytes()[-header.payload_bytes :]
        where = f"{header.key.threads} threads" if header.key.threads else header.key.machine.name
        told[header.label].append(_said(msgspec.json.decode(payload, type=Chosen), where))
    return [
        Finding(f"network {name}", "ok", "; ".join(choices) or NONE)
        for name, choices in told.items()
    ]


def _said(chosen: Chosen, where: str) -> str:
    times = {(one.backend, one.precision): one.ms for one in chosen.candidates}
    mine = times.get((chosen.backend, chosen.precision))
    eager = times.get(("eager", "fp32"))
    speed = f": {mine:.1f} ms, eager {eager:.1f}" if mine and eager else ""
    return f"{chosen.backend} in {chosen.precision} for {where}{speed}"
