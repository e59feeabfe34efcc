"""What a checked graph may cost at worst: memory, bytes per second and latency, before it runs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from engine.agreement import Outputs, resolve_caps
from engine.caps import Caps
from engine.catalog import load_operator
from engine.draft import DraftNode
from engine.plan import LinkKind, Plan, PlannedEdge, PlannedNode
from engine.spec import EdgeSpec, NodeSpec
from engine.wiring import DraftEdge

ASSUMED_WIDTH_PX, ASSUMED_HEIGHT_PX = 1280, 720
ASSUMED_FPS = 30.0
PACKET_BYTES = 16_384  # compressed packets, and sound
EVENT_BYTES = 1_024  # a frame without pixels: stamp, caps and records
BYTES_PER_PIXEL = {"yuv420p": 1.5, "nv12": 1.5, "rgb24": 3.0, "bgr24": 3.0, "gray": 1.0}
SHM = Path("/dev/shm")  # where slabs live


class EdgeBudget(Struct, frozen=True, kw_only=True):
    """One edge when its queue and window are full."""

    edge: str
    link: LinkKind
    device: str  # that the frames' data lies on: cpu | cuda:N
    content: str  # e.g. "video yuv420p 1280x720"
    frame_bytes: int
    frames: int  # queue + window + the one being written
    memory_bytes: int  # frame_bytes * frames
    fps: float  # of all streams together
    bytes_per_second: int


class PathBudget(Struct, frozen=True, kw_only=True):
    """The longest wait between a source and a sink, the nodes' own work not counted."""

    nodes: tuple[str, ...]
    frames: int  # waiting in queues and windows in front of a new frame
    latency_ms: float  # those at the source's rate, and the waits for batches


class Budget(Struct, frozen=True, kw_only=True):
    """A whole graph at worst. Frames that several edges share are counted for each."""

    edges: tuple[EdgeBudget, ...]
    paths: tuple[PathBudget, ...]
    memory_bytes: int
    bytes_per_second: int
    latency_ms: float  # of the longest path
    latency_budget_ms: int | None  # live graphs: older frames die
    shm_bytes: int  # shared memory for the edges between workers of one host
    gpu_shared_bytes: int  # the same in the memory of GPUs
    shm_free_bytes: int | None  # None: there is no shared memory here
    assumptions: tuple[str, ...]

    @property
    def fits_shm(self) -> bool:
        """Whether this host has the shared memory that the graph needs."""
        return self.shm_bytes <= (self.shm_free_bytes or 0)


def budget(plan: Plan, shm: Path = SHM) -> Budget:
    """The costs of a plan, with everything that had to be assumed."""
    nodes = {name: _draft_node(node) for name, node in plan.nodes.items()}
    assumptions: dict[str, None] = {}
    edges_between = [_draft_edge(nodes, edge) for edge in plan.edges]
    outputs = resolve_caps(nodes, nodes, edges_between, partial(_with_size, assumptions))
    rates = _rates(plan, nodes, assumptions)
    edges = tuple(_edge(edge, outputs, rates, assumptions) for edge in plan.edges)
    paths = _paths(plan, rates)
    return Budget(
        edges=edges,
        paths=paths,
        memory_bytes=sum(edge.memory_bytes for edge in edges),
        bytes_per_second=sum(edge.bytes_per_second for edge in edges),
        latency_ms=max((path.latency_ms for path in paths), default=0.0),
        latency_budget_ms=plan.latency_budget_ms,
        shm_bytes=_between_workers(edges, on_gpu=False),
        gpu_shared_bytes=_between_workers(edges, on_gpu=True),
        shm_free_bytes=_free_bytes(shm),
        assumptions=tuple(assumptions),
    )


def _between_workers(edges: Sequence[EdgeBudget], *, on_gpu: bool) -> int:
    """Bytes in slabs, of hosts or of GPUs."""
    return sum(
        edge.memory_bytes
        for edge in edges
        if edge.link == "ipc" and edge.device.startswith("cuda") == on_gpu
    )


def _draft_node(node: PlannedNode) -> DraftNode:
    op = load_operator(node.op)
    streams = {key: msgspec.convert(config, op.config_type) for key, config in node.streams.items()}
    config = None if streams else msgspec.convert(node.config, op.config_type)
    return DraftNode(node.name, NodeSpec(op=node.op, device=node.device), op, config, streams)


def _draft_edge(nodes: Mapping[str, DraftNode], edge: PlannedEdge) -> DraftEdge:
    producer, consumer = nodes[edge.producer].op, nodes[edge.consumer].op
    return DraftEdge(
        spec=EdgeSpec(from_=f"{edge.producer}.{edge.producer_port}"),
        producer=edge.producer,
        producer_port=edge.producer_port,
        output=producer.outputs[edge.producer_port] if producer else None,
        consumer=edge.consumer,
        consumer_port=edge.consumer_port,
        input=consumer.inputs[edge.consumer_port] if consumer else None,
    )


