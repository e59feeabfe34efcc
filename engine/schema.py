"""The JSON schema of graph files, with every installed operator's config: editors complete it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from engine.catalog import known_operators
from engine.contract import Operator
from engine.spec import GraphSpec

Schema = dict[str, Any]
REF = "#/$defs/{name}"


def json_schema(operators: Mapping[str, type[Operator[Any]]] | None = None) -> Schema:
    """JSON Schema 2020-12 of the YAML. By default of the installed operators, keyed on `op`."""
    known = known_operators() if operators is None else operators
    configs = list(dict.fromkeys(operator.config_type for operator in known.values()))
    (root, *refs), definitions = msgspec.json.schema_components(
        [GraphSpec, *configs], ref_template=REF
    )
    by_config = dict(zip(configs, refs, strict=True))
    node = definitions["NodeSpec"]
    node["properties"]["op"]["anyOf"] = [{"enum": list(known)}, {"pattern": "^[^:]+:[^:]+$"}]
    node["allOf"] = [
        _rule(op, operator, by_config[operator.config_type], definitions)
        for op, operator in known.items()
    ]
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "frameloom graph",
        **root,
        "$defs": definitions,
    }
    return dict(msgspec.json.decode(msgspec.json.encode(schema)))  # defaults may be tuples


def _rule(op: str, operator: type[Operator[Any]], config: Schema, definitions: Schema) -> Schema:
    """What a node may say once its `op` is known."""
    then: Schema = {"inputs": _inputs(operator)}
    if operator.inputs:
        then["config"] = config
    else:  # a stream may complete its node's config, so neither must be complete
        partial = _partial(config, definitions)
        then["config"] = partial
        then["streams"] = {"additionalProperties": partial}
    condition = {"properties": {"op": {"const": op}}, "required": ["op"]}
    return {"if": condition, "then": {"properties": then}}


def _inputs(operator: type[Operator[Any]]) -> Schema:
    edge = {"$ref": REF.format(name="EdgeSpec")}
    ports = operator.inputs.values()
    return {
        "properties": {
            port.name: {"description": f"accepts {port.caps.describe()}", **edge} for port in ports
        },
        "required": [port.name for port in ports if not port.optional],
        "additionalProperties": False,
    }


def _partial(config: Schema, definitions: Schema) -> Schema:
    """The same config with nothing required, as a definition of its own."""
    whole = config["$ref"].removeprefix(REF.format(name=""))
    name = f"{whole}.partial"
    definitions[name] = {**definitions[whole], "required": []}
    return {"$ref": REF.format(name=name)}
