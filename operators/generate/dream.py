"""`Dream`: endless video out of a model, a picture per tick of the clock.

Source: AR-Diffusion, method notes 1e. What it is asked for may change while it runs; then the very
next frame is of the new wish, for all that is under way of the old one dies with its epoch.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from engine import Caps, EndOfStream, Frame, OpContext, Operator
from engine.pool import BufferPool
from operators.generate.checkpoint import picture_caps
from operators.generate.dreaming import Dreaming, begins_anew, opening_wish
from operators.generate.pictures import draw, last_pictures
from operators.generate.records import Dreamed
from operators.generate.settings import GenerateConfig, told_of, wish_of
from operators.generate.studio import Studio
from operators.sources._outputs import Pictures

IDLE_BUFFERS = 8
STOP_CHECK_NS = 100_000_000  # how late a waiting source may notice that the run ends


class DreamConfig(GenerateConfig, frozen=True):
    """What is dreamed, how fast and how long."""

    begin: Annotated[
        str, Meta(description="picture or clip whose last pictures it goes on from; empty: noise")
    ] = ""
    fps: Annotated[float, Meta(gt=0, le=240, description="Hz")] = 15
    frames: Annotated[int, Meta(ge=0, description="how many; 0: without end")] = 0
    realtime: Annotated[
        bool, Meta(description="one frame per period; false: as fast as they are taken")
    ] = True


class Dream(Operator[DreamConfig]):
    """Frames of the checkpoint's size, YUV 4:2:0, with a `Dreamed` record each.

    Tunables change between two frames. A new prompt or seed is a new video from its first frame on;
    another number of steps or another guidance goes on with the same one. `open` raises
    OperatorError NO_CHECKPOINT, BAD_CHECKPOINT, MISSING_PACKAGE, BAD_WISH (no such class, or steps
    that the model's window cannot hold) and whatever is wrong with the file to begin from.
    """

    preload = ("torch", "safetensors.torch", "av")
    devices = ("cpu", "cuda")
    synthesizes = True

    @classmethod
    def checkpoints(cls, config: Any) -> Mapping[str, Path]:
        return {"checkpoint": config.path}

    @classmethod
    def output_caps(cls, config: Any, port: str) -> Caps:
        return picture_caps(config.path)

    def open(self, ctx: OpContext) -> None:
        config = self.config
        self._ctx, self._count = ctx, 0
        self._studio = Studio(config, ctx)
        facts = self._studio.facts
        wish = opening_wish(config, facts)
        self._caps = picture_caps(config.path)
        self._pool = BufferPool(IDLE_BUFFERS)
        self._time_base = 1 / Fraction(config.fps).limit_denominator(1001)
        self._beat = Beat(ctx, round(self._time_base * 10**9))
        self._known = []
        if config.begin:
            self._known = last_pictures(config.begin, facts.size_px, facts.window - 1)
        self._studio.warm_up(wish)
        holds = config.realtime and config.hold_fps
        self._dreaming = Dreaming(self._studio, ctx, wish, config.fps if holds else None)
        self._dreaming.begin(wish, self._known)
        self._made_for = config

    def process(self) -> Pictures:
        """The next picture, when it is due."""
        ctx = self._ctx
        if ctx.stopping() or self._count == self.config.frames > 0:
            raise EndOfStream
        if self.config is not self._made_for:
            self._follow()
        made = self._dreaming.next()
        if made is None:
            raise EndOfStream
        height, width = self._caps.height or 0, self._caps.width or 0
        data = self._pool.take((height * 3 // 2, width), np.uint8)
        draw(made.rgb, self._caps, data)
        if self.config.realtime:
            self._beat.wait()
        config, stamp = self._made_for, ctx.stamp(self._count, self._time_base)
        self._count += 1
        record = Dreamed(
            made.number, config.prompt, config.seed, made.setting.steps, self._studio.sha
        )
        return Pictures(Frame(data, self._caps, stamp, (record,)))

    def _follow(self) -> None:
        """What has been tuned; a wish that cannot be fulfilled changes nothing."""
        facts, before = self._studio.facts, self._dreaming.wish
        try:
            wish = wish_of(self.config, facts)
        except ValueError as error:
            self._ctx.report("REFUSED", f"{error}; all stays as it was")
            self.config = self._made_for
            return
        self._made_for = self.config
        if wish == before:
            return
        if begins_anew(before, wish):
            self._dreaming.begin(wish, self._known)
        else:
            self._dreaming.change(wish)
        if self._count:
            self._ctx.new_epoch(told_of(before, wish, facts.classes))


class Beat:
    """One tick per period. Of time that was lost no more than a period is made up for: no burst."""

    def __init__(self, ctx: OpContext, period_ns: int) -> None:
        self._ctx, self._period_ns = ctx, period_ns
        self._never = threading.Event()
        self._due_ns: int | None = None

    def wait(self) -> None:
        """Return when the next frame is due, or when the run is to end."""
        clock = self._ctx.clock
        now_ns = clock.now_ns()
        due_ns = now_ns if self._due_ns is None else max(self._due_ns, now_ns - self._period_ns)
        self._due_ns = due_ns + self._period_ns
        while (left_ns := due_ns - clock.now_ns()) > 0 and not self._ctx.stopping():
            clock.wait(self._never, min(left_ns, STOP_CHECK_NS))
