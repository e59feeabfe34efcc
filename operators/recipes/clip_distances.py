"""Frechet distances of generated clips to held-out rendered ones, with a floor and ceilings beside.

Split `validation` has the shapes, textures and rooms of training in worlds that training never saw:
generated clips are compared with it, for nobody can generate a texture never seen. The floor is the
distance of other such clips, as many as were generated; split `test`, with shapes and textures of
its own, shows what unseen things alone make. Ceilings: the floor's clips with their first frame
frozen, and with their frames in random order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from operators.nn.quality.features import ClipFeatures
from operators.nn.quality.frechet import fit_projection, frechet_interval
from operators.nn.worlds.spec import Split

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]
Source = Callable[[Split, int, int], U8 | None]  # split, clips, which set: [N, T, S, S, 3], or stop

FLOOR, UNSEEN = "real, other worlds", "real, unseen shapes and textures"
FROZEN, SHUFFLED = "real, first frame frozen", "real, frames shuffled"
BASIS, REFERENCE, OTHER = 1, 2, 3
CLIPS_PER_AXIS = 3  # at least: a covariance of fewer is mostly chance


@dataclass(frozen=True)
class RealSets:
    """Features [N, D] of rendered clips."""

    basis: F32  # fits the axes, nothing else
    reference: F32  # what distances go to
    rows: Mapping[str, F32]  # floor and ceilings


def real_sets(
    source: Source, features: ClipFeatures, real: int, count: int, seed: int
) -> RealSets | None:
    """`real` clips for basis and reference each, `count` for every other row; None to stop."""
    found: dict[str, F32] = {}
    wanted: tuple[tuple[str, Split, int, int], ...] = (
        ("basis", "validation", real, BASIS),
        ("reference", "validation", real, REFERENCE),
        (FLOOR, "validation", count, OTHER),
        (UNSEEN, "test", count, OTHER),
    )
    for name, split, many, which in wanted:
        clips = source(split, many, which)
        if clips is None:
            return None
        found[name] = features.of_clips(clips)
        if name == FLOOR:
            rng = np.random.default_rng(seed)
            frozen = np.repeat(clips[:, :1], clips.shape[1], axis=1)
            found[FROZEN] = features.of_clips(frozen)
            found[SHUFFLED] = features.of_clips(
                [clip[rng.permutation(len(clip))] for clip in clips]
            )
    return RealSets(found.pop("basis"), found.pop("reference"), found)


def distance_table(
    real: RealSets, made: Mapping[str, F32], dims: int, draws: int, seed: int
) -> dict[str, Any]:
    """Every row's distance with its interval; features of `made` are as many as the real rows'.

    `dims` is lowered to a third of the clips of a row.
    """
    count = len(real.rows[FLOOR])
    project = fit_projection(real.basis, min(dims, count // CLIPS_PER_AXIS))
    reference, rows = project(real.reference), {}
    for name, seen in {**made, **real.rows}.items():
        found = frechet_interval(reference, project(seen), draws, seed=seed)
        rows[name] = {"distance": found.value, "low": found.low, "high": found.high}
    return {
        "clips": count,
        "real_clips": len(reference),
        "dims": project.axes.shape[1],
        "axes_keep": project.kept,
        "rows": rows,
    }
