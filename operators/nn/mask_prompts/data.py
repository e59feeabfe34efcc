"""What mask prompts learn from: features of real faces and of masks, with the scenario of each."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from operators.nn.mask_prompts.model import MASK, REAL


@dataclass(frozen=True)
class MaskData:
    """Labelled features; checked when made."""

    x: torch.Tensor  # [n, dim] unit
    z: torch.Tensor  # [n, N, dim] unit, or float16 as they come: made unit when drawn
    label: torch.Tensor  # [n] int64: REAL or MASK
    scenario: tuple[str, ...]  # domain, or sort of mask: batches are even over them
    images: torch.Tensor | None = None  # [n, 3, S, S] normalised: for removal by pruning

    @classmethod
    def of(
        cls,
        features: torch.Tensor,
        label: Sequence[int],
        scenario: Sequence[str],
        images: torch.Tensor | None = None,
    ) -> MaskData:
        """`features` [n, 1 + N, dim] as the image tower gives them. ValueError for what is not."""
        count = len(features)
        if features.ndim != 3 or features.shape[1] < 2 or not bool(torch.isfinite(features).all()):
            raise ValueError(f"features {tuple(features.shape)}: finite [n, 1 + N, dim] are needed")
        if not count == len(label) == len(scenario) or (
            images is not None and len(images) != count
        ):
            raise ValueError(f"{count} features, {len(label)} labels, {len(scenario)} scenarios")
        if set(label) != {REAL, MASK}:
            raise ValueError("both real faces and masks are needed, and nothing else")
        x = functional.normalize(features[:, 0].float(), dim=1)
        return cls(x, features[:, 1:], torch.tensor(list(label)), tuple(scenario), images)

    def patches(self, rows: torch.Tensor) -> torch.Tensor:
        """[B, N, dim] float32 unit."""
        return functional.normalize(self.z[rows].float(), dim=2)

    def fingerprint(self) -> str:
        """SHA-256 of features, labels and scenarios."""
        digest = hashlib.sha256(self.x.numpy().tobytes())
        digest.update(self.z.contiguous().numpy().tobytes() + self.label.numpy().tobytes())
        digest.update("|".join(self.scenario).encode())
        return digest.hexdigest()

    def draw(self, count: int, rng: np.random.Generator) -> torch.Tensor:
        """[count] rows: half real, half masks, each half even over its scenarios."""
        rows = []
        for label, share in ((REAL, count - count // 2), (MASK, count // 2)):
            groups: dict[str, list[int]] = {}
            for row in (self.label == label).nonzero()[:, 0].tolist():
                groups.setdefault(self.scenario[row], []).append(row)
            own = [groups[name] for name in sorted(groups)]
            first = int(rng.integers(len(own)))
            for number in range(share):
                group = own[(first + number) % len(own)]
                rows.append(group[int(rng.integers(len(group)))])
        return torch.tensor(rows)
