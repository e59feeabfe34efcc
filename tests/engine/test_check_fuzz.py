"""Whatever a graph file says, `check` answers with a plan or with problems, never with a crash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.budget import budget
from engine.check import check_file
from engine.errors import GraphError
from tests.engine import fakes
from tests.engine.graphs import FAKES

OPS = [
    f"{FAKES}:{name}" for name in ("Camera", "Clip", "Blur", "Detect", "Steer", "Join", "Screen")
]
NODES = ["a", "b", "c", "d"]
ODD: st.SearchStrategy[Any] = st.sampled_from(
    [None, 0, -1, 1.5, True, "", "x", "block", [], {}, [1]]
)


def maybe_odd(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mostly what belongs there, now and then anything."""
    return st.one_of(values, values, values, values, ODD)


def mapping(keys: list[str], values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.dictionaries(st.sampled_from([*keys, "odd"]), values, max_size=3)


ENDS = st.sampled_from([*NODES, "a.out", "b.video", "c.", ".out", "nobody"])
EDGES = st.fixed_dictionaries(
    {"from": maybe_odd(ENDS), "queue": maybe_odd(st.just(1)), "full": maybe_odd(st.just("block"))},
    optional={"back_edge": maybe_odd(st.booleans()), "window": maybe_odd(st.just(2)), "odd": ODD},
)
PORTS = ["frames", "left", "right", "previous", "threshold"]
CONFIG_KEYS = ["uri", "radius", "corner", "width", "height", "fps", "pix_fmt"]
CONFIGS = mapping(CONFIG_KEYS, st.one_of(ODD, st.sampled_from(["x", 3, "rgb24"])))
NODE = st.fixed_dictionaries(
    {"op": maybe_odd(st.sampled_from(OPS)), "inputs": maybe_odd(mapping(PORTS, maybe_odd(EDGES)))},
    optional={
        "config": maybe_odd(CONFIGS),
        "streams": maybe_odd(mapping(["s"], maybe_odd(CONFIGS))),
        "worker": maybe_odd(st.sampled_from(["main", "gpu"])),
        "device": maybe_odd(st.sampled_from(["cpu", "cuda:0"])),
        "batch": maybe_odd(st.just({"max_size": 2})),
        "join": maybe_odd(st.just({"policy": "exact"})),
    },
)
GRAPH = st.fixed_dictionaries(
    {"graph": maybe_odd(st.just("g")), "nodes": maybe_odd(mapping(NODES, maybe_odd(NODE)))},
    optional={
        "mode": maybe_odd(st.sampled_from(["file", "live"])),
        "workers": maybe_odd(mapping(["gpu"], ODD)),
        "max_in_flight": ODD,
    },
)
SETS = st.lists(
    st.sampled_from(["a.radius=3", "a.inputs.frames.queue=2", "mode=file", "workers.gpu.nice=1"]),
    max_size=2,
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "g.yaml"


@settings(max_examples=150)
@given(data=maybe_odd(GRAPH), sets=SETS)
def test_check_never_crashes(path: Path, data: Any, sets: list[str]) -> None:
    path.write_text(yaml.safe_dump(data))
    try:
        _, plan = check_file(path, sets)
    except GraphError:
        return
    assert budget(plan).memory_bytes >= 0
    for edge in plan.edges:
        operator = getattr(fakes, plan.nodes[edge.consumer].op.partition(":")[2])
        assert edge.consumer_port in operator.inputs
