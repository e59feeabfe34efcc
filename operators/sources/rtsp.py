"""A live RTSP camera: reconnects for ever, names every cause, shows no password."""

from __future__ import annotations

import threading
from collections import deque
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from msgspec import Meta

from engine import Config, EndOfStream, Frame, OpContext, Operator, OperatorError, rescale_pts
from operators.records import Packet
from operators.sources._av import audio_caps, packet_bytes
from operators.sources._connection import Arrived, Connection, Lost, Opened, redacted, with_login
from operators.sources._cuda import DECODER, ON_GPU, accelerator, copier_for
from operators.sources._outputs import Media

if TYPE_CHECKING:
    from av import VideoFrame

TIME_BASE = Fraction(1, 90_000)
NANOSECOND = Fraction(1, 10**9)
USUAL_STEP = 3600  # ticks between frames at 25 Hz
IDLE_S = 0.25  # process returns at least this often, so that a stop is noticed
KEPT_ARRIVALS = 64  # packets inside the decoder
PERMANENT = {
    "AUTH_FAILED": "the server refuses user or password; correct them",
    "NO_VIDEO": "the server sends no video; name a mount that does",
    "CODEC_UNSUPPORTED": "this FFmpeg cannot decode the video; set the camera to H.264",
}
PASSING = {
    "NOT_FOUND": "the server knows no such mount",
    "TIMEOUT": "the server does not answer",
    "REFUSED": "nothing listens there",
    "UNREACHABLE": "the host cannot be reached",
    "DISCONNECTED": "the server ended the connection",
}


class RtspSourceConfig(Config, frozen=True):
    """Which camera, and how patient to be."""

    url: Annotated[str, Meta(pattern="^rtsps?://", description="rtsp://[user:password@]host/path")]
    user: Annotated[str, Meta(description="used when the url names none")] = ""
    password: Annotated[str, Meta(description="goes with user; never shown")] = ""
    transport: Annotated[
        Literal["tcp", "udp"], Meta(description="udp: less delay, loses packets")
    ] = "tcp"
    open_timeout_ms: Annotated[
        int, Meta(ge=100, le=60_000, description="ms for connecting, and at most for stopping")
    ] = 3000
    read_timeout_ms: Annotated[
        int, Meta(ge=100, le=60_000, description="ms without a packet before reconnecting")
    ] = 3000
    retry_ms: Annotated[
        int, Meta(ge=10, le=60_000, description="ms before the first new attempt; then doubling")
    ] = 250
    retry_max_ms: Annotated[
        int, Meta(ge=10, le=600_000, description="ms between two attempts at most")
    ] = 2000
    audio: Annotated[bool, Meta(description="pass the sound on, undecoded")] = False

    def __repr__(self) -> str:
        return f"RtspSourceConfig(url={redacted(self.url)!r}, transport={self.transport!r})"


