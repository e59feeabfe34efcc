"""Takes frames from another run that pushes them over ZeroMQ; finds it again after a break."""

from __future__ import annotations

import threading
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from engine import (
    Caps,
    Config,
    Discontinuity,
    EndOfStream,
    Frame,
    OpContext,
    Operator,
    OperatorError,
    Stamp,
    TransportError,
    rescale_pts,
)
from engine.transport.keys import public_key
from operators._exchange import Channel, Endpoint, Keys, exchange_edge, load_keys, running_hub
from operators.ports import Video

IDLE_NS = 250_000_000  # process returns at least this often, so that a stop is noticed
NANOSECOND = Fraction(1, 10**9)


class ZmqPullConfig(Config, frozen=True):
    """Where the other run pushes, and what to expect of it."""

    endpoint: Endpoint
    channel: Channel = "frames"
    keys: Keys = ""
    server: Annotated[
        str, Meta(description="name of the pushing side's public key in `keys`; empty: our own")
    ] = ""
    stream: Annotated[
        str, Meta(description="which stream, where several are pushed; empty: the first that comes")
    ] = ""
    pix_fmt: Annotated[
        Literal["yuv420p", "nv12", "rgb24", "bgr24", "gray"],
        Meta(description="what is pushed; anything else is an error"),
    ] = "yuv420p"
    window: Annotated[int, Meta(ge=1, le=16, description="frames under way at most")] = 2
    follow: Annotated[
        bool, Meta(description="wait for the next run when the other one has ended")
    ] = False
    answer_ms: Annotated[
        int, Meta(ge=10, le=600_000, description="ms without a connection before it is told")
    ] = 3000


class Pulled(NamedTuple):
    """A frame of the other run."""

    frames: Video


class ZmqPull(Operator[ZmqPullConfig]):
    """Keeps pixels, records and the moment of capture; pts run on across breaks."""

    preload = ("zmq",)

    @classmethod
    def output_caps(cls, config: Any, port: str) -> Caps:
        return Caps(media="video", pix_fmt=config.pix_fmt)

    def open(self, ctx: OpContext) -> None:
        config = self.config
        self._ctx = ctx
        self._bell = threading.Event()
        self._server = self._server_key()
        keys = load_keys(config.keys, config.endpoint)
        self._hub = ctx.enter(running_hub(ctx, keys))
        self._stream = config.stream
        self._others_told = False
        self._break: str | None = None  # why the stream broke, until the next frame
        self._lost = False
        self._asked_ns: int | None = ctx.clock.now_ns()  # None once there was an answer or a report
        self._shift = Fraction(0)  # seconds from the pushed pts to ours
        self._last: Stamp | None = None
        self._connect()

    def process(self) -> Pulled | None:
        """A frame, or None when none came within a quarter second."""
        if self._ctx.stopping():
            raise EndOfStream
        self._tell_connection()
        self._bell.clear()
        item = self._inbox.take()
        if isinstance(item, Frame):
            return self._frame(item)
        if isinstance(item, Discontinuity):
            self._note_break(item)
        elif item is None and self._inbox.closed:
            self._other_run_ended()
        elif item is None:
            self._ctx.clock.wait(self._bell, IDLE_NS)
        return None

    def _connect(self) -> None:
        edge = exchange_edge(self.config.channel, self.config.endpoint, window=self.config.window)
        self._inbox = self._hub.connect(
            edge, self.config.endpoint, server=self._server, lasting=True
        )
        self._inbox.on_ready = self._bell.set

    def _server_key(self) -> bytes | None:
        if not self.config.server:
            return None
        try:
            return public_key(Path(self.config.keys), self.config.server)
        except (TransportError, OSError) as error:
            raise OperatorError("BAD_KEYS", str(error)) from error

    def _tell_connection(self) -> None:
        """Say once, with a typed cause, what has become of the connection."""
        shown, state = self.config.endpoint, self._inbox.connection
        if state == "AUTH_FAILED":
            message = f"{shown}: the keys of the two sides do not fit; exchange their public keys"
            raise OperatorError("AUTH_FAILED", message)
        if state == "CONNECTED":
            self._asked_ns = None
            self._lost = False
        elif state == "DISCONNECTED" and not self._lost:
            self._lost = True
            self._break = "DISCONNECTED"
            self._ctx.report(state, f"{shown}: the connection is lost; trying until it is back")
        waited_ns = self._ctx.clock.now_ns() - (self._asked_ns or self._ctx.clock.now_ns())
        if waited_ns > self.config.answer_ms * 1_000_000:
            self._asked_ns = None
            self._ctx.report("TIMEOUT", f"{shown}: nobody answers; trying until somebody does")

    def _note_break(self, item: Discontinuity) -> None:
        if item.stream_id != (self._stream or item.stream_id):
            return
        own = item.cause == "PEER_RESTARTED"
        self._break = self._break or ("DISCONNECTED" if own else item.cause)
        self._stream = self.config.stream  # the next one that comes, unless one was asked for

    def _other_run_ended(self) -> None:
        if not self.config.follow:
            raise EndOfStream
        if self._break != "PUSH_ENDED":
            self._ctx.report("PUSH_ENDED", f"{self.config.endpoint}: waiting for the next run")
        self._break = "PUSH_ENDED"
        self._stream = self.config.stream
        self._hub.disconnect(self._inbox)
        self._ctx.clock.wait(threading.Event(), IDLE_NS)
        self._connect()

    def _frame(self, frame: Frame) -> Pulled | None:
        stamp = frame.stamp
        self._stream = self._stream or stamp.stream_id
        if stamp.stream_id != self._stream:
            self._inbox.dropped("quarantined")
            self._tell_other(stamp.stream_id)
            return None
        if frame.caps.pix_fmt != self.config.pix_fmt:
            message = f"{frame.caps.pix_fmt} is pushed; set `pix_fmt: {frame.caps.pix_fmt}`"
            raise OperatorError("WRONG_FORMAT", f"{self.config.endpoint}: {message}")
        if self._break is not None and self._last is not None:
            self._ctx.report("RECONNECTED", f"frames again after {self._break}")
            self._ctx.discontinuity(self._break)
        self._break = None
        own = self._ctx.stamp(self._pts(stamp), stamp.time_base, stamp.capture_ns)
        self._last = own
        own = msgspec.structs.replace(own, synthetic=stamp.synthetic, trace=stamp.trace)
        return Pulled(Frame(frame.data, frame.caps, own, frame.records))

    def _tell_other(self, stream_id: str) -> None:
        if not self._others_told:
            self._others_told = True
            message = f"stream '{stream_id}' is pushed too and dropped here; name it in `stream`"
            self._ctx.report("OTHER_STREAM", message)

    def _pts(self, stamp: Stamp) -> int:
        """Always rising; when the other run begins again, as much later as the frame was taken."""
        pts = stamp.pts + round(self._shift / stamp.time_base)
        if self._last is None:
            return pts
        last = rescale_pts(self._last.pts, self._last.time_base, stamp.time_base)
        if pts > last:
            return pts
        waited_ns = max(stamp.capture_ns - self._last.capture_ns, 0)
        expected = last + max(1, rescale_pts(waited_ns, NANOSECOND, stamp.time_base))
        self._shift = (expected - stamp.pts) * stamp.time_base
        return expected
