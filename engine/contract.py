"""The contract of an operator: one class, four verbs, the signature of `process` is the truth."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import (
    Annotated,
    Any,
    ClassVar,
    Generic,
    Literal,
    Protocol,
    TypeVar,
    get_args,
    get_origin,
)

from msgspec import Struct

from engine.caps import Caps
from engine.clock import Clock
from engine.frame import Batch, Frame, Latest, Record
from engine.timing import Stamp

Arrival = Literal["each", "batch", "latest"]
Mode = Literal["file", "live"]
Pixels = Literal["ignored", "kept", "changed"]
UNMARKED = "unmarked"  # a label: made by a model, and not said so on the picture itself
UNSEEN = frozenset({"event", "features"})  # media that nobody looks at or listens to
S = TypeVar("S")
T = TypeVar("T", covariant=True)


class Tunable:
    """Marks a config field that may change while running: `Annotated[float, TUNABLE]`."""


TUNABLE = Tunable()


class Marked(Record, frozen=True):
    """The picture says of itself that it is synthetic. Taken away from whatever has new pixels.

    Only an output that `cleans` the label UNMARKED can give it.
    """

    badge: str  # what is written on it


class Config(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of an operator's config: fixed for a run, except for fields marked `TUNABLE`."""


class NoConfig(Config, frozen=True):
    """For operators that have nothing to set."""


C = TypeVar("C", bound=Config, covariant=True)


class Port(Struct, frozen=True):
    """One input or output of an operator, as read from `process`."""

    name: str
    caps: Caps
    arrival: Arrival = "each"
    optional: bool = False  # `T | None`: delivered one at a time, merged by time with its siblings


class PerStream(Protocol[T]):
    """State of an operator, one value per stream; the engine forgets ended or broken streams."""

    def __getitem__(self, stream_id: str) -> T: ...
    def __contains__(self, stream_id: object) -> bool: ...
    def __len__(self) -> int: ...


class OnDevice(Protocol):
    """A node's place on a GPU (`engine.device.scope.DeviceScope`)."""

    device: Any  # engine.device.interface.Device
    stream: Any  # engine.device.interface.Stream: current in `open`, `process`, `reset`, `close`


class OpContext(Protocol):
    """What the engine gives an operator in `open`. Everything entered is left again, in reverse."""

    node: str  # the node's name in the graph
    mode: Mode
    device: str  # cpu | cuda:N: what the node really has
    gpu: OnDevice | None  # None on the CPU
    stream_id: str  # sources: the stream to produce; elsewhere the node's name
    threads: int  # how many threads a library may use for this node
    clock: Clock

    def enter(self, manager: AbstractContextManager[S]) -> S:
        """Acquire a resource that is released after `close`, also when `open` fails half-way."""

    def per_stream(self, make: Callable[[str], S]) -> PerStream[S]:
        """A mapping that makes the value of a stream when first asked for it."""

    def stamp(self, pts: int, time_base: Any, capture_ns: int | None = None) -> Stamp:
        """Sources: the stamp of the next frame. The engine fills the rest of its fields."""

    def discontinuity(self, cause: str) -> None:
        """Sources: the stream broke off here and goes on. Travels in front of the next frame."""

    def new_epoch(self, reason: str, stream_id: str | None = None) -> int:
        """What is under way of the stream has lost its meaning (a new prompt): it dies.

        The epoch, once it has been raised: a source's next stamp belongs to it. Elsewhere name the
        stream; what still comes of the old epoch dies behind this node. Other nodes are reset when
        the new one reaches them, this one is not: it knows. OperatorError NO_EPOCH if it cannot be
        had.
        """

    def call_at(self, moment_ns: int, stream_id: str, call: Callable[[], Any]) -> None:
        """Nodes with inputs, live: have `call` made once the clock reaches `moment_ns`, whether
        or not anything comes in.

        In the node's own thread; what it gives goes out as what `process` gives does. What has come
        in by then goes first. A stream has one call, the one that was asked for last; its end, a
        break or a new epoch takes it away. EngineError in a file graph, where schedules run on pts,
        and for sources, which are called all the time.
        """

    def report(self, code: str, message: str) -> None:
        """Tell the person who runs the graph: a typed code and a sentence without secrets."""

    def publish(self, topic: str, payload: bytes) -> None:
        """Show the latest value of something (a preview) to the live page. Never waits.

        An empty one takes it away again.
        """

    def account(self, name: str, stats: Callable[[], Any]) -> None:
        """Sinks: an edge that leads out of the graph; its books (`EdgeStats`) are shown with the
        graph's own.
        """

    def output_path(self, path: str) -> Path:
        """Where a sink writes: relative paths are below the run's output folder, which is made."""

    def stopping(self) -> bool:
        """Sources: True once the run is to end; return or raise EndOfStream soon."""


