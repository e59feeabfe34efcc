"""The clips that benches play: the demo clip, and smaller ones made from it. Built once, kept."""

from __future__ import annotations

import os
from fractions import Fraction
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
        say(f"building {path}")
        _scale(demo_clip(), path, (width, height), fps)
    return path


def _scale(source: Path, target: Path, size: tuple[int, int], fps: int) -> None:
    import av

    draft = target.with_suffix(f".{os.getpid()}.mp4")
    options = {"preset": "veryfast", "crf": "20"}
    with av.open(str(source)) as clip, av.open(str(draft), "w") as out:
        stream = out.add_stream("libx264", rate=fps, options=options)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for number, frame in enumerate(clip.decode(video=0)):
            smaller = frame.reformat(*size, format="yuv420p")
            smaller.pts, smaller.time_base = number, Fraction(1, fps)
            out.mux(stream.encode(smaller))
        out.mux(stream.encode(None))
    draft.replace(target)
