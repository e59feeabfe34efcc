"""Batches of clips by their index alone: training that resumes at batch n sees the same batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from operators.nn.worlds.clip import make_world
from operators.nn.worlds.spec import U8, ClipSpec, Kind, Split

STREAM = 0x776F726C6473  # keeps these numbers apart from others made of the same seed


@dataclass(frozen=True)
class ClipSampler:
    """Draws worlds of several kinds. A clip's class is the place of its kind in `kinds`."""

    kinds: tuple[Kind, ...]
    split: Split = "train"
    size: tuple[int, int] = (64, 64)  # width, height, px
    fps: float = 15.0
    length: int = 16
    seed: int = 0
    photographs: Sequence[U8] = ()

    def spec(self, index: int, place: int) -> ClipSpec:
        """Which clip stands at a place of a batch; kinds take turns."""
        key = np.random.SeedSequence([STREAM, self.seed, index, place])
        world = int(key.generate_state(1, np.uint64)[0] >> 1)
        kind = self.kinds[(index + place) % len(self.kinds)]
        width, height = self.size
        return ClipSpec(kind, world, self.split, width, height, self.fps, self.length)

    def batch(self, index: int, n: int) -> tuple[U8, npt.NDArray[np.int64]]:
        """[n, T, H, W, 3] frames and [n] class ids; the same for the same index, always."""
        width, height = self.size
        clips = np.empty((n, self.length, height, width, 3), np.uint8)
        classes = np.empty(n, np.int64)
        for place in range(n):
            spec = self.spec(index, place)
            world = make_world(spec, self.photographs)
            for t in range(self.length):
                clips[place, t] = world.render(t / self.fps)
            classes[place] = self.kinds.index(spec.kind)
        return clips, classes
