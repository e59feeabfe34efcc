"""A camera that pans over a picture, and how its frames come: on time, late, in bursts or not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from engine import Frame
from engine.caps import Caps
from engine.testing import HarnessContext
from engine.timing import Stamp
from operators.predict.conceal import Conceal, ConcealConfig
from operators.predict.records import Concealed
from operators.video.convert import write_yuv

U8 = npt.NDArray[np.uint8]
Delays = Mapping[int, float | None]  # ms by number; None: it never comes
WIDTH, HEIGHT, FPS = 96, 64, 25
MS = 1_000_000
PERIOD_NS = 10**9 // FPS
TICK = Fraction(1, 90_000)
TICKS = 90_000 // FPS


def caps(width: int = WIDTH, height: int = HEIGHT) -> Caps:
    return Caps(
        media="video", pix_fmt="yuv420p", dtype="uint8", width=width, height=height, device="cpu",
        colorspace="bt709", color_range="limited",
    )  # fmt: skip


@lru_cache(maxsize=8)
def wall(width: int, height: int, seed: int = 0) -> U8:
    """[H, W, 3] of soft blobs."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (max(height // 10, 2), max(width // 10, 2), 3), np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def view(n: float, width: int = WIDTH, height: int = HEIGHT, px: float = 1.5) -> U8:
    """[H, W, 3] RGB of a camera that has panned `n` frames to the right."""
    scene = wall(width * 4, height)
    shift = np.array([[1, 0, -n * px], [0, 1, 0]], np.float32)
    return np.asarray(cv2.warpAffine(scene, shift, (width, height)), np.uint8)


@lru_cache(maxsize=512)
def planes(n: float, width: int, height: int) -> U8:
    """The view as I420."""
    data = np.empty((height * 3 // 2, width), np.uint8)
    write_yuv(view(n, width, height), caps(width, height), data)
    return data


def picture(n: float, seq: int | None = None, **size: int) -> Frame:
    """Frame `n` of the stream, as the camera sends it; arrives 30 ms after its moment."""
    made_of = caps(**size)
    data = planes(n, made_of.width or 0, made_of.height or 0)
    pts = round(n * TICKS)
    number = round(n) if seq is None else seq
    stamp = Stamp("cam", pts, TICK, pts * 10**9 // 90_000 + 30 * MS, number)
    return Frame(data, made_of, stamp)


class Live:
    """The operator in a live graph, on a clock that runs from frame to frame.

    Frame n is due at n * 40 ms + 30 ms; `feed` says how much later it comes, None: never.
    """

    def __init__(self, operator: Conceal | None = None, **settings: Any) -> None:
        self.ctx = HarnessContext(mode="live")
        self.operator = operator or Conceal(ConcealConfig(**settings))
        self.operator.open(self.ctx)
        self.out: list[tuple[float, Frame]] = []  # ms since the start, frame

    def feed(self, numbers: Iterable[int], late_ms: Delays | None = None) -> None:
        """In the order in which they come."""
        delays = {n: (late_ms or {}).get(n, 0) for n in numbers}
        moments = sorted((n * 40 + 30 + late, n) for n, late in delays.items() if late is not None)
        for moment_ms, n in moments:
            self.run_until(moment_ms)
            self.give(picture(n))

    def give(self, frame: Frame) -> None:
        self._book(self.operator.process(frame))

    def run_until(self, moment_ms: float) -> None:
        """Let the clock run: what is made on its own."""
        clock = self.ctx.clock
        while self.ctx.calls:
            due_ns = min(moment_ns for moment_ns, _ in self.ctx.calls.values())
            if due_ns > moment_ms * MS:
                break
            self._book(self.ctx.run_calls(max(due_ns, clock.now_ns())))
        self.ctx.run_calls(max(round(moment_ms * MS), clock.now_ns()))

    def close(self) -> None:
        self.operator.close()
        self.ctx.exits.close()

    def _book(self, frames: list[Frame]) -> None:
        now_ms = self.ctx.clock.now_ns() / MS
        self.out += [(now_ms, frame) for frame in frames]

    @property
    def frames(self) -> list[Frame]:
        return [frame for _, frame in self.out]

    @property
    def moments(self) -> list[float]:
        """The number of each frame that went out, by its pts."""
        return [frame.stamp.pts / TICKS for frame in self.frames]

    @property
    def made(self) -> list[Frame]:
        return [frame for frame in self.frames if said(frame) and said(frame).part == "made"]  # type: ignore[union-attr]

    @property
    def codes(self) -> list[str]:
        return [code for code, _ in self.ctx.reports]

    def lateness_ms(self) -> list[float]:
        """Of each frame, behind the moment when it is due."""
        return [now - (n * 40 + 30) for (now, _), n in zip(self.out, self.moments, strict=True)]


def said(frame: Frame) -> Concealed | None:
    records = frame.of(Concealed)
    assert len(records) <= 1
    return records[0] if records else None


def luma(frame: Frame) -> U8:
    height = frame.caps.height or 0
    return np.asarray(frame.data[:height], np.uint8)


def apart(one: Frame, other: Frame) -> float:
    """Mean absolute difference of the lumas."""
    return float(np.abs(luma(one).astype(np.int16) - luma(other)).mean())
