"""The same job as a `gst-launch-1.0` line: decode, draw, encode with the same preset and CRF."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

from bench.straight import keyframe_frames
from operators.face.records import Face
from operators.sinks.mp4 import Mp4SinkConfig

TIMEOUT_S = 120


def available() -> bool:
    return shutil.which("gst-launch-1.0") is not None


BOXES = "videoconvert ! rsvgoverlay location={svg} ! videoconvert"
TEXT = "videoconvert ! textoverlay text=0.90 valignment=top halignment=left"


def line(source: Path, target: Path, draw: str, *, queues: bool = False) -> list[str]:
    """decode ! draw ! encode; with `queues` each in a thread of its own, as ours are.

    `pass=qual` is x264's CRF; the element caps it at `bitrate` (2048 kbit/s), so that is raised.
    """
    config = Mp4SinkConfig()
    queue = "queue ! " if queues else ""
    threads = " max-threads=1" if queues else ""
    text = (
        f"filesrc location={source} ! qtdemux ! h264parse ! avdec_h264{threads} ! {queue}"
        f"{draw} ! {queue}x264enc speed-preset={config.preset} pass=qual quantizer={config.crf}"
        f" bitrate=100000 key-int-max={keyframe_frames(config)}{' threads=1' if queues else ''} ! "
        f"{queue}mp4mux ! filesink location={target}"
    )
    return ["gst-launch-1.0", "-q", *text.split()]


def boxes(faces: Iterable[Face], folder: Path) -> str:
    """Elements that draw what our overlay draws: boxes with labels, here from an SVG picture."""
    shapes = []
    for face in faces:
        left, top, right, bottom = face.box
        shapes.append(
            f'<rect x="{left}" y="{top}" width="{right - left}" height="{bottom - top}"'
            ' fill="none" stroke="white" stroke-width="3"/>'
            f'<text x="{left}" y="{top - 4}" font-size="18" fill="white">{face.score:.2f}</text>'
        )
    svg = folder / "boxes.svg"
    head = '<svg xmlns="http://www.w3.org/2000/svg" width="1280" height="720">'
    svg.write_text(f"{head}{''.join(shapes)}</svg>")
    return BOXES.format(svg=svg)


def seconds(command: list[str]) -> float:
    """How long a line takes, start-up of the program included."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, timeout=TIMEOUT_S)
    return time.perf_counter() - start


def start_up_seconds() -> float:
    """Of a line that does nothing: taken off the others."""
    return seconds(["gst-launch-1.0", "-q", "fakesrc", "num-buffers=1", "!", "fakesink"])
