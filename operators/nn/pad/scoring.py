"""From media to presentations: which frames of a video count, and how they become one score.

Public code scores the first and last frame, two frames, or all (method notes, 7.2, trap 4), which
gives other figures for the same model. Here the rule is part of the protocol and of the report:
frames are taken by their time, a video's score is the mean of its scored frames, and a video none
of whose frames could be scored is a non-response, not a row that disappears.
Decoding is the caller's: `score(path)` returns, per selected frame, a score or why there is none.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from operators.nn.pad.errors import EvaluationError
from operators.nn.pad.listing import MediaItem
from operators.nn.pad.metrics import Presentations

FrameResult = float | str  # a score (higher = more bona fide), or the reason why there is none
ScoreFile = Callable[[Path], Sequence[FrameResult]]
NOT_FINITE = "score is not finite"
NO_FRAMES = "no frame"


@dataclass(frozen=True)
class VideoRule:
    """Frames of a video that are scored: the first at or after each multiple of step_ms.

    step_ms: 0 takes every frame; at_most: 0 sets no limit, else frames from the start.
    """

    step_ms: int = 200
    at_most: int = 50

    def __post_init__(self) -> None:
        if self.step_ms < 0 or self.at_most < 0:
            raise EvaluationError(f"step_ms and at_most must not be negative, got {self}")

    def select(self, pts_ns: Iterable[int]) -> Iterator[int]:
        """Indices to score of frames in order of time; lazy, stops reading when it has enough."""
        chosen = self._due(pts_ns)
        return islice(chosen, self.at_most) if self.at_most else chosen

    def _due(self, pts_ns: Iterable[int]) -> Iterator[int]:
        step_ns = self.step_ms * 1_000_000
        first_ns = next_ns = None
        for index, now_ns in enumerate(pts_ns):
            if first_ns is None or next_ns is None:
                first_ns = next_ns = now_ns
            if now_ns >= next_ns:
                yield index
                passed = (now_ns - first_ns) // step_ns + 1 if step_ns else 0
                next_ns = first_ns + passed * step_ns


@dataclass(frozen=True)
class ScoredItem:
    """An item with one result per selected frame, in order; an image has one."""

    item: MediaItem
    frames: tuple[FrameResult, ...]

    @property
    def scores(self) -> tuple[float, ...]:
        """Scores of the frames that have one."""
        return tuple(frame for frame in self.frames if isinstance(frame, float))


def score_items(items: Iterable[MediaItem], score: ScoreFile) -> Iterator[ScoredItem]:
    """Score item by item. What is not a finite number becomes a reason; errors of `score` pass."""
    for item in items:
        frames = tuple(_result(frame, item) for frame in score(item.path))
        yield ScoredItem(item, frames or (NO_FRAMES,))


def _result(frame: FrameResult, item: MediaItem) -> FrameResult:
    if isinstance(frame, str):
        return frame or "no reason given"
    if isinstance(frame, bool) or not isinstance(frame, int | float | np.floating):
        kind = type(frame).__name__
        raise EvaluationError(f"{item.path}: a frame score must be a number or text, got {kind}")
    return float(frame) if math.isfinite(frame) else NOT_FINITE


def per_video(scored: Sequence[ScoredItem]) -> Presentations:
    """One row per item: the mean of its scored frames; NaN where there is none."""
    means = [float(np.mean(item.scores)) if item.scores else math.nan for item in scored]
    return _rows([(item.item, mean) for item, mean in zip(scored, means, strict=True)])


def per_frame(scored: Sequence[ScoredItem]) -> Presentations:
    """One row per selected frame, NaN where it has no score."""
    return _rows(
        [
            (item.item, frame if isinstance(frame, float) else math.nan)
            for item in scored
            for frame in item.frames
        ]
    )


def skip_reasons(scored: Iterable[ScoredItem]) -> dict[str, int]:
    """Why frames have no score, with counts, most frequent first."""
    reasons = Counter(frame for item in scored for frame in item.frames if isinstance(frame, str))
    return dict(sorted(reasons.items(), key=lambda entry: (-entry[1], entry[0])))


def _rows(rows: Sequence[tuple[MediaItem, float]]) -> Presentations:
    if not rows:
        raise EvaluationError("no item to score")
    return Presentations(
        score=np.array([score for _, score in rows], dtype=np.float64),
        is_live=np.array([item.is_live for item, _ in rows], dtype=np.bool_),
        species=np.array([item.species for item, _ in rows], dtype=np.str_),
        identity=np.array([item.identity for item, _ in rows], dtype=np.str_),
    )
