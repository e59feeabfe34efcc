"""INPUTS of the command line: how they change a graph."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml

from engine.commands.console import CommandError
from engine.commands.inputs import Inputs, installed_resolver, only_source, resolve_inputs, unique
from engine.loader import read_data

GRAPH = """
graph: g
nodes:
  source: {op: "operators.sources.file:FileSource", config: {uri: a.mp4, loop: true}}
  video:
    op: operators.sinks.mp4:Mp4Sink
    inputs:
      frames: {from: source.frames, queue: 1, full: block}
      audio: {from: source.audio, queue: 1, full: block}
"""


@dataclass
class FakeSource:
    """What a resolver says."""

    op: str = "operators.sources.file:FileSource"
    config: dict[str, Any] = field(default_factory=lambda: {"uri": "x"})
    mode: str = "file"
    stream_id: str = "x"
    shown: str = "x"
    frames: int | None = 10

    def count_frames(self) -> int | None:
        return self.frames


def resolved(*sources: FakeSource, mode: str | None = None) -> Inputs:
    by_uri = {str(number): source for number, source in enumerate(sources)}
    return resolve_inputs(list(by_uri), mode, lambda uri, _: by_uri[uri])


def edited(inputs: Inputs) -> Any:
    graph = yaml.safe_load(GRAPH)
    inputs.edit(graph)
    return graph


def test_nothing_changes_without_inputs() -> None:
    assert edited(resolve_inputs([], None)) == yaml.safe_load(GRAPH)


def test_the_mode_alone() -> None:
    assert edited(resolve_inputs([], "live"))["mode"] == "live"


def test_streams_replace_the_input_and_keep_the_rest() -> None:
    graph = edited(resolved(FakeSource(), FakeSource(config={"uri": "y"})))
    assert graph["mode"] == "file"
    source = graph["nodes"]["source"]
    assert source["streams"] == {"x": {"uri": "x"}, "x-2": {"uri": "y"}}
    assert source["config"] == {"uri": "a.mp4", "loop": True}
    assert graph["nodes"]["video"] == yaml.safe_load(GRAPH)["nodes"]["video"]


def test_another_operator_brings_its_own_fields_and_ports() -> None:
    """A camera has no sound: the optional input for it goes, the one for pictures stays."""
    camera = FakeSource("operators.sources.camera:CameraSource", {"device": "/dev/video0"}, "live")
    graph = edited(resolved(camera))
    assert graph["mode"] == "live"
    assert graph["nodes"]["source"]["op"] == "operators.sources.camera:CameraSource"
    assert graph["nodes"]["source"]["config"] == {}
    assert list(graph["nodes"]["video"]["inputs"]) == ["frames"]


def test_the_mode_of_the_command_line_wins() -> None:
    assert edited(resolved(FakeSource(), mode="live"))["mode"] == "live"


@pytest.mark.parametrize(
    "other",
    [FakeSource(op="operators.sources.rtsp:RtspSource"), FakeSource(mode="live")],
    ids=["operator", "mode"],
)
def test_inputs_must_agree(other: FakeSource) -> None:
    with pytest.raises(CommandError, match="more than one"):
        resolved(FakeSource(), other)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [({}, "has none"), ({"a": {"op": "x"}, "b": {"op": "y"}}, r"has 2 \(a, b\)")],
)
def test_there_must_be_one_source(nodes: dict[str, Any], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        only_source({"graph": "g", "nodes": nodes})


def test_a_broken_graph_is_left_to_check() -> None:
    graph = yaml.safe_load(GRAPH)
    graph["nodes"]["video"] = 5
    graph["nodes"]["other"] = {"op": "nowhere:X", "inputs": {"a": {"from": "source.audio"}, "b": 7}}
    resolved(FakeSource(op="operators.sources.camera:CameraSource")).edit(graph)
    assert list(graph["nodes"]["other"]["inputs"]) == ["a", "b"]


def test_frames_are_counted_when_all_are_known() -> None:
    assert resolved(FakeSource(), FakeSource(frames=5)).count_frames() == 15
    assert resolved(FakeSource(), FakeSource(frames=None)).count_frames() is None
    assert resolve_inputs([], None).count_frames() is None


def test_names_are_made_unique() -> None:
    assert unique(["a", "a-2", "a", "b", "a"]) == ["a", "a-2", "a-3", "b", "a-4"]


def test_the_installed_resolver_is_found() -> None:
    assert installed_resolver()("/dev/video0", None).stream_id == "video0"


def test_without_an_installed_resolver_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.commands.inputs.entry_points", lambda group: ())
    with pytest.raises(CommandError, match=r"pip install -e"):
        installed_resolver()


@pytest.mark.parametrize("name", ["guard", "copy", "two-workers"])
def test_graphs_that_take_inputs_have_one_source(name: str) -> None:
    only_source(read_data(name))
