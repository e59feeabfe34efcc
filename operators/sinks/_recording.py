"""One fragmented MP4 file: encodes pictures, passes audio packets through, survives a kill."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

from msgspec import Struct

from engine import Caps, Frame, rescale_pts
from operators.records import Packet
from operators.sinks._encoders import X264, Nvenc
from operators.sinks._fragments import WholeWrites, keep_whole_fragments

# FFmpeg's numbers for the matrix and the range of a picture.
MATRIX = {"bt709": 1, "bt601": 6}
RANGE = {"limited": 1, "full": 2}
FINEST_TIME_BASE = Fraction(1, 1_000_000)
# Codecs whose encoder has another name than the codec; only its name for the muxer is used.
MUXED_AS = {"opus": "libopus", "vorbis": "libvorbis", "mp3": "libmp3lame"}
HELD_PACKETS = 512  # audio from before the first picture; about 10 s

Report = Callable[[str, str], None]


class Settings(Struct, frozen=True):
    """How to encode and cut; see Mp4SinkConfig."""

    crf: int
    preset: str
    fps: float
    fragment_ms: int
    keyframe_ms: int
    audio_wait_ms: int
    threads: int


class Recording:
    """One file. Made at the first picture; `finish` ends it. Any call may raise OSError.

    The header names all streams, so writing waits until the first audio packet has come or
    `audio_wait_ms` of pictures have: until then encoded packets are held in memory.
    """

    def __init__(
        self, path: Path, first: Frame, settings: Settings, encoder: X264 | Nvenc, report: Report
    ) -> None:
        import av

        self.path = path
        self.size = (first.caps.width, first.caps.height)
        self._settings = settings
        self._encoder = encoder
        self._report = report
        self._said: set[str] = set()
        self._first_ns = first.stamp.pts_ns
        self._last_pts: int | None = None
        self._step = 0  # ticks from the frame before; how long the last frame of the file stays
        self._started = False
        self._audio: Any = None
        self._held: deque[Any] = deque()
        self._held_audio: deque[Frame] = deque(maxlen=HELD_PACKETS)
        self._file = WholeWrites(path, "wb")
        self._output: Any = av.open(
            self._file, "w", format="mp4", container_options=_mux_options(settings)
        )
        bitexact: Any = av.container.Flags.bitexact.value
        self._output.flags |= bitexact
        self._time_base = max(first.stamp.time_base, FINEST_TIME_BASE)
        self._video = self._add_video(first.caps)

    def _add_video(self, caps: Caps) -> Any:
        from av.codec.context import Flags

        settings = self._settings
        stream: Any = self._output.add_stream(
            self._encoder.name,
            rate=Fraction(settings.fps).limit_denominator(1001),
            options=self._encoder.options(settings),
            width=(caps.width or 0) & ~1,
            height=(caps.height or 0) & ~1,
            time_base=self._time_base,
        )
        codec = stream.codec_context
        codec.pix_fmt = self._encoder.pix_fmt
        codec.flags |= Flags.bitexact | Flags.frame_duration
        codec.thread_count = settings.threads
        codec.gop_size = max(1, round(settings.fps * settings.keyframe_ms / 1000))
        codec.max_b_frames = 0  # decoding order = showing order: no pts has to be moved
        codec.colorspace = MATRIX.get(caps.colorspace or "", 2)
        codec.color_range = RANGE.get(caps.color_range or "", 1)
        stream.time_base = self._time_base
        return stream

    def add_picture(self, frame: Frame) -> None:
        """Encode and write one frame."""
        pts = rescale_pts(frame.stamp.pts, frame.stamp.time_base, self._time_base)
        if self._last_pts is not None and pts <= self._last_pts:
            self._say_once(
                "PTS_NOT_RISING", "frames that do not come later than the last are left out"
            )
            return
        if self._last_pts is not None:
            self._step = pts - self._last_pts
        self._last_pts = pts
        picture = self._encoder.picture(frame)
        picture.pts, picture.time_base, picture.duration = pts, self._time_base, self._step
        self._held.extend(self._encoder.encode(self._video.codec_context, picture))
        waited_ns = frame.stamp.pts_ns - self._first_ns
        if not self._started and waited_ns >= self._settings.audio_wait_ms * 1_000_000:
            self._start()
        self._flush()

    def add_sound(self, frame: Frame) -> None:
        """Write one undecoded audio packet.

        One from before time 0 only prepares the decoder, and a fragment cannot say so: left out.
        """
        if _record(frame).dts < 0:
            return
        if not self._started:
            self._held_audio.append(frame)
            self._start()
        elif self._audio is not None:
            self._held.append(self._packet(frame))
        else:
            self._say_once("AUDIO_LEFT_OUT", "the sound began after the header was written")
        self._flush()

    def hold_sound(self, frames: deque[Frame]) -> None:
        """Sound that came before the first picture."""
        for frame in frames:
            self.add_sound(frame)

    def finish(self) -> None:
        """Write what is left and end the file."""
        if self._last_pts is not None:
            self._held.extend(self._encoder.encode(self._video.codec_context, None))
            self._start()
            self._flush()
        self._output.close()
        self._file.close()

    def abandon(self) -> None:
        """Close after an error and cut off what is not whole, so that the rest plays."""
        with suppress(Exception):  # of many kinds; the error that led here is already on its way
            self._output.close()
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            keep_whole_fragments(self.path)

    def _start(self) -> None:
        if self._started:
            return
        self._started = True
        if self._held_audio:
            self._audio = self._add_audio(self._held_audio[0].caps)
        if self._audio is not None:
            self._held.extend(self._packet(frame) for frame in self._held_audio)
        self._held_audio.clear()

    def _add_audio(self, caps: Caps) -> Any:
        name = caps.codec or ""
        try:
            stream: Any = self._output.add_stream(MUXED_AS.get(name, name), rate=caps.rate)
            stream.codec_context.layout = caps.layout
            # The muxer takes its header from this context, which encodes nothing.
            stream.codec_context.open()
        except (ValueError, LookupError, OSError) as error:
            self._say_once("AUDIO_UNSUPPORTED", f"left out: MP4 cannot hold {name} ({error})")
            return None
        stream.codec_context.extradata = caps.extradata
        return stream

    def _say_once(self, code: str, message: str) -> None:
        if code not in self._said:
            self._said.add(code)
            self._report(code, f"{self.path.name}: {message}")

    def _packet(self, frame: Frame) -> Any:
        import av

        packet: Any = av.Packet(frame.data.tobytes())
        record = _record(frame)
        packet.pts, packet.dts, packet.duration = frame.stamp.pts, record.dts, record.duration
        packet.time_base = frame.stamp.time_base
        packet.is_keyframe = record.is_keyframe
        packet.stream = self._audio
        return packet

    def _flush(self) -> None:
        while self._started and self._held:
            self._output.mux(self._held.popleft())


def _record(frame: Frame) -> Packet:
    return next(iter(frame.of(Packet)), Packet(frame.stamp.pts, 0, True))


def _mux_options(settings: Settings) -> dict[str, str]:
    return {
        # frag_discont: the first fragment, too, says when it begins, so that pts are kept as they
        # are and sound that begins before or after the picture stays in sync.
        "movflags": "frag_keyframe+empty_moov+default_base_moof+frag_discont",
        "frag_duration": str(settings.fragment_ms * 1000),
        "flush_packets": "1",
        # A stream that pauses must not keep the other one in memory.
        "max_interleave_delta": str(settings.fragment_ms * 1000),
        "avoid_negative_ts": "disabled",
    }
