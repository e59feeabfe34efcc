"""Trades steps for frame rate: fewer when frames take too long, more again when time is left.

Source: method notes, AR-Diffusion 1c (a frame every s calls, S steps each) and 1e (choose s from
the frame's budget). Inferred, ours: the order. Fewer calls per frame first, for that costs no
steps; then fewer steps, always with as many calls as the window demands (s >= ceil(S / W)).
"""

from __future__ import annotations

import statistics
from collections import deque
from typing import NamedTuple

LEAST_STEPS = 4  # below that frames stop looking like what the model was trained on
LOOK = 6  # frames whose median counts, so that one hiccup changes nothing
FULL = 0.95  # of the period: more work than this and the rate is not held
ROOM = 0.7  # of the period: less work than this and there may be time for more steps
CALM_S = 5.0  # of room before more steps are tried
LONGEST_CALM = 16  # times that, when trying has failed again and again


class Setting(NamedTuple):
    """How a frame is made."""

    steps: int  # S: updates of each frame
    lag: int  # s: calls per frame

    def __str__(self) -> str:
        return f"{self.steps} steps, lag {self.lag}"


class Took(NamedTuple):
    """What one frame took, in ns."""

    calls_ns: int  # all calls of the denoiser
    rest_ns: int  # decoding and whatever else


def least_lag(steps: int, window: int) -> int:
    """ceil(S / W): with fewer calls per frame a window of W frames would lose updates."""
    return -(-steps // window)


def ladder(wanted: Setting, window: int) -> list[Setting]:
    """From what is wanted down to the least work; neighbours differ in one thing, or by a fifth."""
    steps, lag = wanted
    found = [wanted]
    while lag > least_lag(steps, window):
        lag = max(lag // 2, least_lag(steps, window))
        found.append(Setting(steps, lag))
    while steps > LEAST_STEPS:
        steps = max(steps * 4 // 5, LEAST_STEPS)
        found.append(Setting(steps, least_lag(steps, window)))
    return found


class Pace:
    """Told what each frame took; says when the setting changes, and why, for people to read."""

    def __init__(self, fps: float, wanted: Setting, window: int) -> None:
        self._fps = fps
        self._rungs = ladder(wanted, window)
        self._rung = 0
        self._period_ns = 1e9 / fps
        self._took: deque[Took] = deque(maxlen=LOOK)
        self._calm = 0  # frames with room, in a row
        self._wait = 1  # times CALM_S
        self._since_rise: int | None = None  # frames; None: the last change was not a rise
        self._gave_up = False

    @property
    def setting(self) -> Setting:
        """How the next frame is to be made."""
        return self._rungs[self._rung]

    def note(self, took: Took) -> str | None:
        """After each frame. What has been changed, if anything was; `setting` is then another."""
        self._took.append(took)
        if self._since_rise is not None:
            self._since_rise += 1
        if len(self._took) < LOOK:
            return None
        share = statistics.median(map(sum, self._took)) / self._period_ns
        if share > FULL:
            return self._too_slow()
        self._gave_up = False
        self._calm = self._calm + 1 if share < ROOM else 0
        calm_frames = CALM_S * self._fps * self._wait
        if self._since_rise is not None and self._since_rise > calm_frames:
            self._wait, self._since_rise = 1, None  # it holds
        if self._rung and self._calm >= calm_frames:
            self._since_rise = 0
            return self._move(-1)
        return None

    def _too_slow(self) -> str | None:
        self._calm = 0
        if self._since_rise is not None:  # what was tried does not hold
            self._wait, self._since_rise = min(self._wait * 2, LONGEST_CALM), None
        if self._rung + 1 < len(self._rungs):
            return self._move(1)
        if self._gave_up:
            return None
        self._gave_up = True
        return f"{self.setting} is the least, and too slow: {self._reason()}"

    def _move(self, by: int) -> str:
        before, reason = self.setting, self._reason()
        self._rung += by
        self._calm = 0
        self._took.clear()
        return f"{before} -> {self.setting}: {reason}"

    def _reason(self) -> str:
        calls_ns, rest_ns = zip(*self._took, strict=True)
        lag = self.setting.lag
        call_ms = statistics.median(calls_ns) / lag / 1e6
        calls = f"{lag} {'call' if lag == 1 else 'calls'} of {call_ms:.1f} ms"
        picture = f"{statistics.median(rest_ns) / 1e6:.1f} ms for the picture"
        return f"{calls} and {picture}; {self._fps:g} fps leave {self._period_ns / 1e6:.1f} ms"
