"""Records every stream to a fragmented MP4 that plays even after the recorder was killed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from engine import Config, Frame, OpContext, Operator, OperatorError
from operators.ports import AudioPackets, NodeVideo
from operators.sinks._encoders import X264, Nvenc
from operators.sinks._files import disk_errors, fill_in, reserve
from operators.sinks._recording import HELD_PACKETS, Recording, Settings

Preset = Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow"]

SMALLEST_PX = 4  # x264 refuses less


class Mp4SinkConfig(Config, frozen=True):
    """Where to, how good and how safe."""

    path: Annotated[
        str,
        Meta(
            min_length=1,
            description="file; {stream} becomes the stream id; an existing file is never "
            "overwritten, the next free of NAME-2, NAME-3, ... is taken",
        ),
    ] = "{stream}.mp4"
    crf: Annotated[
        int, Meta(ge=0, le=51, description="0 lossless, 18 hardly visible loss, 51 worst")
    ] = 23
    preset: Annotated[Preset, Meta(description="x264: faster means larger files")] = "ultrafast"
    fps: Annotated[
        float,
        Meta(gt=0, le=1000, description="Hz, written as the nominal rate; pts decide the real one"),
    ] = 30
    fragment_ms: Annotated[
        int,
        Meta(ge=40, le=60_000, description="ms of video that a kill can cost at most"),
    ] = 1000
    keyframe_ms: Annotated[
        int, Meta(ge=40, le=60_000, description="ms between points that a player can seek to")
    ] = 2000
    audio_wait_ms: Annotated[
        int,
        Meta(
            ge=0,
            le=10_000,
            description="ms of pictures to wait for the first sound; 0: only sound that comes "
            "before the first picture is recorded",
        ),
    ] = 500


class Mp4Sink(Operator[Mp4SinkConfig]):
    """One file per stream, a further one whenever the stream breaks or changes its size.

    Pictures are encoded with x264, on a GPU with NVENC; audio packets are muxed untouched. With
    x264 the same frames and thread count give the same bytes.
    """

    preload = ("av",)
    devices = ("cpu", "cuda")
    gpu_needs: ClassVar = {"NVENC": "operators.sinks._encoders:try_nvenc"}

    def open(self, ctx: OpContext) -> None:
        self._ctx = ctx
        config = self.config
        self._settings = Settings(
            crf=config.crf,
            preset=config.preset,
            fps=config.fps,
            fragment_ms=config.fragment_ms,
            keyframe_ms=config.keyframe_ms,
            audio_wait_ms=config.audio_wait_ms,
            threads=ctx.threads,
        )
        self._encoder = _encoder(ctx)
        self._recordings: dict[str, Recording] = {}
        self._early: dict[str, deque[Frame]] = {}  # sound from before the first picture

    def process(self, frames: NodeVideo | None, audio: AudioPackets | None) -> None:
        """One of both at a time, in the order of their pts."""
        if frames is not None:
            self._picture(frames)
        if audio is not None:
            self._sound(audio)

    def reset(self, stream_id: str) -> None:
        """The stream ended or broke: its file is finished, what follows goes to the next one."""
        self._early.pop(stream_id, None)
        recording = self._recordings.pop(stream_id, None)
        if recording is not None:
            self._guarded(recording, recording.finish)

    def close(self) -> None:
        with ExitStack() as endings:  # one that fails does not keep the others open
            for stream_id in list(self._recordings):
                endings.callback(self.reset, stream_id)

    def _picture(self, frame: Frame) -> None:
        stream_id = frame.stamp.stream_id
        size = (frame.caps.width, frame.caps.height)
        recording = self._recordings.get(stream_id)
        if recording is not None and recording.size != size:
            self._ctx.report(
                "SIZE_CHANGED",
                f"{stream_id}: {recording.size[0]}x{recording.size[1]} became {size[0]}x{size[1]}; "
                f"{recording.path.name} ends here and the next file begins",
            )
            self.reset(stream_id)
            recording = None
        if recording is None:
            recording = self._begin(frame)
        current = recording
        self._guarded(current, lambda: current.add_picture(frame))

    def _sound(self, frame: Frame) -> None:
        stream_id = frame.stamp.stream_id
        recording = self._recordings.get(stream_id)
        if recording is None:
            self._early.setdefault(stream_id, deque(maxlen=HELD_PACKETS)).append(frame)
        else:
            self._guarded(recording, lambda: recording.add_sound(frame))

    def _begin(self, frame: Frame) -> Recording:
        stream_id = frame.stamp.stream_id
        width, height = frame.caps.width or 0, frame.caps.height or 0
        if min(width, height) < SMALLEST_PX:
            raise OperatorError(
                "TOO_SMALL",
                f"{stream_id}: {width}x{height} pixels; the encoder needs {SMALLEST_PX}x"
                f"{SMALLEST_PX}: resize, or use a larger clip",
            )
        wanted = self._ctx.output_path(fill_in(self.config.path, stream_id))
        with disk_errors(self._ctx.node, wanted):
            path = reserve(wanted)
            recording = Recording(path, frame, self._settings, self._encoder, self._ctx.report)
        self._recordings[stream_id] = recording
        early = self._early.pop(stream_id, None)
        if early:
            self._guarded(recording, lambda: recording.hold_sound(early))
        return recording

    def _guarded(self, recording: Recording, step: Callable[[], None]) -> None:
        try:
            with disk_errors(self._ctx.node, recording.path):
                step()
        except BaseException:
            self._forget(recording)
            raise

    def _forget(self, failed: Recording) -> None:
        kept = {name: one for name, one in self._recordings.items() if one is not failed}
        self._recordings = kept  # first: nothing may be written into it any more
        failed.abandon()


def _encoder(ctx: OpContext) -> X264 | Nvenc:
    """The one of the node's device; one that cannot work there is an error, at once."""
    if ctx.gpu is None:
        return X264()
    nvenc = Nvenc()
    nvenc.try_out(ctx.device)
    return nvenc
