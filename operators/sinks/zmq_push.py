"""Gives frames to another run over ZeroMQ: on this host through shared memory, else encrypted."""

from __future__ import annotations

import threading
from typing import Annotated, Any

from msgspec import Meta

from engine import Config, OpContext, Operator, OperatorError, TransportError
from engine.frame import Discontinuity
from engine.spec import Policy
from engine.telemetry.doubling import Doubling
from engine.telemetry.stats import EdgeStats
from engine.transport.endpoints import stays_on_host
from operators._exchange import Channel, Endpoint, Keys, exchange_edge, load_keys, running_hub
from operators.ports import Video

LOOK_NS = 5_000_000  # between two looks whether the other side has taken the rest


class ZmqPushConfig(Config, frozen=True):
    """Where to listen, and what to do while nobody takes the frames."""

    endpoint: Endpoint
    channel: Channel = "frames"
    keys: Keys = ""
    queue: Annotated[int, Meta(ge=1, le=256, description="frames that wait at most")] = 4
    full: Annotated[
        Policy,
        Meta(description="block: wait for the other side; the others drop the oldest frames"),
    ] = "drop_oldest"
    window: Annotated[int, Meta(ge=1, le=16, description="frames under way at most")] = 2
    patience_ms: Annotated[
        int, Meta(ge=1, le=600_000, description="block: ms without room before it is an error")
    ] = 5000
    drain_ms: Annotated[
        int, Meta(ge=0, le=60_000, description="ms for the rest at the end; 0: drop it")
    ] = 2000


class ZmqPush(Operator[ZmqPushConfig]):
    """One run at a time pulls a channel (`ZmqPull`); a new one takes the place of the old.

    Pixels, caps, records and stamps arrive as they are. Breaks of a stream are passed on.
    """

    network_sink = True
    preload = ("zmq",)

    @classmethod
    def reaches_beyond_host(cls, config: Any) -> bool:
        return not stays_on_host(config.endpoint)

    def open(self, ctx: OpContext) -> None:
        from engine.transport.outbox import Outbox

        config = self.config
        self._ctx = ctx
        keys = load_keys(config.keys, config.endpoint)
        self._edge = exchange_edge(
            config.channel,
            config.endpoint,
            policy=config.full,
            queue=config.queue,
            window=config.window,
        )
        self._outbox = Outbox(self._edge, ctx.clock)
        self._hub = ctx.enter(running_hub(ctx, keys))
        self._hub.serve(self._outbox)
        try:
            endpoint = self._hub.listen(config.endpoint)
        except TransportError as error:
            raise OperatorError("CANNOT_LISTEN", f"{error}; set another endpoint") from error
        self._refused = Doubling()
        ctx.account(config.channel, self._books)
        if config.endpoint.endswith(":0"):
            ctx.report("LISTENING", f"frames of channel '{config.channel}' are at {endpoint}")

    def process(self, frames: Video) -> None:
        """Never waits, except under `full: block`."""
        patience_s = self.config.patience_ms / 1000
        if not self._outbox.put(frames, self._ctx.stopping, patience_s):
            raise OperatorError(
                "NOBODY_PULLS",
                f"{self.config.endpoint}: no frame was taken for {self.config.patience_ms} ms;"
                " start the run that pulls, or set `full: drop_oldest`",
                permanent=False,
            )
        if self._refused.risen_to(self._hub.refused):
            told = f"{self._hub.refused} connections had an unknown key and were turned away"
            self._ctx.report("REFUSED", told)
        if self._outbox.slab_error is not None:
            self._ctx.report("SHM_FULL", self._outbox.slab_error)
            self._outbox.slab_error = None

    def reset(self, stream_id: str) -> None:
        """The other side is told that the stream broke off or ended here."""
        self._outbox.put(Discontinuity(stream_id, "PUSHED_BREAK"), self._ctx.stopping)

    def close(self) -> None:
        """Say that it is over and wait for the rest to be taken."""
        self._outbox.close()
        left_ns = self.config.drain_ms * 1_000_000
        never = threading.Event()
        while left_ns > 0 and self._hub.attached(self._edge.id) and not self._over():
            self._ctx.clock.wait(never, LOOK_NS)
            left_ns -= LOOK_NS
        left = self._outbox.stats().in_flight
        if left:
            self._outbox.abandon()
            self._ctx.report("UNDELIVERED", f"{left} frames at the end were not taken")

    def _books(self) -> EdgeStats:
        stats = self._outbox.stats()
        stats.malformed += self._hub.malformed
        return stats

    def _over(self) -> bool:
        return self._hub.over(self._edge.id) and self._outbox.stats().in_flight == 0
