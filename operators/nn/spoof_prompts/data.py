"""What unknown-spoof prompts may learn from: real faces of one domain, and nothing else.

The setting of arXiv:2505.03611 allows no attack and no second domain in training. This is where it
is kept: features that are not labelled bona fide, one and all, do not get in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

BONA_FIDE = "bonafide"


class LeakError(ValueError):
    """Something other than real faces of one domain was offered for training."""


@dataclass(frozen=True)
class RealFaces:
    """Unit features of real faces; made by `of` alone."""

    x: torch.Tensor  # [n, dim] float32, unit
    views: torch.Tensor | None  # [n, dim]: of the same faces, seen another way
    domain: str

    @classmethod
    def of(
        cls,
        features: torch.Tensor,
        kinds: Sequence[str],
        domains: Sequence[str],
        views: torch.Tensor | None = None,
    ) -> RealFaces:
        """`features` [n, dim] of any length, with each one's kind and domain.

        LeakError if a kind is not "bonafide" or there are two domains; ValueError for shapes, or a
        feature that is not finite.
        """
        if not len(features) == len(kinds) == len(domains) or not len(features):
            raise ValueError(
                f"{len(features)} features, {len(kinds)} kinds, {len(domains)} domains"
            )
        foreign = sorted(set(kinds) - {BONA_FIDE})
        if foreign:
            raise LeakError(f"training sees only real faces, {foreign[0]!r} was offered")
        if len(set(domains)) > 1:
            names = ", ".join(sorted(set(domains)))
            raise LeakError(f"training sees one domain, these were offered: {names}")
        if views is not None and views.shape != features.shape:
            raise ValueError(f"views {tuple(views.shape)} of {tuple(features.shape)} features")
        for value in (features, views):
            if value is not None and not bool(torch.isfinite(value).all()):
                raise ValueError("a feature is not finite")
        return cls(_unit(features), None if views is None else _unit(views), domains[0])

    def fingerprint(self) -> str:
        """SHA-256 of the features."""
        digest = hashlib.sha256(self.x.numpy().tobytes())
        if self.views is not None:
            digest.update(self.views.numpy().tobytes())
        return digest.hexdigest()


def _unit(features: torch.Tensor) -> torch.Tensor:
    return functional.normalize(features.float(), dim=1)
