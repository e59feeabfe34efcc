"""`check` makes a plan, or tells every problem with node, field and remedy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from engine.check import check, check_file
from engine.errors import GraphError
from engine.graph import Graph
from engine.loader import parse_graph
from engine.plan import Plan
from engine.spec import WorkerSpec
from tests.engine.fakes import Camera, CameraConfig, Screen

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


# --- the plan


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
    assert plan.nodes["cam"].streams["cam"]["frames"] == 3
    assert plan.nodes["blur"].streams == {}
    assert [edge.id for edge in plan.edges] == ["blur.out->show.frames", "cam.out->blur.frames"]
    assert plan.inputs_of("show") == plan.outputs_of("blur") == [plan.edges[0]]


def test_the_order_of_the_file_decides_where_the_graph_does_not() -> None:
    plan = plan_of({"b": CAM, "a": CAM, "s": node("Screen", {"frames": "a"}), "c": CAM})
    assert list(plan.nodes) == ["b", "a", "s", "c"]


def test_a_streams_config_completes_the_nodes() -> None:
    plan = plan_of(
        {
            "cam": node(
                "Camera", config={"frames": 7}, streams={"a": {"uri": "x"}, "b": {"uri": "y"}}
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


# --- nodes


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
        "|workers.gpu: no node runs in this worker (did you mean 'gpu0'?)",
    ]


# --- edges


@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        ({}, "inputs.frames: this input is not wired (it accepts video)"),
        ({"frames": "camm"}, "inputs.frames.from: there is no node 'camm' (did you mean 'cam'?)"),
        (
            {"frames": "cam.ot"},
            "inputs.frames.from: 'cam' has no output 'ot' (did you mean 'out'?)",
        ),
        (
            {"frames": "clip"},
            "inputs.frames.from: 'clip' has several outputs (one of clip.video, clip.audio)",
        ),
        ({"frames": "show"}, "inputs.frames.from: 'show' is a sink: nothing comes out of it"),
        (
            {"frames": "blur"},
            "inputs.frames.from: a node cannot feed itself (keep the state in the operator)",
        ),
        (
            {"frames": {"from": "cam"}},
            "inputs.frames: queue and full must be given "
            "(e.g. queue: 2, full: block | drop_oldest | latest)",
        ),
        (
            {"frames": {"from": "cam", "queue": 1}},
            "inputs.frames: full must be given (e.g. queue: 2, full: block | drop_oldest | latest)",
        ),
        (
            {"frames": "clip.audio"},
            "inputs.frames: media: packet where video is accepted, from 'clip.audio' "
            "(convert between)",
        ),
        (
            {"frames": {"from": "cam", "queue": 1, "full": "block", "back_edge": True}},
            "inputs.frames.back_edge: closes no cycle (leave it out)",
        ),
    ],
)
def test_an_input_that_is_wired_wrongly(inputs: dict[str, Any], problem: str) -> None:
    nodes = {
        "cam": CAM,
        "clip": node("Clip"),
        "show": node("Screen", {"frames": "cam"}),
        "blur": node("Blur", inputs),
    }
    assert problems_of(nodes) == [f"blur|{problem}"]


def test_an_unknown_input() -> None:
    nodes = {"cam": CAM, "blur": node("Blur", {"frames": "cam", "frame": "cam"})}
    assert problems_of(nodes) == [
        "blur|inputs.frame: the operator has no such input (did you mean 'frames'?)"
    ]
    assert problems_of({"cam": node("PixelCamera", {"frames": "cam"})})[0] == (
        "cam|inputs.frames: the operator has no such input (it is a source)"
    )


def test_cycles_name_their_nodes() -> None:
    nodes = {
        "cam": CAM,
        "c": node("Blur", {"frames": "b"}),
        "a": node("Join", {"left": "cam", "right": "c"}),
        "b": node("Blur", {"frames": "a"}),
        "y": node("Join", {"left": "z", "right": "cam"}),
        "z": node("Blur", {"frames": "y"}),
        "after": node("Screen", {"frames": "z"}),
    }
    hint = "(mark the edge that closes it with back_edge: true)"
    assert problems_of(nodes) == [
        f"c|inputs: c -> a -> b -> c is a cycle {hint}",
        f"y|inputs: y -> z -> y is a cycle {hint}",
    ]


def test_a_back_edge_must_let_its_consumer_begin() -> None:
    back = {"from": "blur", "queue": 1, "full": "block", "back_edge": True}
    nodes = {
        "cam": CAM,
        "join": node("Join", {"left": "cam", "right": back}),
        "blur": node("Blur", {"frames": "join"}),
    }
    assert problems_of(nodes) == [
        "join|inputs.right: a back edge must end at a Latest or an optional port "
        "(else the first frame waits for itself)"
    ]


def test_a_node_that_no_source_reaches() -> None:
    back = {"from": "b", "queue": 1, "full": "latest", "back_edge": True}
    nodes = {
        "a": node("Lonely", {"maybe": back}),
        "b": node("Blur", {"frames": "a"}),
        "cam": CAM,
    }
    hint = "(wire one of its inputs to a node that a source feeds)"
    assert problems_of(nodes) == [
        f"a|inputs: no source reaches this node {hint}",
        f"b|inputs: no source reaches this node {hint}",
    ]


def test_batches_and_joins_only_where_they_mean_something() -> None:
    nodes = {
        "cam": CAM,
        "detect": node("Detect", {"frames": "cam"}),
        "blur": node("Blur", {"frames": "cam"}, batch={"max_size": 2}, join={}),
        "near": node("Join", {"left": "cam", "right": "cam"}, join={"policy": "nearest"}),
        "exact": node("Join", {"left": "cam", "right": "cam"}, join={"tolerance_ms": 3}),
    }
    assert problems_of(nodes) == [
        "detect|batch: the port 'frames' takes batches, so their size must be given "
        "(e.g. batch: {max_size: 4, max_wait_ms: 5})",
        "blur|batch: the operator takes no batches (leave it out)",
        "blur|join: the operator has fewer than two inputs to put together (leave it out)",
        "near|join.tolerance_ms: nearest needs a tolerance above 0 ms",
        "exact|join.tolerance_ms: means nothing with policy exact",
    ]


# --- what travels


def test_caps_are_followed_along_like() -> None:
    nodes = {
        "cam": node("Camera", config={"uri": "x", "pix_fmt": "yuv420p"}),
        "blur": node("Blur", {"frames": "cam"}),
        "rgb": node("ToRgb", {"frames": "blur"}),
        "again": node("Blur", {"frames": "rgb"}),
        "good": node("RgbScreen", {"frames": "again"}),
        "bad": node("RgbScreen", {"frames": "blur"}),
    }
    assert problems_of(nodes) == [
        "bad|inputs.frames: pix_fmt: yuv420p where rgb24|bgr24 is accepted, from 'blur.out' "
        "(convert between)"
    ]
    del nodes["bad"]
    assert "good" in plan_of(nodes).nodes


def test_streams_that_differ_leave_the_caps_open() -> None:
    streams = {"a": {"pix_fmt": "yuv420p"}, "b": {"pix_fmt": "rgb24"}}
    nodes = {
        "cam": node("Camera", config={"uri": "x"}, streams=streams),
        "show": node("RgbScreen", {"frames": "cam"}),
    }
    assert "show" in plan_of(nodes).nodes


def test_devices_must_agree() -> None:
    nodes = {
        "cam": CAM,
        "up": node("Upload", {"frames": "cam"}, device="cuda:1"),
        "good": node("OnGpu", {"frames": "up"}, device="cuda:1"),
        "other": node("OnGpu", {"frames": "up"}, device="cuda:0"),
        "cpu": node("OnGpu", {"frames": "up"}),
        "host": node("OnGpu", {"frames": "cam"}, device="cuda:1"),
    }
    remedy = "(copy to the other device between)"
    assert problems_of(nodes) == [
        f"other|inputs.frames: device: cuda:1 where cuda:0 is accepted, from 'up.out' {remedy}",
        "cpu|inputs.frames: needs frames on a GPU, and this node is on cpu (device: cuda:0)",
        f"host|inputs.frames: device: cpu where cuda:1 is accepted, from 'cam.out' {remedy}",
    ]


def test_an_operator_that_cannot_describe_its_outputs_hides_no_other_problem() -> None:
    nodes = {
        "cam": CAM,
        "broken": node("Broken", {"frames": "cam"}),
        "unlike": node("Unlike", {"frames": "cam"}),
        "show": node("RgbScreen", {"frames": "cam"}),
    }
    assert problems_of(nodes) == [
        "broken|op: output_caps for 'out' raised RuntimeError: no idea",
        "unlike|op: output 'out' is like 'frame', which is no input (did you mean 'frames'?)",
        "show|inputs.frames: pix_fmt: yuv420p where rgb24|bgr24 is accepted, from 'cam.out' "
        "(convert between)",
    ]


def test_raw_faces_do_not_leave_the_host() -> None:
    nodes = {
        "cam": FACES,
        "blur": node("Blur", {"frames": "cam"}),
        "out": node("Publish", {"frames": "blur"}),
    }
    assert problems_of(nodes) == [
        "out|inputs.frames: content labelled raw-face from 'blur' would leave this host "
        "(put an operator before it that cleans it, or say allow: [raw-face])"
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"blur": node("Redact", {"frames": "cam"})},
        {"out": node("Publish", {"frames": "blur"}, config={"host": "127.0.0.1"})},
        {"out": node("Screen", {"frames": "blur"})},
        {
            "out": node(
                "Publish",
                {"frames": {"from": "blur", "queue": 1, "full": "block", "allow": ["raw-face"]}},
            )
        },
    ],
    ids=["redacted", "loopback", "local sink", "allowed"],
)
def test_raw_faces_may_go_where_it_is_safe_or_said(change: dict[str, Any]) -> None:
    nodes = {
        "cam": FACES,
        "blur": node("Blur", {"frames": "cam"}),
        "out": node("Publish", {"frames": "blur"}),
    }
    assert "out" in plan_of({**nodes, **change}).nodes


@pytest.mark.parametrize(
    ("policy", "field"),
    [
        ({"full": "drop_oldest"}, "full"),
        ({"full": "latest"}, "full"),
        ({"full": "block", "max_age_ms": 5}, "max_age_ms"),
    ],
)
def test_a_live_graph_loses_no_events(policy: dict[str, Any], field: str) -> None:
    nodes = {
        "cam": CAM,
        "journal": node("Journal", {"frames": {"from": "cam", "queue": 2, **policy}}),
    }
    (problem,) = problems_of(nodes, mode="live")
    assert problem.startswith(f"journal|inputs.frames.{field}: ")
    assert "would lose events" in problem
    assert plan_of(nodes, mode="file").edges[0].policy == "block"


def test_a_journal_may_block() -> None:
    plan = plan_of({"cam": CAM, "journal": node("Journal", {"frames": "cam"})}, mode="live")
    assert plan.edges[0].policy == "block"


# --- all together


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
    assert plan.nodes["cam"].streams["cam"]["frames"] == 8


def test_checking_imports_no_heavy_library() -> None:
    code = (
        "import sys; from engine.check import check; from engine.budget import budget;"
        "from engine.loader import parse_graph;"
        f"budget(check(parse_graph(\"graph: g\\nnodes: {{c: {{op: '{FAKES}:Clip'}}}}\")));"
        "print(sorted({'torch', 'zmq', 'av', 'onnxruntime', 'cv2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
