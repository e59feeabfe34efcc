"""What is said of a picture that stands in for one that did not come."""

from __future__ import annotations

from typing import Literal

from engine import Record
from operators.predict.course import GRID

Part = Literal["made", "handed back"]


class Concealed(Record, frozen=True):
    """This picture was made, or is on its way back to what is captured.

    For trackers: what is found in it is worth `confidence`, or `at` its place.
    """

    part: Part
    number: int  # of the picture in its gap, from 1; goes on while it is handed back
    since_ms: int  # from the last picture that was known when it was made
    confidence: float  # 0 to 1, weighed by motion; falls with every picture of a gap
    cells: bytes  # GRID * GRID of it, row by row, in 255ths

    def at(self, x: float, y: float) -> float:
        """The confidence at a place, in shares of width and height (0 to 1)."""
        column, row = (min(max(int(share * GRID), 0), GRID - 1) for share in (x, y))
        return self.cells[row * GRID + column] / 255
