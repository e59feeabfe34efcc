"""Stamps: when a frame was taken, which stream it belongs to and how fresh it must stay."""

from __future__ import annotations

from fractions import Fraction

from msgspec import Struct

NANOSECONDS = Fraction(1, 1_000_000_000)
Place = tuple[int, int]  # seq, and pts in ns


class Stamp(Struct, frozen=True, gc=False):
    """Identity and time of one frame. Survives every operator that does not make new frames."""

    stream_id: str
    pts: int  # presentation time in ticks of time_base
    time_base: Fraction  # seconds per tick
    capture_ns: int  # monotonic clock of this host when the frame was captured (or read)
    seq: int  # counts the frames of one stream from 0, without gaps at the source; a frame that
    # an operator makes between two of them has the seq of the one before and a later pts
    epoch: int = 0  # raised by one authority; frames of an older epoch die where they are
    deadline_ns: int | None = None  # monotonic; None where no frame is ever late (file graphs)
    synthetic: bool = False  # some pixel or sample was made, not captured
    trace: str | None = None  # W3C trace context

    @property
    def pts_seconds(self) -> float:
        return float(self.pts * self.time_base)

    @property
    def place(self) -> Place:
        """Where in its stream the frame is: what joins go by."""
        return self.seq, self.pts_ns

    @property
    def pts_ns(self) -> int:
        return rescale_pts(self.pts, self.time_base, NANOSECONDS)


def rescale_pts(pts: int, source: Fraction, target: Fraction) -> int:
    """`pts` ticks of `source` seconds as ticks of `target`. The only rounding of time: half up."""
    numerator = pts * source.numerator * target.denominator
    denominator = source.denominator * target.numerator
    return (2 * numerator + denominator) // (2 * denominator)
