"""A camera on this computer (Video4Linux)."""

from __future__ import annotations

import errno
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta

from engine import Config, EndOfStream, Frame, OpContext, Operator, OperatorError, rescale_pts
from operators.sources._av import FrameCopier
from operators.sources._outputs import Pictures

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer

TIME_BASE = Fraction(1, 1_000_000)
NANOSECOND = Fraction(1, 10**9)
RETRY = frozenset({errno.EAGAIN, errno.EINTR})
CAUSES = {
    errno.ENOENT: ("NOT_FOUND", "no such camera; `ls /dev/video*` shows those there are"),
    errno.ENODEV: ("NOT_FOUND", "the camera is gone; plug it in again"),
    errno.ENXIO: ("NOT_FOUND", "the camera is gone; plug it in again"),
    errno.EBUSY: ("BUSY", "another program uses the camera; close that one"),
    errno.EACCES: ("PERMISSION", "this user may not use the camera; add it to the group `video`"),
    errno.EPERM: ("PERMISSION", "this user may not use the camera; add it to the group `video`"),
}


class CameraSourceConfig(Config, frozen=True):
    """Which camera and what to ask of it; it may choose a size nearby."""

    device: Annotated[str, Meta(pattern="^/dev/", description="e.g. /dev/video0")] = "/dev/video0"
    width: Annotated[int, Meta(ge=16, le=7680, description="px")] = 1280
    height: Annotated[int, Meta(ge=16, le=4320, description="px")] = 720
    fps: Annotated[float, Meta(gt=0, le=1000, description="Hz")] = 30
    input_format: Annotated[
        str, Meta(description="e.g. mjpeg or yuyv422; empty: the camera's choice")
    ] = ""


class CameraSource(Operator[CameraSourceConfig]):
    """Frames as the camera gives them, pts from the moment each was read."""

    preload = ("av",)

    def open(self, ctx: OpContext) -> None:
        self._ctx = ctx
        self._copier = FrameCopier(self.config.device)
        self._container: InputContainer = self._acquire()
        codec = self._container.streams.video[0].codec_context
        codec.thread_type, codec.thread_count = "SLICE", ctx.threads
        self._packets = self._container.demux(video=0)
        self._first_ns: int | None = None
        self._last_pts = -1
        self._corrupt = False  # said already

    def process(self) -> Pictures | None:
        """The next frame; None when the camera gave one that cannot be decoded."""
        if self._ctx.stopping():
            raise EndOfStream
        decoded, arrival_ns = self._read()
        if decoded is None:
            return None
        if self._first_ns is None:
            self._first_ns = arrival_ns
        pts = rescale_pts(arrival_ns - self._first_ns, NANOSECOND, TIME_BASE)
        self._last_pts = max(pts, self._last_pts + 1)
        data, caps = self._copier.copy(decoded)
        return Pictures(Frame(data, caps, self._ctx.stamp(self._last_pts, TIME_BASE, arrival_ns)))

    def close(self) -> None:
        self._container.close()

    def _acquire(self) -> Any:
        import av

        config = self.config
        options = {"video_size": f"{config.width}x{config.height}", "framerate": f"{config.fps:g}"}
        if config.input_format:
            options["input_format"] = config.input_format
        try:
            return av.open(config.device, format="v4l2", options=options)
        except (OSError, ValueError) as error:
            raise self._failure(error) from error

    def _read(self) -> tuple[VideoFrame | None, int]:
        from av.error import InvalidDataError

        try:
            packet = next(self._packets, None)
            arrival_ns = self._ctx.clock.now_ns()
            if packet is None or not packet.size:
                gone = f"{self.config.device}: the camera is gone; plug it in again"
                raise OperatorError("DISCONNECTED", gone, permanent=False)
            return next(iter(packet.decode()), None), arrival_ns
        except InvalidDataError:
            if not self._corrupt:
                self._ctx.report("CORRUPT", f"{self.config.device}: a frame cannot be decoded")
            self._corrupt = True
            return None, 0
        except OSError as error:
            if error.errno in RETRY:
                return None, 0
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> OperatorError:
        number = getattr(error, "errno", None) or 0
        unknown = ("UNREADABLE", f"the camera cannot be read ({type(error).__name__}); try another")
        code, remedy = CAUSES.get(number, unknown)
        return OperatorError(code, f"{self.config.device}: {remedy}", permanent=False)
