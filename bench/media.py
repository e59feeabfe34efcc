"""The clips that benches play: the demo clip, and smaller ones made from it. Built once, kept."""

from __future__ import annotations

import os
from fractions import Fraction
from itertools import islice
from pathlib import Path

from bench.common import say
from bench.result import ROOT

CACHE = ROOT / "build" / "bench"


def demo_clip() -> Path:
    """1280x720, 25 Hz, 20 s, H.264 and AAC, faces coming and going."""
    path = CACHE / "demo.mp4"
    if not path.exists():
        from operators.demo_clip import build_demo_clip

        say(f"building {path}")
        build_demo_clip(path)
    return path


def small_clip(width: int, height: int, fps: int) -> Path:
    """Every picture of the demo clip at another size and rate, without sound."""
    path = CACHE / f"demo-{width}x{height}-{fps}.mp4"
    if not path.exists():
        _encode_again(path, (width, height), fps, (0, 1 << 30))
    return path


def short_clip() -> Path:
    """Eight seconds from the middle of the demo clip, where three faces are there."""
    path = CACHE / "demo-short.mp4"
    if not path.exists():
        _encode_again(path, (1280, 720), 25, (150, 350))
    return path


def two_faces_clip(seconds: int) -> Path:
    """1280x720 at 25 Hz: two people side by side, always in view, moving a little."""
    path = CACHE / f"two-faces-{seconds}.mp4"
    if not path.exists():
        _encode_two_faces(path, seconds)
    return path


def frame_count(clip: Path) -> int:
    """Pictures in the file, counted."""
    import av

    with av.open(str(clip)) as container:
        return sum(packet.size > 0 for packet in container.demux(video=0))


def _encode_two_faces(target: Path, seconds: int) -> None:
    import av
    import numpy as np
    import skimage.data

    from operators.demo_clip import FPS, HEIGHT, WIDTH, Portrait

    say(f"building {target}")
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_suffix(f".{os.getpid()}.mp4")
    portrait = np.ascontiguousarray(skimage.data.astronaut())  # type: ignore[no-untyped-call]
    people = (Portrait(portrait, False, 1.5, 0.0), Portrait(portrait, True, 1.3, 2.1))
    with av.open(str(draft), "w") as out:
        options = {"preset": "veryfast", "crf": "20"}
        stream = out.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(seconds * FPS):
            halves = [person.at(number / FPS, WIDTH // 2, HEIGHT) for person in people]
            frame = av.VideoFrame.from_ndarray(np.hstack(halves), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    draft.replace(target)


def _encode_again(target: Path, size: tuple[int, int], fps: int, part: tuple[int, int]) -> None:
    import av

    source = demo_clip()
    say(f"building {target}")
    draft = target.with_suffix(f".{os.getpid()}.mp4")
    options = {"preset": "veryfast", "crf": "20"}
    with av.open(str(source)) as clip, av.open(str(draft), "w") as out:
        stream = out.add_stream("libx264", rate=fps, options=options)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for number, frame in enumerate(islice(clip.decode(video=0), *part)):
            picture = frame.reformat(*size, format="yuv420p")
            picture.pts, picture.time_base = number, Fraction(1, fps)
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
    draft.replace(target)