def _with_size(assumptions: dict[str, None], node: DraftNode, caps: Caps) -> Caps:
    """Pictures get a size: the one that the operator's config has, else an assumed one."""
    if caps.media not in (None, "video") or (caps.pix_fmt and caps.width and caps.height):
        return caps
    width, height = _size_in_config(node)
    known = msgspec.structs.replace(caps, width=caps.width or width, height=caps.height or height)
    full = msgspec.structs.replace(
        known,
        media="video",
        pix_fmt=caps.pix_fmt or "yuv420p",
        width=known.width or ASSUMED_WIDTH_PX,
        height=known.height or ASSUMED_HEIGHT_PX,
    )
    if not (known.pix_fmt and known.width and known.height):
        assumptions[f"{node.name}: {full.pix_fmt} {full.width}x{full.height}"] = None
    return full


def _size_in_config(node: DraftNode) -> tuple[int | None, int | None]:
    sizes = {
        (getattr(config, "width", None), getattr(config, "height", None)) for config in node.configs
    }
    width, height = sizes.pop() if len(sizes) == 1 else (None, None)
    if isinstance(width, int) and isinstance(height, int):
        return width or None, height or None
    return None, None


def _rates(
    plan: Plan, nodes: Mapping[str, DraftNode], assumptions: dict[str, None]
) -> dict[str, float]:
    """Frames per second that leave each node, all streams together."""
    rates: dict[str, float] = {}
    for name, node in nodes.items():
        pacing = [
            rates[edge.producer]
            for edge in plan.inputs_of(name)
            if edge.arrival != "latest" and not edge.back_edge
        ]
        if pacing:
            rates[name] = max(pacing)
            continue
        known = [getattr(config, "fps", None) for config in node.configs]
        if not all(known):
            assumptions[f"{name}: {ASSUMED_FPS:g} fps"] = None
        rates[name] = sum(float(fps or ASSUMED_FPS) for fps in known)
    return rates


def _edge(
    edge: PlannedEdge, outputs: Outputs, rates: Mapping[str, float], assumptions: dict[str, None]
) -> EdgeBudget:
    caps = outputs[edge.producer, edge.producer_port]
    frame_bytes = _frame_bytes(caps, f"{edge.producer}.{edge.producer_port}", assumptions)
    frames = edge.queue + edge.window + 1
    return EdgeBudget(
        edge=edge.id,
        link=edge.link,
        device=caps.device or "cpu",
        content=caps.describe(),
        frame_bytes=frame_bytes,
        frames=frames,
        memory_bytes=frame_bytes * frames,
        fps=rates[edge.producer],
        bytes_per_second=round(frame_bytes * rates[edge.producer]),
    )


def _frame_bytes(caps: Caps, output: str, assumptions: dict[str, None]) -> int:
    if caps.media == "event":
        return EVENT_BYTES
    if caps.media in ("packet", "audio"):
        assumptions[f"{output}: packets of {PACKET_BYTES} bytes"] = None
        return PACKET_BYTES
    per_pixel = max(BYTES_PER_PIXEL.get(fmt, 3.0) for fmt in (caps.pix_fmt or "").split("|"))
    itemsize = np.dtype((caps.dtype or "uint8").split("|")[0]).itemsize
    return round((caps.width or 0) * (caps.height or 0) * per_pixel * itemsize)


def _paths(plan: Plan, rates: Mapping[str, float]) -> tuple[PathBudget, ...]:
    """For each source and each sink that it reaches: the path with the longest wait."""
    longest: dict[str, dict[str, PathBudget]] = {}
    for name in plan.nodes:
        inputs = [edge for edge in plan.inputs_of(name) if not edge.back_edge]
        ways: dict[str, PathBudget] = {}
        if not inputs:
            ways[name] = PathBudget(nodes=(name,), frames=0, latency_ms=0.0)
        for edge in inputs:
            for source, way in longest[edge.producer].items():
                further = _further(plan, way, edge, rates[edge.producer])
                if source not in ways or further.latency_ms > ways[source].latency_ms:
                    ways[source] = further
        longest[name] = ways
    sinks = [name for name in plan.nodes if all(edge.back_edge for edge in plan.outputs_of(name))]
    found = [
        longest[sink][source] for source in plan.nodes for sink in sinks if source in longest[sink]
    ]
    return tuple(_limited(plan, path, rates) for path in found)


def _further(plan: Plan, way: PathBudget, edge: PlannedEdge, fps: float) -> PathBudget:
    frames = edge.queue + edge.window
    batch = plan.nodes[edge.consumer].batch
    is_waiting = batch is not None and edge.arrival == "batch" and plan.mode == "live"
    wait_ms = batch.max_wait_ms if batch is not None and is_waiting else 0.0
    return PathBudget(
        nodes=(*way.nodes, edge.consumer),
        frames=way.frames + frames,
        latency_ms=way.latency_ms + frames / fps * 1000 + wait_ms,
    )


def _limited(plan: Plan, path: PathBudget, rates: Mapping[str, float]) -> PathBudget:
    """No more frames are under way than `max_in_flight` lets in."""
    source = path.nodes[0]
    limit = (plan.max_in_flight or path.frames) * max(len(plan.nodes[source].streams), 1)
    if path.frames <= limit:
        return path
    at_limit_ms = limit / rates[source] * 1000
    return msgspec.structs.replace(path, frames=limit, latency_ms=min(path.latency_ms, at_limit_ms))


def _free_bytes(folder: Path) -> int | None:
    try:
        state: Any = os.statvfs(folder)
    except FileNotFoundError:
        return None
    return int(state.f_bavail * state.f_frsize)
