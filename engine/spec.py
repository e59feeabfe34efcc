"""What a graph is: pure data, the same for its YAML and its Python spelling."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from msgspec import Meta, Struct, field

Policy = Literal["block", "drop_oldest", "latest"]
Cause = Literal["late", "queue_full", "stale_epoch", "quarantined", "peer_lost", "unmatched"]
CAUSES: tuple[Cause, ...] = get_args(Cause)


class EdgeSpec(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One edge, written at its consumer. In a file graph every edge blocks, despite `full`."""

    from_: Annotated[str, Meta(description="producer: node or node.port")] = field(name="from")
    queue: (
        Annotated[int, Meta(ge=1, le=1024, description="frames waiting at the producer")] | None
    ) = None
    full: Annotated[Policy, Meta(description="what happens when the queue is full")] | None = None
    window: Annotated[int, Meta(ge=1, le=16, description="frames under way at once (credits)")] = 1
    max_age_ms: (
        Annotated[int, Meta(ge=1, description="older frames die here, cause `late`")] | None
    ) = None
    back_edge: Annotated[bool, Meta(description="closes a cycle on purpose")] = False
    allow: Annotated[tuple[str, ...], Meta(description="labels let through, e.g. raw-face")] = ()


class BatchSpec(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How much a `Batch` port gets at once."""

    max_size: Annotated[int, Meta(ge=1, le=256)] = 1
    max_wait_ms: Annotated[float, Meta(ge=0, le=1000)] = 0  # live only; a file graph fills batches


class JoinSpec(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a node with several inputs puts frames together."""

    policy: Literal["exact", "nearest", "latest"] = "exact"
    tolerance_ms: Annotated[float, Meta(ge=0)] = 0  # nearest: how far apart in pts


class NodeSpec(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An operator placed in a graph."""

    op: Annotated[str, Meta(description="module:Class")]
    config: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, EdgeSpec] = field(default_factory=dict)
    streams: Annotated[
        dict[str, dict[str, Any]], Meta(description="sources: stream id -> config")
    ] = field(default_factory=dict)
    worker: str = "main"
    device: str = "cpu"
    batch: BatchSpec | None = None
    join: JoinSpec | None = None


class WorkerSpec(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A process. Workers with different hosts exchange frames over TCP, else over shared memory."""

    host: Annotated[str, Meta(description="address others reach it by")] | None = None
    nice: Annotated[int, Meta(ge=0, le=19, description="lower priority, for generation")] = 0


class GraphSpec(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole graph."""

    graph: Annotated[str, Meta(description="name", pattern="^[a-z][a-z0-9-]*$")]
    about: str = ""
    mode: Annotated[
        Literal["file", "live"],
        Meta(description="file: nothing is lost, deterministic; live: deadlines, drops"),
    ] = "live"
    latency_budget_ms: (
        Annotated[int, Meta(ge=1, description="live: from capture to sink")] | None
    ) = None
    max_in_flight: (
        Annotated[int, Meta(ge=1, description="live: frames of one stream inside")] | None
    ) = None
    workers: dict[str, WorkerSpec] = field(default_factory=dict)
    nodes: dict[str, NodeSpec] = field(default_factory=dict)
