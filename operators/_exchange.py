"""What pushing frames to another run and pulling them from one have in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from engine import OpContext, OperatorError, TransportError
from engine.plan import PlannedEdge
from engine.spec import Policy
from engine.transport.endpoints import stays_on_host
from engine.transport.keys import KeyRing

if TYPE_CHECKING:
    from engine.plan import LinkKind
    from engine.transport.hub import Hub

Endpoint = Annotated[
    str,
    Meta(
        pattern=r"^(tcp://[^/]+:\d+|ipc:///.+)$",
        description="tcp://ADDRESS:PORT, or ipc:///PATH on one host",
    ),
]
Channel = Annotated[
    str, Meta(min_length=1, max_length=64, description="name that both sides use for these frames")
]
Keys = Annotated[
    str, Meta(description="folder of `frameloom keygen`; empty: not encrypted, one host only")
]


def load_keys(folder: str, endpoint: str) -> KeyRing | None:
    """The keys to use; OperatorError where there must be some and are none, or they are bad."""
    if not folder and stays_on_host(endpoint):
        return None
    if not folder:
        raise OperatorError(
            "NOT_ENCRYPTED",
            f"{endpoint} is reached from other hosts: make keys"
            " (`frameloom keygen NAME --dir KEYS`) and set `keys: KEYS`",
        )
    try:
        return KeyRing.load(Path(folder))
    except (TransportError, OSError) as error:
        raise OperatorError("BAD_KEYS", str(error)) from error


def exchange_edge(
    channel: str, endpoint: str, *, policy: Policy = "block", queue: int = 1, window: int = 2
) -> PlannedEdge:
    """The edge that leads from one run into the other."""
    link: LinkKind = "ipc" if endpoint.startswith("ipc://") else "tcp"
    return PlannedEdge(
        id=f"push:{channel}",
        producer="push",
        producer_port=channel,
        consumer="pull",
        consumer_port=channel,
        arrival="each",
        queue=queue,
        policy=policy,
        window=window,
        link=link,
    )


@contextmanager
def running_hub(ctx: OpContext, keys: KeyRing | None) -> Iterator[Hub]:
    """An I/O thread of the node's own, as long as the node is open."""
    from engine.transport.epochs import EpochTable
    from engine.transport.hub import Hub

    hub = Hub(ctx.node, ctx.clock, EpochTable(), keys=keys)
    hub.start()
    try:
        yield hub
    finally:
        hub.stop()
