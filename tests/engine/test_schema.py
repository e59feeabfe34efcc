"""The schema that editors use knows the keys of the graph and the config of every operator."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.schema import json_schema
from tests.engine.fakes import Blur, Camera, Screen, Steer

OPERATORS = {"a:Blur": Blur, "a:Camera": Camera, "a:Screen": Screen, "a:Steer": Steer}
Schema = dict[str, Any]


@pytest.fixture(scope="module")
def schema() -> Schema:
    return json_schema(OPERATORS)


def rule(schema: Schema, op: str) -> Schema:
    """What the schema says of a node with this operator."""
    (found,) = [
        entry["then"]["properties"]
        for entry in schema["$defs"]["NodeSpec"]["allOf"]
        if entry["if"]["properties"]["op"]["const"] == op
    ]
    return dict(found)


def resolve(schema: Schema, reference: Schema) -> Schema:
    return dict(schema["$defs"][reference["$ref"].removeprefix("#/$defs/")])


def test_it_is_json_and_every_reference_leads_somewhere(schema: Schema) -> None:
    text = json.dumps(schema)
    assert json.loads(text) == schema
    references = {part.partition('"')[0] for part in text.split('"#/$defs/')[1:]}
    assert references <= set(schema["$defs"])
    assert "EdgeSpec" in references


def test_the_graph_and_its_edges_refuse_other_keys(schema: Schema) -> None:
    graph = resolve(schema, schema)
    assert {"graph", "mode", "nodes"} <= set(graph["properties"])
    assert graph["required"] == ["graph"]
    edge = schema["$defs"]["EdgeSpec"]
    assert edge["required"] == ["from"]
    assert edge["additionalProperties"] is False


def test_operators_complete(schema: Schema) -> None:
    choices = schema["$defs"]["NodeSpec"]["properties"]["op"]["anyOf"]
    assert choices[0] == {"enum": list(OPERATORS)}


def test_config_is_keyed_on_the_operator_with_limits_and_units(schema: Schema) -> None:
    config = resolve(schema, rule(schema, "a:Blur")["config"])
    radius = config["properties"]["radius"]
    assert (radius["minimum"], radius["maximum"]) == (0, 50)
    assert "px" in radius["description"]
    assert config["additionalProperties"] is False
    assert resolve(schema, rule(schema, "a:Screen")["config"])["properties"] == {}


def test_a_source_may_leave_its_config_to_its_streams(schema: Schema) -> None:
    said = rule(schema, "a:Camera")
    assert said["streams"] == {"additionalProperties": said["config"]}
    assert resolve(schema, said["config"])["required"] == []
    assert schema["$defs"]["CameraConfig"]["required"] == ["uri"]


def test_inputs_complete_by_port(schema: Schema) -> None:
    inputs = rule(schema, "a:Steer")["inputs"]
    assert list(inputs["properties"]) == inputs["required"] == ["frames", "previous"]
    assert inputs["additionalProperties"] is False
    assert rule(schema, "a:Camera")["inputs"]["properties"] == {}
