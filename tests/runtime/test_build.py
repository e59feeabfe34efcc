"""Parts of a worker: tunables, threads, figures of several lanes."""

from __future__ import annotations

import os
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta

from engine.contract import TUNABLE, Config
from engine.errors import EngineError
from engine.plan import Plan
from engine.runtime.build import (
    fold,
    operator_class,
    thread_budget,
    tuned_value,
    worst,
)
from engine.telemetry.stats import NodeStats
from tests.runtime.fakes import planned_node
from tests.runtime.operators import Pass


class FilterConfig(Config, frozen=True):
    """One field that may be tuned, one that may not."""

    strength: Annotated[float, TUNABLE, Meta(ge=0, le=1)] = 0.5
    size_px: int = 8


# ---- tunables


def test_a_tunable_takes_what_the_graph_file_could_say() -> None:
    assert tuned_value(FilterConfig(), "strength", 1) == 1.0
    assert isinstance(tuned_value(FilterConfig(), "strength", 1), float)


@pytest.mark.parametrize("value", ["much", None, -0.1, 1.1, [0.5]])
def test_a_tunable_keeps_to_its_range(value: Any) -> None:
    with pytest.raises(msgspec.ValidationError):
        tuned_value(FilterConfig(), "strength", value)


def test_what_is_fixed_or_unknown_is_named() -> None:
    with pytest.raises(EngineError, match="'size_px' is fixed"):
        tuned_value(FilterConfig(), "size_px", 9)
    with pytest.raises(EngineError, match="no field 'speed'; there are strength, size_px"):
        tuned_value(FilterConfig(), "speed", 9)


# ---- the rest


@pytest.mark.parametrize(("cores", "nodes", "threads"), [(8, 3, 2), (2, 5, 1), (4, 1, 4)])
def test_cores_are_shared_by_all_nodes_wherever_they_are(
    cores: int, nodes: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
    made = {f"n{n}": planned_node(f"n{n}", worker=f"w{n}") for n in range(nodes)}
    plan = Plan(
        graph="t", mode="live", latency_budget_ms=None, max_in_flight=None, nodes=made, edges=()
    )
    assert thread_budget(plan) == threads


def test_an_operator_is_found_by_its_path() -> None:
    found = operator_class("tests.runtime.operators:Pass")
    assert found.__qualname__ == Pass.__qualname__
    with pytest.raises(AttributeError):
        operator_class("tests.runtime.operators:Nothing")


def test_figures_of_lanes_add_up_and_the_parts_stay_as_they_were() -> None:
    total, part = (NodeStats(node="n", worker="w", device="cpu") for _ in range(2))
    part.frames, part.quarantined, part.restarts = 3, 2, 1
    part.records = {"Face": 4}
    part.busy.add(5_000)
    part.age.add(7_000)
    before = msgspec.msgpack.encode(part)
    fold(total, part)
    fold(total, part)
    assert (total.frames, total.quarantined, total.restarts) == (6, 4, 2)
    assert total.records == {"Face": 8}
    assert (total.busy.count, total.busy.sum_ns, total.age.sum_ns) == (2, 10_000, 14_000)
    assert msgspec.msgpack.encode(part) == before


def test_a_node_is_as_well_as_the_worst_of_its_lanes() -> None:
    total = NodeStats(node="n", worker="w", device="cpu")
    for state, error, shown in (
        ("finished", None, ("finished", None)),
        ("running", None, ("running", None)),
        ("failed", "AUTH_FAILED", ("failed", "AUTH_FAILED")),
        ("running", None, ("failed", "AUTH_FAILED")),
        ("finished", None, ("failed", "AUTH_FAILED")),
    ):
        part = NodeStats(node="n", worker="w", device="cpu", state=state, error=error)
        worst(total, part)
        assert (total.state, total.error) == shown
