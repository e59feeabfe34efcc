"""Small clips and frames for the tests of sources and sinks."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from engine import Caps, Frame, Stamp
from operators.sources.test_pattern import TestPattern, TestPatternConfig, read_number

RATE = 44_100


def write_clip(  # noqa: PLR0913  every argument but the path has a default
    path: Path,
    *,
    frames: int = 20,
    size: tuple[int, int] = (64, 64),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    sound: bool = False,
    noise: bool = False,
    **options: str,
) -> Path:
    """A clip at 25 Hz of grey frames, level 40 + 5 (n mod 40); `noise` makes them large on disk."""
    random = np.random.default_rng(0)
    with av.open(str(path), "w", options=options) as out:
        video = out.add_stream(codec, rate=25)
        video.width, video.height, video.pix_fmt = *size, pix_fmt
        video.codec_context.gop_size = 5
        audio = out.add_stream("aac", rate=RATE) if sound else None
        for number in range(frames):
            shade = np.full((size[1], size[0], 3), 40 + 5 * (number % 40), np.uint8)
            if noise:
                shade += random.integers(0, 16, shade.shape, np.uint8)
            frame = av.VideoFrame.from_ndarray(shade, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(video.encode(frame))
            if audio is not None:
                mux_tone(out, audio, number)
        out.mux(video.encode(None))
        if audio is not None:
            out.mux(audio.encode(None))
    return path


def mux_tone(out: Any, audio: Any, number: int) -> None:
    count = RATE // 25
    t = (np.arange(count) + number * count) / RATE
    wave = np.tile(0.2 * np.sin(2 * np.pi * 440 * t), (2, 1)).astype(np.float32)
    frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = RATE, number * count, Fraction(1, RATE)
    out.mux(audio.encode(frame))


def numbered(count: int, *, size: tuple[int, int] = (128, 64), stream_id: str = "cam") -> list:
    """Frames of a test pattern at 25 Hz."""
    from engine.testing import HarnessContext, run_operator

    config = TestPatternConfig(width=size[0], height=size[1], fps=25, frames=count, realtime=False)
    made = run_operator(TestPattern(config), ctx=HarnessContext(stream_id=stream_id))
    return [pictures.frames for pictures in made]


def event(*records: Any, pts: int = 7, stream_id: str = "cam") -> Frame:
    caps = Caps(media="event", dtype="uint8", device="cpu")
    stamp = Stamp(stream_id, pts, Fraction(1, 25), 123_456_789, pts)
    return Frame(np.empty(0, np.uint8), caps, stamp, records)


def decoded(path: Path) -> list[tuple[float, int]]:
    """(seconds, number drawn on it) of every frame that a player would show."""
    with av.open(str(path)) as container:
        return [
            (float(frame.pts * frame.time_base), read_number(frame.to_ndarray()[: frame.height]))
            for frame in container.decode(video=0)
        ]
