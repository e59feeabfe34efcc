"""Operators that count, double, wait and fail, for graphs that are run in real processes."""

from __future__ import annotations

import os
import signal
import threading
import time
from fractions import Fraction
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np

from engine.caps import Caps
from engine.contract import TUNABLE, Config, NoConfig, OpContext, Operator
from engine.errors import DeviceLostError, EndOfStream, OperatorError
from engine.frame import Batch, Frame, Latest

Video = Annotated[Frame, Caps(media="video")]
GRAY = Caps(media="video", pix_fmt="gray", dtype="uint8", width=2, height=2, device="cpu")


class CountConfig(Config, frozen=True):
    frames: int = 1_000_000
    fps: int = 0  # 0: as fast as it goes; else one frame each 1/fps s of real time


class Count(Operator[CountConfig]):
    """A source: every byte of a frame is its seq."""

    def open(self, ctx: OpContext) -> None:
        self._ctx = ctx
        self._made = 0
        self._due_s = time.monotonic()

    def process(self) -> Video:
        if self._made == self.config.frames:
            raise EndOfStream
        if self.config.fps:
            self._due_s += 1 / self.config.fps
            time.sleep(max(0.0, self._due_s - time.monotonic()))
        stamp = self._ctx.stamp(self._made, Fraction(1, 25))
        self._made += 1
        return Frame(np.full((2, 2), stamp.seq % 256, np.uint8), GRAY, stamp)


class Pass(Operator[NoConfig]):
    """Gives what it gets, wherever it is."""

    devices = ("cpu", "cuda")

    def process(self, frames: Video) -> Video:
        return frames


class GainConfig(Config, frozen=True):
    gain: Annotated[int, TUNABLE] = 1
    offset: int = 0


class Gain(Operator[GainConfig]):
    """Multiplies every byte by a tunable."""

    def process(self, frames: Video) -> Video:
        return frames.with_data(frames.data * np.uint8(self.config.gain) + self.config.offset)


class EveryConfig(Config, frozen=True):
    every: int = 1


class FailEvery(Operator[EveryConfig]):
    """Cannot do frames whose seq + 1 is a multiple of `every`."""

    def process(self, frames: Video) -> Video:
        if (frames.stamp.seq + 1) % self.config.every == 0:
            raise ValueError(f"cannot do {frames.stamp.seq}")
        return frames


class SeqConfig(Config, frozen=True):
    seq: int
    marker: str = ""  # a file made before it happens, so that it happens once


def first_time(marker: str) -> bool:
    """True when there is no such file yet; makes it."""
    if not marker:
        return True
    try:
        Path(marker).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


class CrashAt(Operator[SeqConfig]):
    """Takes its process with it at one frame."""

    def process(self, frames: Video) -> Video:
        if frames.stamp.seq == self.config.seq and first_time(self.config.marker):
            os.kill(os.getpid(), signal.SIGKILL)
        return frames


class LosesItsDevice(Operator[SeqConfig]):
    """Its GPU breaks at one frame, and with it whatever this process wants there afterwards."""

    lost = False

    def process(self, frames: Video) -> Video:
        if frames.stamp.seq == self.config.seq and first_time(self.config.marker):
            LosesItsDevice.lost = True
        if LosesItsDevice.lost:
            raise DeviceLostError("cuda:0 is lost: an illegal memory access was encountered")
        return frames


class CrashingCount(Operator[SeqConfig]):
    """A source that takes its process with it."""

    def open(self, ctx: OpContext) -> None:
        self._ctx = ctx

    def process(self) -> Video:
        stamp = self._ctx.stamp(0, Fraction(1, 25))
        if stamp.seq == self.config.seq:
            os.kill(os.getpid(), signal.SIGKILL)
        return Frame(np.zeros((2, 2), np.uint8), GRAY, stamp)


class StuckAt(Operator[SeqConfig]):
    """Never returns from one frame."""

    def process(self, frames: Video) -> Video:
        if frames.stamp.seq == self.config.seq and first_time(self.config.marker):
            threading.Event().wait()
        return frames


class SlowConfig(Config, frozen=True):
    ms: float = 50


class Slow(Operator[SlowConfig]):
    """Takes its time."""

    def process(self, frames: Video) -> Video:
        time.sleep(self.config.ms / 1000)
        return frames


