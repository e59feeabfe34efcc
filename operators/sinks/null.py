"""Takes frames and does nothing with them: measures what comes before."""

from __future__ import annotations

from engine import NoConfig, OpContext, Operator, Stamp
from operators.ports import AnyVideo


class NullSink(Operator[NoConfig]):
    """Counts frames and keeps the stamp of the last one."""

    pixels = "ignored"

    def open(self, ctx: OpContext) -> None:
        self.frames = 0
        self.last: Stamp | None = None

    def process(self, frames: AnyVideo) -> None:
        self.frames += 1
        self.last = frames.stamp