class Operator(Generic[C]):
    """Base of all operators. Subclass with a config and a typed `process`; nothing to call first.

    Life-cycle: `open` once, then `process` and `reset` from the node's own thread, then `close` if
    `open` succeeded, also after an error. `process` may return None: the frame is skipped and the
    stream's watermark moves on. A source has no inputs and raises EndOfStream at its end.
    """

    config_type: ClassVar[type[Config]] = NoConfig
    devices: ClassVar[tuple[str, ...]] = ("cpu",)  # where it can work: cpu, cuda
    gpu_caps: ClassVar[Mapping[str, Caps]] = {}  # fields of ports that differ on a GPU
    # On a GPU: by its name what it needs there beside torch, `module:function` that takes the
    # device's name, tries it and raises where it cannot be had. For `doctor`.
    gpu_needs: ClassVar[Mapping[str, str]] = {}
    stream_priority: ClassVar[int] = 0  # on a GPU; -1 goes before 0: what people wait for
    inputs: ClassVar[Mapping[str, Port]] = {}
    outputs: ClassVar[Mapping[str, Port]] = {}
    network_sink: ClassVar[bool] = False  # sends what it is given beyond this process
    # What it gives is made by a model, not captured; only what it passes on untouched is not.
    synthesizes: ClassVar[bool] = False
    # What becomes of pixels. ignored: it goes by stamps and records, frames pass it untouched;
    # kept: all of a picture, a badge on it too, can be seen in what it gives. A node that does not
    # ignore them and whose outputs nobody takes shows them: nothing synthetic reaches it unmarked.
    pixels: ClassVar[Pixels] = "changed"
    event_sink: ClassVar[bool] = False  # losing an item is losing evidence: lossy edges are refused
    preload: ClassVar[
        tuple[str, ...]
    ] = ()  # modules that `open` needs, imported ahead of a restart

    config: C

    def __init__(self, config: C) -> None:
        self.config = config

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for base in getattr(cls, "__orig_bases__", ()):
            for argument in get_args(base):
                if isinstance(argument, type) and issubclass(argument, Config):
                    cls.config_type = argument
        if "process" in cls.__dict__:
            cls.inputs, cls.outputs = _read_ports(cls)

    @classmethod
    def output_caps(cls, config: Any, port: str) -> Caps:
        """The caps of an output where the config decides them; the signature's by default."""
        return cls.outputs[port].caps

    @classmethod
    def reaches_beyond_host(cls, config: Any) -> bool:
        """Whether others than this host can see what arrives; a sink on loopback overrides this."""
        return cls.network_sink

    @classmethod
    def checkpoints(cls, config: Any) -> Mapping[str, Path]:
        """Files that `open` will read, by the config field that names them; `check` looks for them.

        Paths below the current folder or absolute ones; a folder will do.
        """
        return {}

    def open(self, ctx: OpContext) -> None:
        """Acquire what `process` needs. Heavy imports belong here, not at the top of the module."""

    def process(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no process")

    def reset(self, stream_id: str) -> Any:
        """Forget the stream (end, break, epoch, seek). May return the rest, as `process` does."""

    def close(self) -> None:
        """Finish what was written. Called once, also after an error in `process`."""


def _read_ports(cls: type[Operator[Any]]) -> tuple[dict[str, Port], dict[str, Port]]:
    hints = typing.get_type_hints(cls.process, include_extras=True)
    parameters = list(inspect.signature(cls.process).parameters)[1:]
    missing = [name for name in (*parameters, "return") if name not in hints]
    if missing:
        raise TypeError(f"{cls.__name__}.process: {', '.join(missing)} has no type")
    inputs = {name: _port(cls, name, hints[name]) for name in parameters}
    return inputs, _output_ports(cls, hints["return"])


def _output_ports(cls: type[Operator[Any]], hint: Any) -> dict[str, Port]:
    hint, _ = _strip_none(hint)
    if hint is type(None):
        return {}
    if isinstance(hint, type) and issubclass(hint, tuple) and hasattr(hint, "_fields"):
        fields = typing.get_type_hints(hint, include_extras=True)
        return {name: _port(cls, name, kind) for name, kind in fields.items()}
    return {"out": _port(cls, "out", hint)}


def _port(cls: type[Operator[Any]], name: str, hint: Any) -> Port:
    hint, optional = _strip_none(hint)
    arrival: Arrival = "each"
    if get_origin(hint) is Batch:
        arrival, hint = "batch", get_args(hint)[0]
    elif get_origin(hint) is Latest:
        arrival, hint = "latest", get_args(hint)[0]
    elif get_origin(hint) is list:
        hint = get_args(hint)[0]
    if get_origin(hint) is Annotated:
        caps = next((extra for extra in get_args(hint)[1:] if isinstance(extra, Caps)), Caps())
        hint = get_args(hint)[0]
    else:
        caps = Caps()
    if hint is not Frame:
        raise TypeError(f"{cls.__name__}.process: port '{name}' must carry Frame, not {hint!r}")
    return Port(name, caps, arrival, optional)


def _strip_none(hint: Any) -> tuple[Any, bool]:
    if get_origin(hint) in (typing.Union, types.UnionType):
        rest = [part for part in get_args(hint) if part is not type(None)]
        if len(rest) == 1 and len(rest) < len(get_args(hint)):
            return rest[0], True
    return hint, False