class PaintConfig(Config, frozen=True):
    fps: float = 100
    value: Annotated[int, TUNABLE] = 0


class Paint(Operator[PaintConfig]):
    """Every byte is a tunable's value; frames of the value before mean nothing any more."""

    def open(self, ctx: OpContext) -> None:
        self._ctx = ctx
        self._painted = self.config
        self._count = 0

    def process(self) -> Video:
        if self._ctx.stopping():
            raise EndOfStream
        if self.config is not self._painted:
            self._painted = self.config
            self._ctx.new_epoch(f"value {self.config.value}")
        time.sleep(1 / self.config.fps)
        self._count += 1
        data = np.full((2, 2), self._painted.value, np.uint8)
        return Frame(data, GRAY, self._ctx.stamp(self._count, Fraction(1, 100)))


class ReasonConfig(Config, frozen=True):
    reason: str = "no such model"


class OpenFails(Operator[ReasonConfig]):
    """Cannot be opened."""

    def open(self, ctx: OpContext) -> None:
        raise OperatorError("NOT_FOUND", self.config.reason)

    def process(self, frames: Video) -> Video:
        return frames


class OnceConfig(Config, frozen=True):
    marker: str  # a file made by the first `open`
    permanent: bool = True
    opens_at: int = 10**9  # ... and again by the n-th, counted from 1


class OpensOnce(Operator[OnceConfig]):
    """Can be opened the first time; how often it was tried stands in the marker."""

    def open(self, ctx: OpContext) -> None:
        marker = Path(self.config.marker)
        tried = len(marker.read_text()) + 1 if marker.exists() else 1
        marker.write_text("x" * tried)
        if 1 < tried < self.config.opens_at:
            raise OperatorError("AWAY", "it is away", permanent=self.config.permanent)

    def process(self, frames: Video) -> Video:
        return frames


class Both(NamedTuple):
    left: Video | None
    right: Video | None


class Split(Operator[NoConfig]):
    """Even frames go left, odd ones right."""

    def process(self, frames: Video) -> Both:
        odd = frames.stamp.seq % 2
        return Both(None, frames) if odd else Both(frames, None)


class Join(Operator[NoConfig]):
    """Adds two frames of the same seq."""

    def process(self, left: Video, right: Video) -> Video:
        return left.with_data(left.data + right.data)


class Merge(Operator[NoConfig]):
    """Gives on whatever comes, by either port."""

    def process(self, left: Video | None, right: Video | None) -> Video | None:
        return left if left is not None else right


class Batched(Operator[NoConfig]):
    """Every byte of a frame becomes the size of the batch that it came in."""

    def process(self, frames: Batch[Video]) -> Batch[Video]:
        size = len(frames)
        return frames.map(lambda frame: frame.with_data(np.full((2, 2), size, np.uint8)))


class Steered(Operator[NoConfig]):
    """Every byte becomes the first one of the newest frame that steers."""

    def process(self, frames: Video, steer: Latest[Video]) -> Video:
        value = 255 if steer.value is None else int(steer.value.data[0, 0])
        return frames.with_data(np.full((2, 2), value, np.uint8))


class RecordConfig(Config, frozen=True):
    path: str = "seen.txt"


class Recorder(Operator[RecordConfig]):
    """Writes `stream seq epoch byte` for every frame and `reset stream` whenever it is reset."""

    def open(self, ctx: OpContext) -> None:
        self._file = ctx.enter(ctx.output_path(self.config.path).open("w", buffering=1))

    def process(self, frames: Video) -> None:
        stamp = frames.stamp
        self._file.write(f"{stamp.stream_id} {stamp.seq} {stamp.epoch} {frames.data[0, 0]}\n")

    def reset(self, stream_id: str) -> None:
        self._file.write(f"reset {stream_id}\n")

    def close(self) -> None:
        self._file.write("closed\n")


class BatchRecorder(Operator[RecordConfig]):
    """Writes the streams of every batch in one line."""

    def open(self, ctx: OpContext) -> None:
        self._file = ctx.enter(ctx.output_path(self.config.path).open("w", buffering=1))

    def process(self, frames: Batch[Video]) -> None:
        names = " ".join(frame.stamp.stream_id for frame in frames.frames)
        self._file.write(f"{names}\n")
