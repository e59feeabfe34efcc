"""Operators that only benches need: too slow, with a memory, measuring ages."""

from __future__ import annotations

import time
from array import array
from collections import deque
from typing import Annotated

import numpy as np
from msgspec import Meta

from engine import Config, OpContext, Operator
from operators.face.records import Face
from operators.face.verdicts import Verdict
from operators.ports import AnyVideo, Video

FACES = tuple(
    Face(box=(left, 120.0, left + 180.0, 340.0), score=0.9, points=())
    for left in (100.0, 500.0, 900.0)
)


class SlowConfig(Config, frozen=True):
    """How slow."""

    work_ms: Annotated[float, Meta(ge=0, description="ms that every frame takes; 0: none")] = 333


class Slow(Operator[SlowConfig]):
    """Takes its time without using the CPU, as a network call or a busy GPU would."""

    def process(self, frames: Video) -> Video:
        time.sleep(self.config.work_ms / 1e3)
        return frames


class Remember(Operator):  # type: ignore[type-arg]
    """Keeps a little of every stream, as a tracker does: what is not forgotten adds up."""

    def open(self, ctx: OpContext) -> None:
        self._kept = ctx.per_stream(lambda _: deque[np.ndarray](maxlen=2))

    def process(self, frames: Video) -> Video:
        self._kept[frames.stamp.stream_id].append(frames.data.copy())
        return frames


class AgeSinkConfig(Config, frozen=True):
    """Where the ages go."""

    path: Annotated[str, Meta(min_length=1, description=".npy file below the run's output")]


class AgeSink(Operator[AgeSinkConfig]):
    """Notes when each frame arrives and how old it is then: [N, 2] int64, (arrival, age) in ns."""

    pixels = "ignored"

    def open(self, ctx: OpContext) -> None:
        self._ctx = ctx
        self._notes = array("q")
        self._path = ctx.output_path(self.config.path)

    def process(self, frames: AnyVideo) -> None:
        now_ns = self._ctx.clock.now_ns()
        self._notes.append(now_ns)
        self._notes.append(now_ns - frames.stamp.capture_ns)

    def close(self) -> None:
        np.save(self._path, np.array(self._notes, np.int64).reshape(-1, 2), allow_pickle=False)


class VerdictSinkConfig(Config, frozen=True):
    """Where the verdicts go."""

    path: Annotated[str, Meta(min_length=1, description=".npy file below the run's output")]


class VerdictSink(Operator[VerdictSinkConfig]):
    """Notes every verdict: [N, 4] int64, capture of its frame in ns, track, age in ms (-1: none),
    1 where it opens.
    """

    def open(self, ctx: OpContext) -> None:
        self._notes = array("q")
        self._path = ctx.output_path(self.config.path)

    def process(self, frames: Video) -> None:
        for verdict in frames.of(Verdict):
            age_ms = -1 if verdict.age_ms is None else verdict.age_ms
            row = (frames.stamp.capture_ns, verdict.track_id, age_ms, int(verdict.opens))
            self._notes.extend(row)

    def close(self) -> None:
        np.save(self._path, np.array(self._notes, np.int64).reshape(-1, 4), allow_pickle=False)


class FixedFaces(Operator):  # type: ignore[type-arg]
    """Three faces on every frame, always at the same places: something to draw, nothing to find."""

    def process(self, frames: Video) -> Video:
        return frames.with_records(*FACES)
