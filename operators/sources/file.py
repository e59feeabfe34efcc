"""Frames and undecoded audio packets of a media file or URL, everything FFmpeg opens."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from msgspec import Meta

from engine import Config, EndOfStream, Frame, OpContext, Operator, OperatorError, rescale_pts
from operators.records import Packet
from operators.sources._av import PtsFiller, audio_caps, packet_bytes
from operators.sources._cuda import DECODER, ON_GPU, accelerator, copier_for
from operators.sources._opening import open_media, shown
from operators.sources._outputs import Media
from operators.sources._pacing import Pacer

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer

NANOSECOND = Fraction(1, 10**9)


class FileSourceConfig(Config, frozen=True):
    """What to play, and how fast."""

    uri: Annotated[str, Meta(min_length=1, description="path or URL; anything FFmpeg opens")]
    loop: Annotated[bool, Meta(description="begin again at the end; pts go on rising")] = False
    realtime: Annotated[
        bool, Meta(description="one frame per frame period; false: as fast as they are taken")
    ] = False
    audio: Annotated[bool, Meta(description="pass the first audio stream on, undecoded")] = True


class FileSource(Operator[FileSourceConfig]):
    """One container, demuxed once. Ends with an error if the file turns out to be cut off."""

    preload = ("av",)
    devices = ("cpu", "cuda")
    gpu_caps: ClassVar = {"frames": ON_GPU}
    gpu_needs: ClassVar = DECODER

    def open(self, ctx: OpContext) -> None:
        self._ctx = ctx
        self._shown = shown(self.config.uri)
        self._copier = copier_for(ctx, self._shown)
        self._pacer = Pacer(ctx)
        self._offset = 0  # added to every pts, in ticks of the video: grows with each loop
        self._last_dts: int | None = None  # of the sound
        self._corrupt = 0
        self._pending: deque[VideoFrame] = deque()
        self._begin()

    def process(self) -> Media | None:
        """A frame or a packet; None while the decoder fills up."""
        if not self._pending:
            packet = self._next_packet()
            if packet is None:
                return self._end()
            if packet.stream is not self._video:
                return self._audio_packet(packet)
            self._decode(packet)
        return self._frame(self._pending.popleft()) if self._pending else None

    def close(self) -> None:
        self._container.close()

    def _begin(self) -> None:
        container: InputContainer = open_media(self.config.uri, accelerator(self._ctx))
        self._container = container
        self._video = container.streams.video[0]
        self._video.codec_context.thread_count = self._ctx.threads
        self._video.codec_context.thread_type = "AUTO"
        streams: list[Any] = [self._video]
        if self.config.audio and container.streams.audio:
            streams.append(container.streams.audio[0])
            self._audio_caps = audio_caps(container.streams.audio[0])
        self._packets: Iterator[Any] = container.demux(*streams)
        self._times = PtsFiller(self._video)
        self._begin_pts: int | None = None  # the first pts of this round
        self._video_packets = 0
        self._cut_off = False

    def _next_packet(self) -> Any:
        from av.error import FFmpegError

        try:
            return next(self._packets, None)
        except FFmpegError:
            # The demuxer met the end of the data before the end of the index. Frames that are
            # still in the decoder are good.
            self._cut_off = True
            self._packets = iter(())
            self._pending.extend(self._video.codec_context.decode(None))
            return None

    def _decode(self, packet: Any) -> None:
        from av.error import FFmpegError

        if packet.size:
            self._video_packets += 1
            self._cut_off = packet.is_corrupt
        try:
            self._pending.extend(packet.decode())
        except FFmpegError as error:
            self._corrupt += 1
            if self._corrupt == 1:
                self._ctx.report("CORRUPT", f"{self._shown}: a frame was left out: {error}")

    def _end(self) -> Media | None:
        if self._pending:
            return self._frame(self._pending.popleft())
        uri = self._shown
        if self._cut_off or self._video_packets < self._video.frames:
            message = f"{uri}: ends too early; what could be read was played. Copy it again"
            raise OperatorError("TRUNCATED", message)
        if self._begin_pts is None:
            raise OperatorError("CODEC_UNSUPPORTED", f"{uri}: no frame can be decoded; convert it")
        if not self.config.loop or self._ctx.stopping():
            raise EndOfStream
        self._offset += (self._times.end or 0) - self._begin_pts
        self._container.close()
        self._begin()
        self._ctx.discontinuity("LOOP")
        return None

    def _frame(self, decoded: VideoFrame) -> Media:
        pts = self._times.fill(decoded)
        if self._begin_pts is None:
            self._begin_pts = pts
        pts += self._offset
        data, caps = self._copier.copy(decoded)
        if self.config.realtime:
            self._pacer.wait_until(rescale_pts(pts, self._times.time_base, NANOSECOND))
        return Media(frames=Frame(data, caps, self._ctx.stamp(pts, self._times.time_base)))

    def _audio_packet(self, packet: Any) -> Media | None:
        if not packet.size or packet.pts is None:
            return None
        time_base = packet.time_base
        offset = rescale_pts(self._offset, self._times.time_base, time_base)
        dts = packet.pts if packet.dts is None else packet.dts
        # Sound that is longer than the pictures would overlap with the next round.
        if self._last_dts is not None and dts + offset <= self._last_dts:
            return None
        self._last_dts = dts + offset
        record = Packet(dts + offset, packet.duration or 0, packet.is_keyframe)
        stamp = self._ctx.stamp(packet.pts + offset, time_base)
        return Media(audio=Frame(packet_bytes(packet), self._audio_caps, stamp, (record,)))
