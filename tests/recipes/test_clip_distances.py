"""The table of distances: rows, order, and what it asks of a source of clips."""

from __future__ import annotations

import numpy as np
import pytest

from operators.nn.quality.features import ClipFeatures
from operators.recipes.clip_distances import (
    FLOOR,
    FROZEN,
    SHUFFLED,
    UNSEEN,
    RealSets,
    distance_table,
    real_sets,
)


class Means(ClipFeatures):
    """Features that a test can foresee: colours, and their change from frame to frame."""

    def __init__(self) -> None:
        """Without a network."""

    def of_clips(self, clips):
        stack = np.stack(list(clips)).astype(np.float32)
        change = np.abs(np.diff(stack, axis=1)).mean(axis=(1, 2, 3))
        return np.concatenate((stack.mean(axis=(1, 2, 3)), change), axis=1)


def source(split: str, many: int, which: int) -> np.ndarray:
    """Colours that drift."""
    rng = np.random.default_rng([len(split), which])
    start = rng.uniform(60, 120, (many, 1, 1, 1, 3)) + 20 * (split == "test")
    drift = rng.uniform(1, 4, (many, 1, 1, 1, 3)) * np.arange(8)[:, None, None, None]
    return np.broadcast_to(start + drift, (many, 8, 4, 4, 3)).astype(np.uint8)


def test_floor_and_ceilings_stand_beside_what_was_made() -> None:
    sets = real_sets(source, Means(), 40, 12, 0)
    assert sets is not None
    rng = np.random.default_rng(1)
    near = sets.rows[FLOOR] + rng.normal(0, 0.01, (12, 6))
    table = distance_table(sets, {"near": near, "far": near + 60}, 5, 30, 0)
    assert list(table["rows"]) == ["near", "far", FLOOR, FROZEN, SHUFFLED, UNSEEN]
    assert (table["clips"], table["real_clips"], table["dims"]) == (12, 40, 4)
    far = {name: row["distance"] for name, row in table["rows"].items()}
    assert far["near"] == pytest.approx(far[FLOOR], rel=0.05)
    assert far[FLOOR] < min(far["far"], far[FROZEN], far[SHUFFLED], far[UNSEEN])
    assert all(row["low"] <= row["distance"] <= row["high"] for row in table["rows"].values())
    assert 0.5 < table["axes_keep"] <= 1


def test_no_clips_means_stop() -> None:
    assert real_sets(lambda *_: None, Means(), 10, 6, 0) is None


def test_real_sets_are_apart() -> None:
    sets = real_sets(source, Means(), 12, 12, 0)
    assert isinstance(sets, RealSets)
    assert (sets.basis != sets.reference).any()
    assert (sets.reference != sets.rows[FLOOR]).any()
