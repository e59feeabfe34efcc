"""When the next picture of a stream is due: its own period, and how late it usually comes.

Ours: the period is the median of its pts steps. The delay from pts to the clock is the lower
quartile of the last ones, so that a stall moves nothing, and a feed that is late for good is
followed after most of a window has come late.
"""

from __future__ import annotations

import itertools
import statistics
from collections import deque

STEPS = 24  # of pts that count
LEAST_STEPS = 6  # before that the rate is not known
NEAR = 0.25  # of the period: a step that is off by more is no usual one
USUAL_SHARE = 0.75  # of steps that must be usual ones
DELAYS = 50


class Rhythm:
    """Of one stream. Moments of pts and clock in ns."""

    def __init__(self) -> None:
        self._moments: deque[int] = deque(maxlen=STEPS + 1)
        self._delays: deque[int] = deque(maxlen=DELAYS)

    def note(self, pts_ns: int, now_ns: int) -> None:
        """A picture has come."""
        self._moments.append(pts_ns)
        self._delays.append(now_ns - pts_ns)

    @property
    def steps(self) -> list[int]:
        """Between neighbours, ns."""
        return [after - before for before, after in itertools.pairwise(self._moments)]

    @property
    def period_ns(self) -> int | None:
        """Between two pictures; None as long as it is unknown, or where there is no steady one."""
        steps = self.steps
        if len(steps) < LEAST_STEPS:
            return None
        period = round(statistics.median(steps))
        usual = sum(abs(step - period) <= NEAR * period for step in steps)
        return period if period > 0 and usual >= USUAL_SHARE * len(steps) else None

    @property
    def is_unsteady(self) -> bool:
        """Enough has come to say that there is no steady rate."""
        return len(self.steps) == STEPS and self.period_ns is None

    def due_ns(self, pts_ns: int) -> int:
        """The moment of the clock at which a picture with this pts usually is here."""
        delays = sorted(self._delays)
        return pts_ns + delays[len(delays) // 4]
