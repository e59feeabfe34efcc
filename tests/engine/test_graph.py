"""The Python spelling makes the spec that the YAML spelling makes."""

from __future__ import annotations

import pytest

from engine.errors import GraphError
from engine.graph import Graph
from engine.loader import dump_graph, parse_graph
from engine.spec import BatchSpec, JoinSpec
from tests.engine.fakes import Blur, BlurConfig, Camera, CameraConfig, Clip, Detect, Screen, Steer

YAML = """
graph: demo
about: everything once
mode: file
latency_budget_ms: 100
max_in_flight: 4
workers:
  gpu: {host: 10.0.0.2, nice: 5}
nodes:
  cam:
    op: tests.engine.fakes:Camera
    config: {uri: rtsp://x, frames: 9}
    streams: {door: {uri: rtsp://door}, hall: {frames: 2}}
  clip:
    op: tests.engine.fakes:Clip
  detect:
    op: tests.engine.fakes:Detect
    inputs:
      frames: {from: cam, queue: 2, full: drop_oldest, window: 2, max_age_ms: 50}
      threshold: {from: clip.video}
    worker: gpu
    device: cuda:0
    batch: {max_size: 4, max_wait_ms: 5}
    join: {policy: nearest, tolerance_ms: 20}
  steer:
    op: tests.engine.fakes:Steer
    inputs:
      frames: {from: detect.out, queue: 1, full: block}
      previous: {from: blur, queue: 1, full: latest, back_edge: true}
  blur:
    op: tests.engine.fakes:Blur
    inputs:
      frames: {from: steer, queue: 1, full: block}
  show:
    op: tests.engine.fakes:Screen
    inputs:
      frames: {from: blur, queue: 2, full: latest, allow: [raw-face]}
"""


def build() -> Graph:
    g = Graph("demo", about="everything once", mode="file", latency_budget_ms=100, max_in_flight=4)
    gpu = g.worker("gpu", host="10.0.0.2", nice=5)
    cam = g.add(
        "cam",
        Camera,
        CameraConfig(uri="rtsp://x", frames=9),
        streams={"door": {"uri": "rtsp://door"}, "hall": {"frames": 2}},
    )
    clip = g.add("clip", Clip)
    detect = g.add(
        "detect",
        Detect,
        inputs={
            "frames": cam.edge(queue=2, full="drop_oldest", window=2, max_age_ms=50),
            "threshold": clip["video"].edge(),
        },
        worker=gpu,
        device="cuda:0",
        batch=BatchSpec(max_size=4, max_wait_ms=5),
        join=JoinSpec(policy="nearest", tolerance_ms=20),
    )
    frames = detect.edge("out", queue=1, full="block")
    steer = g.add("steer", Steer, inputs={"frames": frames})
    blur = g.add("blur", Blur, inputs={"frames": steer.edge(queue=1, full="block")})
    steer.feed("previous", blur.edge(queue=1, full="latest", back_edge=True))
    shown = blur.edge(queue=2, full="latest", allow=("raw-face",))
    g.add("show", Screen, inputs={"frames": shown})
    return g


def test_both_spellings_make_the_same_spec() -> None:
    assert build().spec() == parse_graph(YAML)


def test_the_python_spelling_survives_its_yaml() -> None:
    assert parse_graph(dump_graph(build().spec())) == build().spec()


def test_config_fields_with_their_default_are_not_written() -> None:
    g = Graph("g")
    g.add("blur", Blur, BlurConfig(radius=2, kind="box"))
    g.add("plain", Blur)
    nodes = g.spec().nodes
    assert nodes["blur"].config == {"kind": "box"}
    assert nodes["plain"].config == {}


def test_a_required_field_is_always_written() -> None:
    g = Graph("g")
    g.add("cam", Camera, CameraConfig(uri=""))
    assert g.spec().nodes["cam"].config == {"uri": ""}


def test_a_name_is_taken_once_and_an_input_wired_once() -> None:
    g = Graph("g")
    cam = g.add("cam", Camera, CameraConfig(uri="x"))
    edge = cam.edge(queue=1, full="block")
    blur = g.add("blur", Blur, inputs={"frames": edge})
    with pytest.raises(GraphError, match="a node of this name is there already"):
        g.add("cam", Clip)
    with pytest.raises(GraphError, match=r"inputs\.frames: is wired already"):
        blur.feed("frames", edge)


def test_a_spec_does_not_change_when_the_graph_grows() -> None:
    g = Graph("g")
    g.add("cam", Camera, CameraConfig(uri="x"))
    spec = g.spec()
    g.add("clip", Clip)
    g.worker("gpu")
    assert (list(spec.nodes), list(spec.workers)) == (["cam"], [])
