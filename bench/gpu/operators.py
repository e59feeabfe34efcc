"""Every operator that works on a GPU, on frames of 1080p: its time there, by CUDA events.

From the event in front of `process` to the one behind it on the node's stream, so that what the
host does in between counts, too. Two faces per frame; networks run as `engines build` chose, else
by torch eager.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
from msgspec import structs

from bench.common import quantile, significant
from bench.result import Bar
from engine.caps import Caps
from engine.contract import Operator
from engine.device.opening import Devices
from engine.device.scope import DeviceScope
from engine.device.staging import StagingRing
from engine.frame import Batch, Frame
from engine.testing import HarnessContext
from engine.timing import Stamp
from operators.face.detect import FaceDetect, FaceDetectConfig
from operators.face.encode import FaceEncode, FaceEncodeConfig
from operators.face.records import Track
from operators.video.mark import Mark, MarkConfig
from operators.video.overlay import Overlay, OverlayConfig
from operators.video.transfer import ToDevice, ToHost

WIDTH, HEIGHT = 1920, 1080
FACES = (500.0, 1200.0)  # left edges, px
SIDE_PX = 240.0
WARM_UP, ROUNDS = 5, 60
HOST = Caps(
    media="video", pix_fmt="nv12", dtype="uint8", width=WIDTH, height=HEIGHT,
    device="cpu", colorspace="bt709", color_range="limited",
)  # fmt: skip


def run() -> tuple[dict[str, float], tuple[Bar, ...]]:
    figures: dict[str, float] = {}
    devices = Devices()
    for name, operator in cases().items():
        with devices.scope("cuda:0", 0) as scope:
            took = list(_timed(operator, scope, on_host=isinstance(operator, ToDevice)))
        figures[f"{name}_p50_ms"] = significant(quantile(took, 50))
        figures[f"{name}_p99_ms"] = significant(quantile(took, 99))
    return figures, ()


def cases() -> dict[str, Operator[Any]]:
    return {
        "to_device": ToDevice(ToDevice.config_type()),
        "face_detect": FaceDetect(FaceDetectConfig()),
        "face_encode": FaceEncode(FaceEncodeConfig()),
        "overlay": Overlay(OverlayConfig()),
        "mark": Mark(MarkConfig()),
        "to_host": ToHost(ToHost.config_type()),
    }


def frame(seq: int, operator: Operator[Any], pix_fmt: str = "nv12") -> Frame:
    """A coloured picture on the host, a second after the one before, so that all faces are due;
    for `mark` a synthetic one: it lets others pass.
    """
    data = np.random.default_rng(0).integers(16, 235, (HEIGHT * 3 // 2, WIDTH), np.uint8)
    stamp = Stamp("camera", seq, Fraction(1), 0, seq)
    caps = structs.replace(HOST, pix_fmt=pix_fmt)
    return Frame(
        data, caps, structs.replace(stamp, synthetic=isinstance(operator, Mark)), tuple(_tracks())
    )


def open_on(operator: Operator[Any], scope: DeviceScope) -> None:
    """As a lane does it."""
    ctx = HarnessContext()
    ctx.device, ctx.gpu = scope.device.name, scope
    scope.call(lambda: operator.open(ctx), [])


def frame_on(seq: int, operator: Operator[Any], ring: StagingRing, scope: DeviceScope) -> Frame:
    """The picture of `frame` on the device."""
    one = frame(seq, operator)
    there = ring.upload(one.data, scope.stream)
    return one.with_data(there, structs.replace(HOST, device=scope.device.name))


def given(operator: Operator[Any], one: Frame) -> Any:
    """The frame as the operator's port takes it."""
    (port,) = operator.inputs.values()
    return Batch((one,)) if port.arrival == "batch" else one


def _tracks() -> Iterator[Track]:
    top = (HEIGHT - SIDE_PX) / 2
    for number, left in enumerate(FACES, 1):
        box = left, top, left + SIDE_PX, top + SIDE_PX
        eyes = [(left + share * SIDE_PX, top + 0.4 * SIDE_PX) for share in (0.3, 0.7)]
        rest = [(left + share * SIDE_PX, top + 0.7 * SIDE_PX) for share in (0.5, 0.5, 0.1, 0.9)]
        yield Track(number, box, 0.9, (*eyes, *rest), 5, 200, False)


def _timed(operator: Operator[Any], scope: DeviceScope, *, on_host: bool) -> Iterator[float]:
    """Milliseconds per frame."""
    import torch

    open_on(operator, scope)
    ring = StagingRing(scope.device)
    pairs = []
    for seq in range(WARM_UP + ROUNDS):
        one = frame(seq, operator) if on_host else frame_on(seq, operator, ring, scope)
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        with scope.stream.use():
            begin.record()
        scope.call(lambda one=one: operator.process(given(operator, one)), [one])
        with scope.stream.use():
            end.record()
        pairs.append((begin, end))
    torch.cuda.synchronize()
    operator.close()
    yield from (begin.elapsed_time(end) for begin, end in pairs[WARM_UP:])
