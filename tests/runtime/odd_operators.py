"""Operators that do what few do, for tests of the runtime."""

from __future__ import annotations

from engine import NoConfig, Operator
from tests.runtime.operators import Video


class Tenth(Operator[NoConfig]):
    """One frame in ten goes on."""

    def process(self, frames: Video) -> Video | None:
        return frames if frames.stamp.seq % 10 == 0 else None


class Exits(Operator[NoConfig]):
    """Calls sys.exit at every frame, as a library might."""

    def process(self, frames: Video) -> Video:
        raise SystemExit(frames.stamp.seq)
