"""Graphs in a few words: nodes of the fake operators, and what `check` says of them."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from engine.check import check
from engine.errors import GraphError
from engine.loader import parse_graph
from engine.plan import Plan

FAKES = "tests.engine.fakes"


def node(op: str, inputs: dict[str, Any] | None = None, /, **fields: Any) -> dict[str, Any]:
    """A node of the fake operator `op`; an input given as text is a blocking edge from there."""
    wired = {
        port: {"from": edge, "queue": 2, "full": "block"} if isinstance(edge, str) else edge
        for port, edge in (inputs or {}).items()
    }
    return {"op": op if ":" in op else f"{FAKES}:{op}", "inputs": wired, **fields}


def dump(data: dict[str, Any]) -> str:
    return str(yaml.safe_dump(data, sort_keys=False))


def plan_of(nodes: dict[str, Any], **top: Any) -> Plan:
    return check(parse_graph(dump({"graph": "g", "nodes": nodes, **top})))


def problems_of(nodes: dict[str, Any], **top: Any) -> list[str]:
    with pytest.raises(GraphError) as caught:
        plan_of(nodes, **top)
    return [
        f"{p.node}|{p.field}: {p.message}" + (f" ({p.hint})" if p.hint else "")
        for p in caught.value.problems
    ]


CAM = node("Camera", config={"uri": "x"})
FACES = node("PixelCamera")
