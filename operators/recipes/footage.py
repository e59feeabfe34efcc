"""Video to learn from: rendered worlds, or the user's own videos, which take their place.

Layout of a folder: `CLASS/*` with videos of each class, or videos alone, which are one class. The
last tenth of every video is held out, or one window where that is longer, but at most a third.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from engine import Frame
from engine.recipe import Job, RecipeError
from operators.nn.worlds.clip import make_world
from operators.nn.worlds.sampler import ClipSampler
from operators.nn.worlds.spec import Kind, Split
from operators.recipes.media import VIDEOS, each_frame
from operators.video.convert import to_rgb

U8 = npt.NDArray[np.uint8]
I64 = npt.NDArray[np.int64]
Part = Literal["train", "held-out"]
HELD_OUT = 10  # one part in so many of every video


@dataclass(frozen=True)
class View:
    """How video is looked at."""

    size_px: int  # squares of this side
    fps: float
    window: int = 1  # frames that belong together


@dataclass(frozen=True)
class Footage:
    """Sequences end to end, each of one class."""

    frames: U8  # [M, S, S, 3] RGB
    lengths: I64  # [Q] frames of each sequence; they add up to M
    labels: I64  # [Q]
    classes: tuple[str, ...]
    origin: str  # for the card
    names: tuple[str, ...] = ()  # [Q] of the videos; worlds have none

    def windows(self, length: int) -> tuple[I64, I64]:
        """(first frame, class) of every stretch of `length` frames inside one sequence.

        RecipeError if there is none.
        """
        ends = np.cumsum(self.lengths)
        firsts = [
            np.arange(end - count, end - length + 1)
            for end, count in zip(ends, self.lengths, strict=True)
        ]
        if not sum(map(len, firsts)):
            raise RecipeError(f"no video is {length} frames long at this rate; give longer ones")
        classes = np.repeat(self.labels, [len(first) for first in firsts])
        return np.concatenate(firsts), classes

    def others(self, index: I64, share: npt.NDArray[np.float64]) -> I64:
        """For each frame another of its sequence: the one at `share` (0 to 1) of its length."""
        ends = np.cumsum(self.lengths)
        within = np.searchsorted(ends, index, side="right")
        lengths = self.lengths[within]
        return ends[within] - lengths + np.minimum((share * lengths).astype(np.int64), lengths - 1)


@dataclass(frozen=True)
class Rendered:
    """Which worlds, and when they are looked at."""

    kinds: tuple[Kind, ...]
    split: Split
    clips: int
    length: int  # frames of each
    latest_start_s: float  # a clip begins at any time up to this
    seed: int = 0


def render(view: View, worlds: Rendered, job: Job) -> Footage | None:
    """Clips of worlds in turn, each from a world of its own; None when the job is to stop."""
    size, length = view.size_px, worlds.length
    sampler = ClipSampler(worlds.kinds, worlds.split, (size, size), view.fps, length, worlds.seed)
    frames = np.empty((worlds.clips, length, size, size, 3), np.uint8)
    begins = np.random.default_rng([worlds.seed, worlds.clips]).uniform(
        0, worlds.latest_start_s, worlds.clips
    )
    labels = np.arange(worlds.clips, dtype=np.int64) % len(worlds.kinds)
    for number, begin_s in enumerate(begins):
        if job.stop.is_set():
            return None
        world = make_world(sampler.spec(number, 0))
        for t in range(length):
            frames[number, t] = world.render(begin_s + t / view.fps)
        if number % 50 == 49:
            job.tell("render", number + 1, worlds.clips)
    lengths = np.full(worlds.clips, length, np.int64)
    origin = f"{worlds.clips} clips of worlds ({', '.join(worlds.kinds)}), split {worlds.split}"
    return Footage(frames.reshape(-1, size, size, 3), lengths, labels, worlds.kinds, origin)


def read(folder: Path, part: Part, view: View, most_frames: int, job: Job) -> Footage | None:
    """Videos of a folder, one part of each; None when the job is to stop.

    Of videos that together have more than `most_frames` frames each gives an equal share, from its
    beginning. RecipeError for a folder without videos, or one that cannot be read.
    """
    files = _videos(folder)
    classes = tuple(sorted({name for name, _ in files}))
    share = max(1, most_frames // len(files))
    sequences = []
    for number, (_, path) in enumerate(files, 1):
        if job.stop.is_set():
            return None
        seen = list(looked_at(each_frame(path), view, share))
        kept_out = max(len(seen) // HELD_OUT, min(view.window, len(seen) // 3))
        first = len(seen) - kept_out
        kept = seen[:first] if part == "train" else seen[first:]
        sequences.append(np.stack(kept or seen))
        job.tell("read", number, len(files))
    lengths = np.array([len(sequence) for sequence in sequences], np.int64)
    labels = np.array([classes.index(name) for name, _ in files], np.int64)
    origin = f"{len(files)} videos of {folder.name}, {part}, {lengths.sum()} frames"
    names = tuple(path.relative_to(folder).as_posix() for _, path in files)
    return Footage(np.concatenate(sequences), lengths, labels, classes, origin, names)


def _videos(folder: Path) -> list[tuple[str, Path]]:
    """(class, file) in the order of the names."""
    here = [(folder.name, path) for path in sorted(folder.glob("*"))]
    below = [(path.parent.name, path) for path in sorted(folder.glob("*/*"))]
    found = [pair for pair in here or [] if pair[1].suffix.lower() in VIDEOS]
    found = found or [pair for pair in below if pair[1].suffix.lower() in VIDEOS]
    if not found:
        raise RecipeError(f"{folder}: no video in it or in its folders; e.g. street/monday.mp4")
    return found


def looked_at(frames: Iterator[Frame], view: View, most: int) -> Iterator[U8]:
    """Squares at the view's rate: at each of its moments the frame that is shown then."""
    period = 1 / Fraction(view.fps).limit_denominator(1001)
    begin: Fraction | None = None
    count = 0
    for frame in frames:
        time_s = frame.stamp.pts * frame.stamp.time_base
        begin = time_s if begin is None else begin
        while time_s - begin >= count * period:
            if count == most:
                return
            yield square(to_rgb(frame), view.size_px)
            count += 1


def square(picture: U8, size_px: int) -> U8:
    """The middle of [H, W, 3] as [size_px, size_px, 3]."""
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    middle = picture[top : top + side, left : left + side]
    way = cv2.INTER_AREA if side >= size_px else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(middle, (size_px, size_px), interpolation=way), np.uint8)
