"""A video as a node makes it: what it is asked for, at the pace that the machine can hold."""

from __future__ import annotations

from collections.abc import Sequence

from engine import OpContext, OperatorError
from operators.generate.checkpoint import Facts
from operators.generate.pace import Pace
from operators.generate.settings import GenerateConfig, Wish, wish_of
from operators.generate.studio import U8, Made, Reel, Studio


class Dreaming:
    """One video after the other. Reports `PACE` whenever steps are given up or taken back."""

    def __init__(self, studio: Studio, ctx: OpContext, wish: Wish, fps: float | None) -> None:
        """`fps` that are to be held; None: however long it takes."""
        self._studio, self._ctx, self._fps = studio, ctx, fps
        self._reel: Reel
        self.wish = wish  # in force
        self._pace = self._new_pace()

    def begin(self, wish: Wish, known: Sequence[U8]) -> None:
        """A new one; the pace stays as it is unless other steps are wanted."""
        self._set(wish)
        self._reel = self._studio.reel(self._paced(), known)

    def change(self, wish: Wish) -> None:
        """The same one, from the next picture on."""
        self._set(wish)
        self._reel.change(self._paced())

    def next(self) -> Made | None:
        """The next picture; None if the run is to end."""
        made = self._reel.next(self._ctx.stopping)
        if made is not None and made.steady and self._pace is not None:
            told = self._pace.note(made.took)
            if told is not None:
                self._ctx.report("PACE", told)
                self._reel.change(self._paced())
        return made

    def _set(self, wish: Wish) -> None:
        before, self.wish = self.wish, wish
        if before.setting != wish.setting:
            self._pace = self._new_pace()

    def _new_pace(self) -> Pace | None:
        if self._fps is None:
            return None
        return Pace(self._fps, self.wish.setting, self._studio.facts.window)

    def _paced(self) -> Wish:
        if self._pace is None:
            return self.wish
        return self.wish._replace(setting=self._pace.setting)


def opening_wish(config: GenerateConfig, facts: Facts) -> Wish:
    """OperatorError for one that this checkpoint cannot fulfil."""
    try:
        return wish_of(config, facts)
    except ValueError as error:
        raise OperatorError("BAD_WISH", str(error)) from error


def begins_anew(old: Wish, new: Wish) -> bool:
    """Whether nothing of the old video belongs into the new one."""
    return (old.label, old.seed) != (new.label, new.seed)
