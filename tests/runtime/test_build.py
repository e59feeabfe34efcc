"""Parts of a worker: devices that are there or not, tunables, threads, figures of several lanes."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta

from engine.contract import TUNABLE, Config
from engine.errors import DeviceError, EngineError
from engine.plan import Plan
from engine.runtime.build import (
    fold,
    operator_class,
    require_device,
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


# ---- devices


def fake_torch(available: bool, count: int) -> Any:
    cuda = SimpleNamespace(is_available=lambda: available, device_count=lambda: count)
    return SimpleNamespace(cuda=cuda, __version__="9.9")


def test_the_processor_is_always_there() -> None:
    assert require_device("cpu") == "cpu"


def test_a_gpu_without_torch_is_refused_with_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(DeviceError, match="cuda:0 was asked for, but torch cannot be imported"):
        require_device("cuda:0")


@pytest.mark.parametrize(
    ("device", "available", "count"),
    [("cuda:0", False, 0), ("cuda:0", False, 1), ("cuda:2", True, 2), ("cuda", True, 0)],
)
def test_a_gpu_that_is_not_there_is_refused_with_a_remedy(
    device: str, available: bool, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", fake_torch(available, count))
    with pytest.raises(DeviceError) as caught:
        require_device(device)
    told = str(caught.value)
    assert told.startswith(f"{device} was asked for; torch 9.9 sees {count} CUDA devices")
    assert "--set NODE.device=cpu" in told


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:1"])
def test_a_gpu_that_is_there_is_given(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", fake_torch(True, 2))
    assert require_device(device) == device


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
