"""The same job as a `gst-launch-1.0` line: decode, draw, encode with the same preset and CRF."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

from bench.straight import keyframe_frames
from operators.sinks.mp4 import Mp4SinkConfig

TIMEOUT_S = 120


def available() -> bool:
    return shutil.which("gst-launch-1.0") is not None


def line(source: Path, target: Path, *, queues: bool) -> list[str]:
    """decode ! draw ! encode; with `queues` each in a thread of its own, as ours are.

    `pass=qual` is x264's CRF; the element caps it at `bitrate` (2048 kbit/s), so that is raised.
    """
    config = Mp4SinkConfig()
    queue = "queue ! " if queues else ""
    threads = " max-threads=1" if queues else ""
    text = (
        f"filesrc location={source} ! qtdemux ! h264parse ! avdec_h264{threads} ! {queue}"
        "videoconvert ! textoverlay text=face valignment=top halignment=left ! "
        f"{queue}x264enc speed-preset={config.preset} pass=qual quantizer={config.crf}"
        f" bitrate=100000 key-int-max={keyframe_frames(config)}{' threads=1' if queues else ''} ! "
        f"{queue}mp4mux ! filesink location={target}"
    )
    return ["gst-launch-1.0", "-q", *text.split()]


def seconds(command: list[str]) -> float:
    """How long a line takes, start-up of the program included."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, timeout=TIMEOUT_S)
    return time.perf_counter() - start


def start_up_seconds() -> float:
    """Of a line that does nothing: taken off the others."""
    return seconds(["gst-launch-1.0", "-q", "fakesrc", "num-buffers=1", "!", "fakesink"])
