"""When a count that rises is worth a word: at the first, and whenever it has doubled."""

from __future__ import annotations


class Doubling:
    """So that who sends nonsense for hours does not fill the event log."""

    def __init__(self) -> None:
        self._told = 0

    def risen_to(self, count: int) -> bool:
        """Whether to tell it now."""
        if count < max(1, 2 * self._told):
            return False
        self._told = count
        return True