class RtspSource(Operator[RtspSourceConfig]):
    """Frames with the moment their packet arrived. Pts run on across reconnects with real time."""

    preload = ("av",)
    devices = ("cpu", "cuda")
    gpu_caps: ClassVar = {"frames": ON_GPU}
    gpu_needs: ClassVar = DECODER

    def open(self, ctx: OpContext) -> None:
        config = self.config
        self._ctx = ctx
        self._shown = redacted(config.url)
        self._url = with_login(config.url, config.user, config.password)
        self._copier = copier_for(ctx, self._shown)
        self._never = threading.Event()
        self._connection: Connection | None = None
        self._retry_at_ns = ctx.clock.now_ns()
        self._retry_ms = config.retry_ms
        self._break: str | None = None  # why the stream broke, until the next frame
        self._last_pts = -1
        self._last_ns: int | None = None  # arrival of the last frame
        self._pending: deque[VideoFrame] = deque()
        self._forget_connection()

    def process(self) -> Media | None:
        """A frame or an audio packet, None when there was neither within a quarter second."""
        if self._ctx.stopping():
            raise EndOfStream
        if self._pending:
            return self._frame(self._pending.popleft())
        if self._connection is None:
            self._connect()
            return None
        step = self._connection.next_step(IDLE_S)
        if isinstance(step, Opened):
            self._prepare(step)
        elif isinstance(step, Lost):
            self._lose(step.cause)
        elif isinstance(step, Arrived):
            return self._take(step)
        return None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._forget_connection()

    def _forget_connection(self) -> None:
        self._connection = None
        self._video: Any = None
        self._audio_caps: Any = None
        self._pending.clear()
        self._arrivals: dict[int | None, int] = {}
        self._corrupt = False  # said already
        self._shift: int | None = None  # from this connection's pts to the stream's

    def _connect(self) -> None:
        clock, config = self._ctx.clock, self.config
        left_ns = self._retry_at_ns - clock.now_ns()
        if left_ns > 0:
            clock.wait(self._never, min(left_ns, round(IDLE_S * 1e9)))
            return
        timeouts_s = (config.open_timeout_ms / 1000, config.read_timeout_ms / 1000)
        self._connection = Connection(
            self._url, _options(config.transport), timeouts_s, clock, accelerator(self._ctx)
        )

    def _prepare(self, opened: Opened) -> None:
        self._video = opened.video
        codec = opened.video.codec_context
        codec.thread_type = "SLICE"  # threads per frame would hold frames back
        codec.thread_count = self._ctx.threads
        if self.config.audio and opened.audio is not None:
            self._audio_caps = audio_caps(opened.audio)

    def _lose(self, cause: str) -> None:
        assert self._connection is not None
        self._connection.close()
        self._forget_connection()
        if cause in PERMANENT:
            raise OperatorError(cause, f"{self._shown}: {PERMANENT[cause]}")
        if cause != self._break:
            again = "trying again until it is back"
            self._ctx.report(cause, f"{self._shown}: {PASSING[cause]}; {again}")
        self._break = cause
        self._retry_at_ns = self._ctx.clock.now_ns() + self._retry_ms * 1_000_000
        self._retry_ms = min(2 * self._retry_ms, self.config.retry_max_ms)

    def _take(self, arrived: Arrived) -> Media | None:
        from av.error import FFmpegError

        packet = arrived.packet
        if packet.stream.type != "video":
            return self._audio_packet(arrived)
        self._arrivals[packet.pts] = arrived.arrival_ns
        while len(self._arrivals) > KEPT_ARRIVALS:
            del self._arrivals[next(iter(self._arrivals))]
        try:
            self._pending.extend(packet.decode())
        except FFmpegError:
            if not self._corrupt:
                self._ctx.report("CORRUPT", f"{self._shown}: a frame cannot be decoded; going on")
            self._corrupt = True
        return self._frame(self._pending.popleft()) if self._pending else None

    def _frame(self, decoded: VideoFrame) -> Media:
        arrival_ns = self._arrivals.pop(decoded.pts, None) or self._ctx.clock.now_ns()
        pts = self._stream_pts(decoded.pts, arrival_ns)
        data, caps = self._copier.copy(decoded)
        if self._break is not None and self._last_ns is not None:
            self._ctx.report("RECONNECTED", f"{self._shown}: frames again after {self._break}")
            self._ctx.discontinuity(self._break)
        self._break = None
        self._retry_ms = self.config.retry_ms
        self._last_pts, self._last_ns = pts, arrival_ns
        return Media(frames=Frame(data, caps, self._ctx.stamp(pts, TIME_BASE, arrival_ns)))

    def _stream_pts(self, pts: int | None, arrival_ns: int) -> int:
        """Always rising; after a break as much later as the frame came later."""
        expected = self._expected_pts(arrival_ns)
        if pts is None:
            return expected
        ticks = rescale_pts(pts, self._video.time_base, TIME_BASE)
        if self._shift is None:
            self._shift = expected - ticks
        return max(ticks + self._shift, self._last_pts + 1)

    def _expected_pts(self, arrival_ns: int) -> int:
        """The pts of a frame that says none itself."""
        if self._last_ns is None:
            return 0
        if self._break is None:
            return self._last_pts + USUAL_STEP
        waited = rescale_pts(arrival_ns - self._last_ns, NANOSECOND, TIME_BASE)
        return self._last_pts + max(waited, 1)

    def _audio_packet(self, arrived: Arrived) -> Media | None:
        packet = arrived.packet
        # Sound has no place in time before the first picture of the connection.
        if self._audio_caps is None or self._shift is None or packet.pts is None:
            return None
        shift = rescale_pts(self._shift, TIME_BASE, packet.time_base)
        dts = packet.pts if packet.dts is None else packet.dts
        record = Packet(dts + shift, packet.duration or 0, packet.is_keyframe)
        stamp = self._ctx.stamp(packet.pts + shift, packet.time_base, arrived.arrival_ns)
        return Media(audio=Frame(packet_bytes(packet), self._audio_caps, stamp, (record,)))


def _options(transport: str) -> dict[str, str]:
    return {
        "rtsp_transport": transport,
        # No "fflags nobuffer": it throws away the key frame that the probe has read.
        "flags": "low_delay",
        "analyzeduration": "500000",  # us
        "fpsprobesize": "0",
        "max_delay": "200000",  # us, for udp: how long to wait for a packet out of order
        "buffer_size": "2097152",  # bytes of socket buffer: a key frame must fit
    }
