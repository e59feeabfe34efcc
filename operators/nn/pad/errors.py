"""What goes wrong with data handed to an evaluation, a calibration or a decision."""

from __future__ import annotations

from collections.abc import Sequence

SHOWN_PROBLEMS = 100  # a folder with ten thousand wrong names need not fill the screen


class EvaluationError(ValueError):
    """Scores, labels or settings from which no honest figure can be made, and why."""


class FolderError(EvaluationError):
    """A data folder that does not follow the layout; `problems` holds every one, with its path."""

    def __init__(self, root: str, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        shown = [f"  {problem}" for problem in self.problems[:SHOWN_PROBLEMS]]
        rest = len(self.problems) - len(shown)
        if rest:
            shown.append(f"  and {rest} more")
        super().__init__(f"{root}: {len(self.problems)} problem(s)\n" + "\n".join(shown))
