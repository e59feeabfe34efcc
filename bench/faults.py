"""A camera with faults, and who takes notes of what becomes of it."""

from __future__ import annotations

import threading
from array import array
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Annotated

import numpy as np
from msgspec import Meta

from engine import Config, EndOfStream, Frame, OpContext, Operator
from operators.ports import Video
from operators.predict.moving import Picture, apart
from operators.predict.records import Concealed
from operators.recipes.media import decoded
from operators.sources._outputs import Pictures
from operators.video.yuv import frame_size

STOP_CHECK_NS = 100_000_000
BURST = 3  # frames that are lost together, on average
ARRIVAL, PTS, KIND, CHANGE = range(4)  # columns of `ShownNotes`
CAPTURED, MADE, BACK = range(3)  # kinds
KINDS = {"made": MADE, "handed back": BACK}


class FaultyFeedConfig(Config, frozen=True):
    """What is played, and what is wrong with it."""

    path: Annotated[str, Meta(min_length=1, description="clip, played to and fro")]
    fps: Annotated[int, Meta(ge=1, le=120)] = 25
    pictures: Annotated[int, Meta(ge=2, description="of the clip that are played")] = 250
    key_every: Annotated[int, Meta(ge=2, description="frames; at each such one it stalls")] = 50
    stall_ms: Annotated[int, Meta(ge=0)] = 400
    lost: Annotated[float, Meta(ge=0, le=1, description="share of frames, in bursts")] = 0.02
    seed: int = 0


class FaultyFeed(Operator[FaultyFeedConfig]):
    """What was held up by a stall comes in one burst behind it."""

    preload = ("av",)

    def open(self, ctx: OpContext) -> None:
        config = self.config
        self._ctx = ctx
        self._never = threading.Event()
        self._frames = list(islice(decoded(Path(config.path)), config.pictures))
        self._chance = np.random.default_rng(config.seed)
        self._left = 0  # frames of a burst
        self._number = 0
        self._start_ns: int | None = None

    def process(self) -> Pictures:
        """The next frame that is not lost, when it comes."""
        while self._is_lost():
            self._number += 1
        clock = self._ctx.clock
        if self._start_ns is None:
            self._start_ns = clock.now_ns()
        comes_ns = self._start_ns + self._comes_ns(self._number)
        while (left_ns := comes_ns - clock.now_ns()) > 0 and not self._ctx.stopping():
            clock.wait(self._never, min(left_ns, STOP_CHECK_NS))
        if self._ctx.stopping():
            raise EndOfStream
        shown = self._frames[to_and_fro(self._number, len(self._frames))]
        stamp = self._ctx.stamp(self._number, Fraction(1, self.config.fps))
        self._number += 1
        return Pictures(Frame(shown.data, shown.caps, stamp))

    def _is_lost(self) -> bool:
        if self._left == 0 and self._chance.random() < self.config.lost / BURST:
            self._left = int(self._chance.geometric(1 / BURST))
        self._left -= self._left > 0
        return self._left > 0

    def _comes_ns(self, number: int) -> int:
        """Since the start."""
        config = self.config
        moment_ns = number * 10**9 // config.fps
        since = number % config.key_every
        if number < config.key_every:
            return moment_ns
        key_ns = (number - since) * 10**9 // config.fps
        return max(moment_ns, key_ns + config.stall_ms * 1_000_000)


def to_and_fro(number: int, count: int) -> int:
    """Which of `count` pictures frame `number` shows."""
    turn = number % (2 * count - 2)
    return min(turn, 2 * count - 2 - turn)


class ShownNotesConfig(Config, frozen=True):
    """Where the notes go."""

    path: Annotated[str, Meta(min_length=1, description=".npy file below the run's output")]


class ShownNotes(Operator[ShownNotesConfig]):
    """Of each frame [N, 4] float64: when it came (ns), its pts (ns), its kind, and how far it is
    from the one before (mean absolute difference of the lumas).
    """

    pixels = "kept"

    def open(self, ctx: OpContext) -> None:
        self._clock = ctx.clock
        self._path = ctx.output_path(self.config.path)
        self._notes = array("d")
        self._last: Picture | None = None

    def process(self, frames: Video) -> Video:
        now_ns = self._clock.now_ns()
        picture = Picture(frames.data, *frame_size(frames))
        change = 0.0 if self._last is None else apart(picture, self._last)
        said = frames.of(Concealed)
        kind = KINDS[said[0].part] if said else CAPTURED
        self._notes.extend((now_ns, frames.stamp.pts_ns, kind, change))
        self._last = picture
        return frames

    def close(self) -> None:
        rows = np.array(self._notes, np.float64).reshape(-1, 4)
        np.save(self._path, rows, allow_pickle=False)
