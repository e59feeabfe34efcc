"""Edges: unknown ends, missing policies, cycles, back edges, batches, joins."""

from __future__ import annotations

from typing import Any

import pytest

from tests.engine.graphs import CAM, node, plan_of, problems_of


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


def test_a_join_of_streams_that_never_meet() -> None:
    other = CAM | {"streams": {"door": {}, "yard": {}}}
    nodes = {"cam": CAM, "other": other, "join": node("Join", {"left": "cam", "right": "other"})}
    (problem,) = problems_of(nodes)
    assert problem.startswith("join|inputs: the inputs have no stream in common")
    assert "left brings cam; right brings door, yard" in problem
    nodes["cam"] = CAM | {"streams": {"door": {}}}
    assert len(plan_of(nodes).nodes) == 3


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
