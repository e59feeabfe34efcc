"""`Conceal`: a live feed that stalls goes on, on time, with pictures that say they were made.

Source: DESIGN 14.24: the first pictures of a gap by optical flow, a network's when they
are ready. Ours: all of the timing. The feed is the clock for as long as it comes: its pictures pass
untouched and at once. Where one is late the engine's clock stands in for it (`ctx.call_at`). A
picture that comes after its moment has been filled is not shown, but learnt from.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from engine import Caps, Config, Frame, OpContext, Operator
from operators.predict.ahead import Predictor
from operators.predict.beside import Beside
from operators.predict.bridge import Bridge, Tools

HostYuv = Annotated[Frame, Caps(media="video", pix_fmt="yuv420p", device="cpu")]
LikeFrames = Annotated[Frame, Caps(media="video", like="frames")]
MS = 1_000_000


class ConcealConfig(Config, frozen=True):
    """How long, how soon, and by what."""

    most_ms: Annotated[
        int, Meta(ge=0, le=10_000, description="ms after the last picture that any are made")
    ] = 2000
    patience_ms: Annotated[
        float,
        Meta(ge=0, le=500, description="ms that a picture may be late; more where a feed jitters"),
    ] = 10
    handback_ms: Annotated[
        int, Meta(ge=0, le=2000, description="ms at most from made pictures back to the feed's")
    ] = 400
    motion: Annotated[
        Literal["fitted", "constant", "frozen"],
        Meta(description="things slow down as they use to, go on as they did, or stand still"),
    ] = "fitted"


DAMPINGS = {"fitted": None, "constant": 1.0, "frozen": 0.0}


class Conceal(Operator[ConcealConfig]):
    """Frames of the feed, and between them made ones with a `Concealed` record each.

    Behind a gap pictures are made of both until what is shown is the feed again. Made frames have
    the seq of a neighbour and a pts of their own, so joins behind this node keep them in order.
    Live, nothing is made until the rate of the feed is known, nor for one without a steady rate
    (told as UNSTEADY); after `most_ms` no more are made (told as GAP_TOO_LONG) until the feed is
    back (GAP_OVER). In a file graph gaps in the pts are filled when the frame behind them comes.
    """

    synthesizes = True

    def open(self, ctx: OpContext) -> None:
        config = self.config
        predictor = self.predictor(ctx)
        beside = None
        if predictor is not None:
            beside = ctx.enter(Beside(predictor, at_once=ctx.mode == "file"))
        tools = Tools(
            most_ns=config.most_ms * MS,
            patience_ns=round(config.patience_ms * MS),
            handback_ns=config.handback_ms * MS,
            damping=DAMPINGS[config.motion],
            beside=beside,
        )
        self._bridges = ctx.per_stream(lambda stream_id: Bridge(stream_id, ctx, tools))

    def predictor(self, ctx: OpContext) -> Predictor | None:
        """A network's predictions correct what is made; this operator has none."""
        return None

    def process(self, frames: HostYuv) -> list[LikeFrames]:
        """The frame as it is, or on its way back to that; none if it came too late.

        In a file graph what was missing before it comes first.
        """
        return self._bridges[frames.stamp.stream_id].come(frames)
