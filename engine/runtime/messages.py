"""What supervisor and workers say to each other: msgpack, tagged, validated when read."""

from __future__ import annotations

from msgspec import Struct, field, msgpack

from engine.plan import Plan
from engine.telemetry.stats import EdgeStats, NodeStats, RunEvent, WorkerStats

DEVICE_LOST_STATUS = 75  # with this a worker ends that can use its GPU no more


class Message(Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Base of all control messages."""


# supervisor -> forkserver -> worker ------------------------------------------------------------


class Spawn(Message, frozen=True):
    """Everything a worker needs to begin."""

    worker: str
    number: int  # of the worker in its run
    incarnation: int  # 0 the first time, then one more at each restart
    plan: Plan
    control: str  # endpoint of the supervisor
    run_dir: str  # sockets live here
    out_dir: str  # sinks write here
    keys_dir: str | None = None  # CURVE keys; needed for TCP beyond loopback
    keep_open: bool = False  # sources without streams wait for streams to be added


# supervisor -> worker --------------------------------------------------------------------------


class Peers(Message, frozen=True):
    """Where the other workers listen; connect to the producers of your remote inputs, then open."""

    endpoints: dict[str, str]


class Go(Message, frozen=True):
    """Everybody is ready: sources may produce."""


class Stop(Message, frozen=True):
    """End: `drain` lets what is inside come out first."""

    drain: bool = True


class PeerGone(Message, frozen=True):
    """That worker's process has ended. `final` means that it will not come back."""

    worker: str
    final: bool = False


class PeerBack(Message, frozen=True):
    """A worker that was gone listens again."""

    worker: str
    endpoint: str


class Epoch(Message, frozen=True):
    """The epoch of a stream, raised by the one authority."""

    stream_id: str
    epoch: int


class Tune(Message, frozen=True):
    """Change a tunable of a node from frame `from_seq` on. `value` is msgpack."""

    node: str
    name: str
    value: bytes
    from_seq: int = 0


class AddStream(Message, frozen=True):
    """A source produces one more stream. `config` is msgpack of the overrides."""

    node: str
    stream_id: str
    config: bytes


class RemoveStream(Message, frozen=True):
    """A stream of a source ends now."""

    node: str
    stream_id: str


class Progress(Message, frozen=True):
    """A terminal node is done with everything of a stream up to `seq` (for the flow limit)."""

    node: str
    stream_id: str
    seq: int


# worker -> supervisor --------------------------------------------------------------------------


class Listening(Message, frozen=True):
    """The worker's data endpoint."""

    endpoint: str


class Ready(Message, frozen=True):
    """Every node of this worker is open."""


class Failure(Struct, frozen=True):
    """Why a node failed. `detail` is the traceback where the cause is not a known one."""

    node: str
    stream_id: str
    code: str
    message: str
    detail: str = ""


class OpenFailed(Message, frozen=True):
    """Some nodes could not be opened; nothing has run."""

    failures: tuple[Failure, ...]


class Heartbeat(Message, frozen=True):
    """Alive, and how everything stands. `stuck_ms` names nodes whose `process` has not returned."""

    stats: WorkerStats
    nodes: dict[str, NodeStats]
    edges: dict[str, EdgeStats]
    stuck_ms: dict[str, float] = field(default_factory=dict)
    final: bool = False


class Report(Message, frozen=True):
    """A typed event for the person who runs the graph."""

    event: RunEvent


class NodeFailed(Message, frozen=True):
    """A node, or one stream of a source, gave up while running."""

    failure: Failure


class Publish(Message, frozen=True):
    """The latest value of a topic for the live page."""

    topic: str
    payload: bytes


class RaiseEpoch(Message, frozen=True):
    """An operator asks for a new epoch of a stream."""

    stream_id: str
    reason: str


class Done(Message, frozen=True):
    """All lanes of the worker have ended, everything is closed."""


ToWorker = (
    Peers | Go | Stop | PeerGone | PeerBack | Epoch | Tune | AddStream | RemoveStream | Progress
)
ToSupervisor = (
    Listening
    | Ready
    | OpenFailed
    | Heartbeat
    | Report
    | NodeFailed
    | Publish
    | RaiseEpoch
    | Done
    | Progress
)

encode = msgpack.Encoder().encode
decode_to_worker = msgpack.Decoder(ToWorker).decode
decode_to_supervisor = msgpack.Decoder(ToSupervisor).decode
decode_spawn = msgpack.Decoder(Spawn).decode
