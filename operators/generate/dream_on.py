"""`DreamOn`: a live feed that goes on without itself, from its last pictures, until it is wanted.

Source: AR-Diffusion, method notes 1e: real frames are loaded as finished ones, nothing is trained
anew. The feed is the clock: each of its frames gives its moment to one that was made. What is shown
of the feed itself is passed on untouched, so that the engine knows it was captured.
"""

from __future__ import annotations

import itertools
import statistics
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from engine import TUNABLE, Caps, Frame, OpContext, Operator
from engine.pool import BufferPool
from operators.generate.dreaming import Dreaming, begins_anew, opening_wish
from operators.generate.pictures import draw
from operators.generate.records import Dreamed
from operators.generate.settings import GenerateConfig, told_of, wish_of
from operators.generate.studio import U8, Made, Studio
from operators.video.yuv import frame_size, small_rgb

IDLE_BUFFERS = 8
HostYuv = Annotated[Frame, Caps(media="video", pix_fmt="yuv420p", device="cpu")]
LikeFrames = Annotated[Frame, Caps(media="video", like="frames")]


class DreamOnConfig(GenerateConfig, frozen=True):
    """When, and from what."""

    dreaming: Annotated[
        bool,
        TUNABLE,
        Meta(description="go on without the feed, once `history` of its pictures have come"),
    ] = False
    history: Annotated[
        int, Meta(ge=1, le=64, description="last pictures of the feed that it goes on from")
    ] = 8


class Feed:
    """What is known of one stream."""

    def __init__(self, history: int) -> None:
        self.past: deque[U8] = deque(maxlen=history)
        self.dreaming: Dreaming | None = None
        self.epoch = 0  # frames of an older one are not wanted any more
        self._moments_ns: deque[int] = deque(maxlen=history + 1)

    def note(self, frame: Frame, size_px: int) -> None:
        """A picture that is shown as it is."""
        self.past.append(small_rgb(frame, (size_px, size_px)))
        self._moments_ns.append(frame.stamp.pts_ns)

    @property
    def fps(self) -> float | None:
        """How fast its pictures come; None until that can be said."""
        moments = list(self._moments_ns)
        gaps = [b - a for a, b in itertools.pairwise(moments) if b > a]
        return 1e9 / statistics.median(gaps) if gaps else None


class DreamOn(Operator[DreamOnConfig]):
    """Frames of the feed, or of the same size and moment with other pixels and a `Dreamed` record
    in place of theirs. Errors as of `Dream`.

    The first picture of its own takes all its steps at once: live, some frames of the feed are lost
    at the entry meanwhile.
    """

    preload = ("torch", "safetensors.torch")
    devices = ("cpu", "cuda")
    synthesizes = True

    @classmethod
    def checkpoints(cls, config: Any) -> Mapping[str, Path]:
        return {"checkpoint": config.path}

    def open(self, ctx: OpContext) -> None:
        config = self.config
        self._ctx = ctx
        self._studio = Studio(config, ctx)
        self._wish = opening_wish(config, self._studio.facts)
        self._made_for = config
        self._pool = BufferPool(IDLE_BUFFERS)
        self._feeds = ctx.per_stream(lambda _: Feed(config.history))
        self._studio.warm_up(self._wish)

    def process(self, frames: HostYuv) -> LikeFrames | None:
        """The frame as it is, or one that was made in its place."""
        if self.config is not self._made_for:
            self._follow()
        feed = self._feeds[frames.stamp.stream_id]
        if not self.config.dreaming:
            feed.dreaming = None
        if feed.dreaming is None:
            if not self.config.dreaming or len(feed.past) < self.config.history:
                feed.note(frames, self._studio.facts.size_px)
                return frames
            feed.dreaming = self._begun(feed)
        elif feed.dreaming.wish != self._wish:
            self._change(feed, frames.stamp.stream_id)
        if frames.stamp.epoch < feed.epoch:
            return None
        made = feed.dreaming.next()
        return None if made is None else self._in_place(frames, made)

    def _begun(self, feed: Feed) -> Dreaming:
        fps = feed.fps if self.config.hold_fps else None
        dreaming = Dreaming(self._studio, self._ctx, self._wish, fps)
        dreaming.begin(self._wish, list(feed.past))
        return dreaming

    def _change(self, feed: Feed, stream_id: str) -> None:
        assert feed.dreaming is not None
        before, wish = feed.dreaming.wish, self._wish
        if begins_anew(before, wish):
            feed.dreaming.begin(wish, list(feed.past))
        else:
            feed.dreaming.change(wish)
        told = told_of(before, wish, self._studio.facts.classes)
        feed.epoch = self._ctx.new_epoch(told, stream_id)

    def _follow(self) -> None:
        """What has been tuned; a wish that cannot be fulfilled changes nothing."""
        try:
            self._wish = wish_of(self.config, self._studio.facts)
        except ValueError as error:
            self._ctx.report("REFUSED", f"{error}; all stays as it was")
            self.config = self._made_for
        self._made_for = self.config

    def _in_place(self, frame: Frame, made: Made) -> Frame:
        """Records of the feed's own pixels do not belong to these."""
        width, height = frame_size(frame)
        data = self._pool.take((height * 3 // 2, width), np.uint8)
        draw(made.rgb, frame.caps, data)
        config, sha = self._made_for, self._studio.sha
        record = Dreamed(made.number, config.prompt, config.seed, made.setting.steps, sha)
        return Frame(data, frame.caps, frame.stamp, (record,))
