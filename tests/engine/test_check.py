"""`check` makes a plan, or tells every problem with node, field and remedy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.check import check, check_file
from engine.errors import GraphError
from engine.graph import Graph
from engine.spec import WorkerSpec
from tests.engine.fakes import Camera, CameraConfig, Screen
from tests.engine.graphs import CAM, FAKES, dump, node, plan_of, problems_of


def test_a_plan_has_nodes_in_order_and_complete_configs() -> None:
    plan = plan_of(
        {
            "show": node("Screen", {"frames": "blur"}),
            "blur": node("Blur", {"frames": "cam.out"}, config={"radius": 3}),
            "cam": CAM,
            "other": CAM,
        }
    )
    assert list(plan.nodes) == ["cam", "blur", "show", "other"]
    assert plan.nodes["blur"].config == {"radius": 3, "kind": "gauss", "corner": (0, 0)}
    assert plan.nodes["cam"].config["frames"] == 3
    assert plan.nodes["cam"].streams == {}  # the run makes one, named after the node
    assert [edge.id for edge in plan.edges] == ["blur.out->show.frames", "cam.out->blur.frames"]
    assert plan.inputs_of("show") == plan.outputs_of("blur") == [plan.edges[0]]


def test_the_order_of_the_file_decides_where_the_graph_does_not() -> None:
    plan = plan_of({"b": CAM, "a": CAM, "s": node("Screen", {"frames": "a"}), "c": CAM})
    assert list(plan.nodes) == ["b", "a", "s", "c"]


def test_a_streams_config_completes_the_nodes() -> None:
    plan = plan_of(
        {
            "cam": node(
                "Camera",
                config={"frames": 7, "uri": "z"},
                streams={"a": {"uri": "x"}, "b": {"uri": "y"}},
            )
        }
    )
    streams = plan.nodes["cam"].streams
    assert [(key, c["uri"], c["frames"]) for key, c in streams.items()] == [
        ("a", "x", 7),
        ("b", "y", 7),
    ]


def test_live_edges_keep_their_policy_and_file_edges_block() -> None:
    edge = {"from": "cam", "queue": 3, "full": "drop_oldest", "max_age_ms": 40, "window": 2}
    nodes = {
        "cam": CAM,
        "steer": node("Steer", {"frames": edge, "previous": {"from": "cam"}}),
    }
    live = plan_of(nodes, mode="live", latency_budget_ms=100, max_in_flight=2)
    frames, previous = live.edges
    assert (frames.policy, frames.queue, frames.window, frames.max_age_ms) == (
        *("drop_oldest", 3, 2, 40),
    )
    assert (previous.policy, previous.queue, previous.arrival) == ("latest", 1, "latest")
    assert (live.latency_budget_ms, live.max_in_flight) == (100, 2)
    file = plan_of(nodes, mode="file", latency_budget_ms=100, max_in_flight=2)
    assert [(e.policy, e.max_age_ms, e.arrival) for e in file.edges] == [
        ("block", None, "each"),
        ("block", None, "latest"),
    ]
    assert (file.latency_budget_ms, file.max_in_flight) == (None, None)


@pytest.mark.parametrize(
    ("workers", "link"),
    [
        ({}, "ipc"),
        ({"a": {"host": "h"}, "b": {"host": "h"}}, "ipc"),
        ({"a": {"host": "h"}}, "tcp"),
        ({"a": {"host": "h"}, "b": {"host": "i"}}, "tcp"),
    ],
)
def test_the_link_follows_from_placement(workers: dict[str, Any], link: str) -> None:
    plan = plan_of(
        {
            "cam": {**CAM, "worker": "a"},
            "near": node("Blur", {"frames": "cam"}, worker="a"),
            "far": node("Screen", {"frames": "near"}, worker="b"),
        },
        workers=workers,
    )
    assert [edge.link for edge in plan.edges] == ["inproc", link]
    assert list(plan.workers) == ["a", "b"]
    assert plan.workers["a"] == WorkerSpec(**workers.get("a", {}))


def test_a_back_edge_may_close_a_cycle_at_a_latest_port() -> None:
    back = {"from": "blur", "queue": 1, "full": "latest", "back_edge": True}
    plan = plan_of(
        {
            "steer": node("Steer", {"frames": "cam", "previous": back}),
            "blur": node("Blur", {"frames": "steer"}),
            "cam": CAM,
        }
    )
    assert list(plan.nodes) == ["cam", "steer", "blur"]
    assert [edge.back_edge for edge in plan.edges] == [False, True, False]


def test_the_python_spelling_is_checked_as_strictly() -> None:
    g = Graph("g")
    cam = g.add("cam", Camera, CameraConfig(uri="x"))
    g.add("show", Screen, inputs={"frames": cam.edge(queue=0, full="block", window=99)})
    with pytest.raises(GraphError) as caught:
        check(g.spec())
    assert [problem.field for problem in caught.value.problems] == [
        "inputs.frames.queue",
        "inputs.frames.window",
    ]


def test_a_graph_without_nodes() -> None:
    assert problems_of({}) == ["|nodes: the graph has no nodes"]


@pytest.mark.parametrize(
    ("op", "message"),
    [
        (f"{FAKES}:Cmera", f"{FAKES} has no operator 'Cmera'; did you mean 'Camera'?"),
        (
            "tests.engine.fake:Camera",
            "there is no module 'tests.engine.fake'; did you mean 'tests.engine.fakes:Camera'?",
        ),
        (f"{FAKES}:NotAnOperator", f"{FAKES}:NotAnOperator is not an Operator"),
        (
            "tests.engine.broken_module:Any",
            "importing tests.engine.broken_module failed: "
            "ModuleNotFoundError: No module named 'a_library_that_is_not_installed'",
        ),
    ],
)
def test_an_operator_that_cannot_be_had(op: str, message: str) -> None:
    assert problems_of({"cam": node(op)}) == [f"cam|op: {message}"]


def test_an_operator_must_be_named_with_its_module() -> None:
    (problem,) = problems_of({"cam": {"op": "Camera"}})
    assert problem.startswith("cam|op: 'Camera' is not module:Class")


def test_config_problems_name_field_limit_and_nearest_key() -> None:
    config = {"radus": 1, "radius": 99, "kind": "boxx", "corner": [1]}
    nodes = {"cam": CAM, "blur": node("Blur", {"frames": "cam"}, config=config)}
    assert problems_of(nodes) == [
        "blur|config.radus: there is no such key (did you mean 'radius'?)",
        "blur|config.radius: expected `int` <= 50, got 99",
        "blur|config.kind: invalid enum value 'boxx' (did you mean 'box'?)",
        "blur|config.corner: expected `array` of length 2, got [1]",
    ]
    assert problems_of({"cam": node("Camera")}) == ["cam|config.uri: is required"]


def test_stream_problems_are_told_where_they_are_written_and_once() -> None:
    streams = {"a": {"uri": "x", "frames": -2}, "b": {"urr": "y"}}
    assert problems_of({"cam": node("Camera", config={"fps": 0}, streams=streams)}) == [
        "cam|streams.a.frames: expected `int` >= 0, got -2",
        "cam|config.fps: expected `float` > 0.0, got 0",
        "cam|streams.b.urr: there is no such key (did you mean 'uri'?)",
        "cam|streams.b.uri: is required",
    ]


def test_only_sources_have_streams() -> None:
    nodes = {"cam": CAM, "blur": node("Blur", {"frames": "cam"}, streams={"a": {}})}
    assert problems_of(nodes) == [
        "blur|streams: only a source has streams, and this node has inputs"
    ]


def test_names_devices_and_workers() -> None:
    nodes = {
        "my.cam": CAM,
        "cam": {**CAM, "device": "gpu", "worker": "a b"},
        "cam2": {**CAM, "device": "cuda"},
        "cam3": {**CAM, "device": "cuda:11", "worker": "gpu0"},
    }
    assert problems_of(nodes, workers={"gpu": {}, "gpu0": {}}) == [
        "my.cam|: is no name for a node (letters, digits, _ and -, a letter first)",
        "cam|worker: 'a b' is no name for a worker (letters, digits, _ and -, a letter first)",
        "cam|device: there is no device 'gpu' (cpu or cuda:N)",
        "cam2|device: there is no device 'cuda' (cpu or cuda:N)",
        "cam3|device: Camera runs on cpu only, not on cuda:11 (device: cpu)",
        "|workers.gpu: no node runs in this worker (did you mean 'gpu0'?)",
    ]


def test_problems_of_form_overrides_and_wiring_are_told_together(tmp_path: Path) -> None:
    path = tmp_path / "g.yaml"
    path.write_text(
        dump(
            {
                "graph": "g",
                "mod": "file",
                "nodes": {
                    "cam": CAM,
                    "bare": {"inputs": {}},
                    "blur": node("Blur", {"frames": {"from": "cam", "queue": 0, "full": "block"}}),
                    "blur2": node("Blur", {"frames": {"queue": 1, "full": "block"}}),
                    "show": node("RgbScreen", {"frames": "cam"}),
                },
            }
        )
    )
    with pytest.raises(GraphError) as caught:
        check_file(path, ["blu.radius=3", "blur.radius=99"])
    assert [(problem.node, problem.field) for problem in caught.value.problems] == [
        ("", "--set blu.radius"),
        ("", "mod"),
        ("bare", "op"),
        ("blur", "inputs.frames.queue"),
        ("blur2", "inputs.frames.from"),
        ("blur", "config.radius"),
        ("show", "inputs.frames"),
    ]


def test_a_file_is_read_overridden_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "g.yaml"
    path.write_text(dump({"graph": "g", "nodes": {"cam": CAM}}))
    spec, plan = check_file(path, ["cam.frames=8", "mode=file"])
    assert spec.mode == plan.mode == "file"
    assert plan.nodes["cam"].config["frames"] == 8


def test_checking_imports_no_heavy_library() -> None:
    code = (
        "import sys; from engine.check import check; from engine.budget import budget;"
        "from engine.loader import parse_graph;"
        f"budget(check(parse_graph(\"graph: g\\nnodes: {{c: {{op: '{FAKES}:Clip'}}}}\")));"
        "print(sorted({'torch', 'zmq', 'av', 'onnxruntime', 'cv2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
