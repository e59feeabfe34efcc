"""The loop one would write without an engine: decode, call the operators, encode, in one thread."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import cv2

from engine.caps import Caps
from engine.contract import Operator
from engine.frame import Batch, Frame
from engine.testing import HarnessContext
from engine.timing import Stamp
from operators.sinks.mp4 import Mp4SinkConfig


def straight_loop(
    source: Path, target: Path, operators: Sequence[Operator[Any]], threads: int
) -> float:
    """Seconds from the first packet to the finished file. `threads` per library; 0: its own."""
    import av

    with opened(operators, threads), av.open(str(source)) as clip, av.open(str(target), "w") as out:
        video = clip.streams.video[0]
        video.codec_context.thread_count = threads
        video.codec_context.thread_type = "NONE" if threads == 1 else "AUTO"
        stream = add_encoder(out, video, threads)
        start = time.perf_counter()
        for decoded in clip.decode(video):
            frame = wrap(decoded)
            for operator in operators:
                frame = call(operator, frame)
            picture = av.VideoFrame.from_ndarray(frame.data, format="yuv420p")
            picture.pts, picture.time_base = decoded.pts, decoded.time_base
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
        out.close()
        return time.perf_counter() - start


def call(operator: Operator[Any], frame: Frame) -> Frame:
    """One frame through an operator with one input, also one that takes batches."""
    port = next(iter(operator.inputs.values()))
    if port.arrival == "batch":
        (made,) = operator.process(Batch((frame,))).frames
    else:
        made = operator.process(frame)
    return cast(Frame, made)


@contextmanager
def opened(operators: Sequence[Operator[Any]], threads: int) -> Iterator[None]:
    """The operators, open, with this many threads for what they use."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(threads or before)
    with ExitStack() as stack:
        stack.callback(cv2.setNumThreads, before)
        for operator in operators:
            ctx = HarnessContext()
            ctx.threads = threads or before
            stack.enter_context(ctx.exits)
            operator.open(ctx)
            stack.callback(operator.close)
        yield


def add_encoder(out: Any, video: Any, threads: int) -> Any:
    """x264 as the MP4 sink has it by default."""
    config = Mp4SinkConfig()
    stream = out.add_stream(
        "libx264",
        rate=video.average_rate,
        options={"preset": config.preset, "crf": str(config.crf)},
    )
    stream.width, stream.height, stream.pix_fmt = video.width, video.height, "yuv420p"
    stream.codec_context.thread_count = threads
    stream.codec_context.gop_size = keyframe_frames(config)
    stream.codec_context.max_b_frames = 0
    return stream


def keyframe_frames(config: Mp4SinkConfig) -> int:
    return round(config.fps * config.keyframe_ms / 1000)


def wrap(decoded: Any) -> Frame:
    """A decoded picture as the operators expect it."""
    caps = Caps(
        media="video",
        pix_fmt="yuv420p",
        dtype="uint8",
        width=decoded.width,
        height=decoded.height,
        device="cpu",
        colorspace="bt709",
        color_range="limited",
    )
    stamp = Stamp("clip", decoded.pts, Fraction(decoded.time_base), 0, decoded.pts)
    return Frame(decoded.to_ndarray(format="yuv420p"), caps, stamp)
