"""The third stage of `check`: what travels along each edge, and whether it may."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from engine.caps import NEGOTIATED, Caps
from engine.contract import UNMARKED, UNSEEN, Port
from engine.convert import Place, nearest
from engine.draft import DraftNode
from engine.errors import Problem
from engine.wiring import DraftEdge

Outputs = dict[tuple[str, str], Caps]  # (node, output port) -> what comes out
Complete = Callable[[DraftNode, Caps], Caps]
MARKED = "marked"  # a label: made by a model, and said so on the picture
SYNTHETIC = frozenset({MARKED, UNMARKED})
POLICY_FIELDS = ("like", "label", "cleans")


def resolve_caps(
    order: Iterable[str],
    nodes: Mapping[str, DraftNode],
    edges: Sequence[DraftEdge],
    complete: Complete = lambda node, caps: caps,
) -> Outputs:
    """The caps of every output of `nodes`, followed from the sources along `like`.

    `complete` may fill in what an output leaves open, before its consumers are looked at. Of what
    comes over a back edge only the labels are followed.
    """
    outputs: Outputs = {}
    for name in order:
        node = nodes.get(name)
        if node is None or node.op is None:
            continue
        arriving = {
            edge.consumer_port: _narrow(
                accepted(node, edge.input), outputs[edge.producer, edge.producer_port]
            )
            for edge in edges
            if edge.consumer == name
            and edge.input is not None
            and (edge.producer, edge.producer_port) in outputs
        }
        for port in node.op.outputs:
            own = _where(node, port, declared_caps(node, port))
            caps = _follow(own, arriving.get(own.like or ""))
            if caps.device == "cuda":
                caps = msgspec.structs.replace(caps, device=node.spec.device)
            outputs[name, port] = complete(node, caps)
    return _labelled(nodes, edges, outputs)


def _labelled(
    nodes: Mapping[str, DraftNode], edges: Sequence[DraftEdge], outputs: Outputs
) -> Outputs:
    """The outputs with all labels that reach them. These only grow, so that this ends."""
    found = {key: labels(caps) for key, caps in outputs.items()}
    grows = True
    while grows:
        grows = False
        for (name, port), caps in outputs.items():
            arriving = {
                edge.consumer_port: found[edge.producer, edge.producer_port]
                for edge in edges
                if edge.consumer == name and (edge.producer, edge.producer_port) in found
            }
            reached = _labels_of(nodes[name], caps, arriving)
            grows = grows or reached != found[name, port]
            found[name, port] = reached
    return {
        key: msgspec.structs.replace(caps, label="|".join(sorted(found[key])) or None)
        for key, caps in outputs.items()
    }


def _labels_of(node: DraftNode, caps: Caps, arriving: Mapping[str, set[str]]) -> set[str]:
    """The labels of an output. What is synthetic comes from every input, the rest along `like`."""
    assert node.op is not None
    followed = arriving.get(caps.like or "", set()) - SYNTHETIC
    found = labels(caps) | (followed - cleaned(caps))
    made = SYNTHETIC & set().union(*arriving.values())
    if caps.media in UNSEEN or not (node.op.synthesizes or made):
        return found
    if UNMARKED in cleaned(caps):
        return found | {MARKED}
    if node.op.synthesizes or node.op.pixels == "changed":
        return found | {UNMARKED}
    return found | made


def _where(node: DraftNode, port: str, own: Caps) -> Caps:
    """What a port is on the node's device."""
    assert node.op is not None
    if node.spec.device == "cpu" or port not in node.op.gpu_caps:
        return own
    there = node.op.gpu_caps[port]
    fields = {name: getattr(there, name) for name in NEGOTIATED}
    return msgspec.structs.replace(own, **{k: v for k, v in fields.items() if v is not None})


def accepted(node: DraftNode, port: Port) -> Caps:
    """What an input takes: pixels on the node's own device unless it says otherwise."""
    caps, device = _where(node, port.name, port.caps), node.spec.device
    if caps.device == "any":
        return msgspec.structs.replace(caps, device=None)
    if caps.device in {"cuda", "node"} or (caps.device is None and device == "cpu"):
        return msgspec.structs.replace(caps, device=device)
    return caps


def declared_caps(node: DraftNode, port: str) -> Caps:
    """What the operator says about an output; where its streams differ, what they agree on."""
    assert node.op is not None
    if not node.configs:
        return node.op.outputs[port].caps
    said = [node.op.output_caps(config, port) for config in node.configs]
    common = {
        field: getattr(said[0], field)
        for field in Caps.__struct_fields__
        if all(getattr(caps, field) == getattr(said[0], field) for caps in said)
    }
    return Caps(**common)


