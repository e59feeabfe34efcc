"""Unknown-spoof prompts at run time: K + 1 vectors, one matrix product per face.

z = s x.[w_r; w_1..w_K],  p_real = softmax(z)_0          (2.4 of the method notes)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from operators.nn.pad.calibration import Calibration, calibration_to_dict
from operators.nn.pad.threshold import Threshold
from operators.nn.prompts.artifact import HeadDescriptor, expect_shapes, save_head
from operators.nn.prompts.head import SPOOF_METHOD, HeadFacts, HeadScores
from operators.nn.spoof_prompts.model import p_real
from operators.nn.spoof_prompts.trainer import TrainedPrompts
from operators.nn.vlm.interface import Vlm


class SpoofHead(HeadFacts):
    """A `PadHead` for attacks of any kind."""

    name = "antispoof"
    attack = "presentation"

    def __init__(
        self, tensors: Mapping[str, torch.Tensor], descriptor: HeadDescriptor, sha: str
    ) -> None:
        super().__init__(descriptor, sha)
        self._s = descriptor.logit_scale
        self._w_r, self._w_k = tensors["w_r"], tensors["w_k"]

    def __call__(self, features: torch.Tensor) -> HeadScores:
        """Patches are not looked at."""
        self.expect(features)
        x = functional.normalize(features[:, 0].float(), dim=1)
        cosines, nearest = (x @ self._w_k.T).max(dim=1)
        return HeadScores(p_real(x, self._w_r, self._w_k, self._s), nearest, cosines)


def save_spoof_head(
    path: Path,
    trained: TrainedPrompts,
    vlm: Vlm,
    card: Mapping[str, Any],
    calibration: Calibration | None = None,
    thresholds: Mapping[str, Threshold] | None = None,
) -> str:
    """Write what `open_head` reads; the file's SHA-256."""
    bank = trained.bank
    nearest = (bank.w_k @ trained.prior_features.T).argmax(dim=1).tolist()
    descriptor = HeadDescriptor(
        method=SPOOF_METHOD,
        backbone_sha=vlm.backbone_sha,
        backbone=vlm.name,
        dim=vlm.dim,
        logit_scale=trained.logit_scale,
        elements=tuple(
            f"{number + 1}: {trained.priors.families[prior]}"
            for number, prior in enumerate(nearest)
        ),
        prompt_sha=trained.priors.sha,
        config=asdict(trained.config),
        card=dict(card),
        calibration=None if calibration is None else calibration_to_dict(calibration),
        thresholds={name: value.to_dict() for name, value in (thresholds or {}).items()},
    )
    return save_head(path, {"w_r": bank.w_r, "w_k": bank.w_k}, descriptor)


def spoof_head(
    path: Path, tensors: Mapping[str, torch.Tensor], descriptor: HeadDescriptor, sha: str
) -> SpoofHead:
    """ValueError if the tensors are not those of such a head."""
    count, dim = len(descriptor.elements), descriptor.dim
    expect_shapes(path, tensors, {"w_r": (dim,), "w_k": (count, dim)})
    if count < 1:
        raise ValueError(f"{path.name} has no spoof prompt")
    return SpoofHead(tensors, descriptor, sha)
