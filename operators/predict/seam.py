"""From one way of making pictures to another without a jump: from made to captured ones above all.

Ours. At a seam the picture that is shown and the one that should be shown differ. From there on
each picture is the one before, moved on by one step along the motion, and then mixed with the one
that should be shown. The share of that is the largest that keeps the change from picture to picture
within `ALLOWED` times what this stream changes by itself, but the seam is over after a given number
of pictures. To slide both towards each other as well was tried on real clips: the jump is no
smaller, the pictures are further from the truth, and it takes longer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from operators.predict.flow import U8, motion
from operators.predict.moving import Picture, apart, mix, move

NO_JUMP = 1.15  # times the change between captured neighbours: less at a seam is no jump
ALLOWED = 1.12  # times that change: what a step may be, where there is a jump
LEAST_CHANGE = 0.5  # levels of 255: rounding alone makes as much
DONE = 0.85  # of the way: then the rest is gone at once
SMOOTH = 0.2  # weight of the newest neighbours' change


class Target(NamedTuple):
    """What should be shown next."""

    picture: Picture
    luma: U8  # the same, small; all of a stream have one size
    captured: bool
    together: bool  # it follows from the target before: the motion between both is that of things


class Seam:
    """Of one stream of pictures of one size."""

    def __init__(self, take: Callable[[], U8]) -> None:
        """`take` gives memory for a picture."""
        self._take = take
        self.shown: Picture | None = None  # the last one that went out
        self.left = 0  # pictures after which the seam is over; 0: there is none
        self._usual: float | None = None  # mean change between captured neighbours
        self._latest = 0.0  # the newest of these
        self._last: Target | None = None
        self._step: tuple[U8, U8] | None = None  # lumas of the last targets that go together

    def learn(self, picture: Picture, before: Picture) -> None:
        """Two captured neighbours, shown or not: so much this stream changes by itself."""
        self._latest = apart(picture, before)
        old = self._latest if self._usual is None else self._usual
        self._usual = old + SMOOTH * (self._latest - old)

    def open(self, most: int) -> None:
        """The next target does not follow from the last one; in `most` pictures it is reached."""
        self.left = max(most, 1)

    def show(self, target: Target) -> None:
        """The target goes out as it is."""
        self._note(target)
        self.left = 0
        self.shown = target.picture

    def next(self, target: Target) -> float:
        """One picture on: how far `shown` then is the target, 0 to 1; 1: it is the target itself.

        ValueError where nothing has been shown yet.
        """
        before = self.shown
        if before is None:
            raise ValueError("nothing has been shown that could be gone on from")
        self._note(target)
        change = self._latest if target.captured and target.together else 0.0
        usual = max(change, self._usual or 0.0, LEAST_CHANGE)
        allowed, jump = ALLOWED * usual, apart(target.picture, before)
        share = 1.0
        if self.left > 1 and jump > (allowed if target.together else NO_JUMP * usual):
            moved = self._moved_on(before)
            still = apart(moved, before)
            share = max((allowed - still) / max(jump - still, 1e-6), 1 / self.left)
        if share >= DONE:
            self.left, self.shown = 0, target.picture
            return 1.0
        self.shown = mix(moved, target.picture, share, self._take())
        self.left -= 1
        return share

    def _note(self, target: Target) -> None:
        if self._last is not None and target.together:
            self._step = self._last.luma, target.luma
        self._last = target

    def _moved_on(self, shown: Picture) -> Picture:
        """By one step of what should have been shown."""
        if self._step is None:
            return shown
        before, after = self._step
        return move(shown, motion(after, before, "quick"), self._take())