def describable(nodes: Mapping[str, DraftNode], problems: list[Problem]) -> dict[str, DraftNode]:
    """The nodes whose operators describe their outputs without raising, `like` naming an input."""
    before = len(problems)
    for node in nodes.values():
        for port in node.op.outputs if node.op else ():
            place = Place(problems, node.name, "op")
            try:
                like = declared_caps(node, port).like
            except Exception as error:  # noqa: BLE001  operators' own code, told with its cause
                place.report(f"output_caps for '{port}' raised {type(error).__name__}: {error}")
                continue
            if node.op and like is not None and like not in node.op.inputs:
                message = f"output '{port}' is like '{like}', which is no input"
                place.report(message, nearest(like, node.op.inputs))
    wrong = {problem.node for problem in problems[before:]}
    return {name: node for name, node in nodes.items() if name not in wrong}


def check_agreement(
    nodes: Mapping[str, DraftNode],
    edges: Sequence[DraftEdge],
    outputs: Outputs,
    problems: list[Problem],
) -> None:
    """Consumers accept what comes, and labelled content reaches no sink that others can see."""
    for edge in edges:
        given = outputs.get((edge.producer, edge.producer_port))
        if given is None or edge.input is None:
            continue
        consumer = nodes[edge.consumer]
        _check_caps(edge, given, consumer, edge.place(problems))
        if UNMARKED in labels(given) and _shows(consumer, edges):
            edge.place(problems).report(
                f"pictures from '{edge.producer}' are synthetic and would go out unmarked",
                "put operators.video.mark:Mark between, behind all that changes pixels; `allow` "
                "does not help here",
            )
        held = labels(given) - set(edge.spec.allow) - SYNTHETIC
        if held and _reaches_beyond_host(consumer):
            names = ", ".join(sorted(held))
            edge.place(problems).report(
                f"content labelled {names} from '{edge.producer}' would leave this host",
                f"put an operator before it that cleans it, or say allow: [{names}]",
            )


def _shows(node: DraftNode, edges: Sequence[DraftEdge]) -> bool:
    """Whether the pictures that a node is given leave the graph there."""
    if node.op is None or node.op.pixels == "ignored":
        return False
    return node.op.network_sink or all(edge.producer != node.name for edge in edges)


def labels(caps: Caps) -> set[str]:
    """The labels on an output."""
    return set(caps.label.split("|")) if caps.label else set()


def cleaned(caps: Caps) -> set[str]:
    """The labels that an output takes away."""
    return set(caps.cleans.split("|")) if caps.cleans else set()


def _check_caps(edge: DraftEdge, given: Caps, consumer: DraftNode, place: Place) -> None:
    assert edge.input is not None
    if edge.input.caps.device == "cuda" and consumer.spec.device == "cpu":
        return  # told of the node itself: it cannot be on the CPU
    wanted = accepted(consumer, edge.input)
    wrong = wanted.mismatches(given)
    if not wrong:
        return
    on_device = wrong[0].startswith("device")
    remedy = "put ToDevice or ToHost between" if on_device else "convert between"
    place.report(f"{'; '.join(wrong)}, from '{edge.producer}.{edge.producer_port}'", remedy)


def _reaches_beyond_host(node: DraftNode) -> bool:
    if node.op is None or not node.op.network_sink:
        return False
    return node.config is None or node.op.reaches_beyond_host(node.config)


def _narrow(accepted: Caps, given: Caps) -> Caps:
    """What arrives at a port that accepts some of what is given."""
    changes: dict[str, Any] = {}
    for field in NEGOTIATED:
        mine, theirs = getattr(accepted, field), getattr(given, field)
        if theirs is None:
            changes[field] = mine
        elif mine is not None and isinstance(theirs, str):
            common = [option for option in theirs.split("|") if option in mine.split("|")]
            changes[field] = "|".join(common) or theirs
    return msgspec.structs.replace(given, **changes)


def _follow(own: Caps, arrived: Caps | None) -> Caps:
    """An output's caps, what it leaves open taken from the input that it is `like`."""
    if arrived is None:
        return own
    changes: dict[str, Any] = {
        field: getattr(arrived, field)
        for field in Caps.__struct_fields__
        if field not in POLICY_FIELDS and getattr(own, field) is None
    }
    return msgspec.structs.replace(own, **changes)
