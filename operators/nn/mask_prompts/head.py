"""Mask prompts at run time: vectors and two small matrices; no text tower, no text pass.

Both heads are averaged: the whole image's with filtered knowledge, and the causal one on patches
that speak for the predicted class (3.2 and 3.4 of the method notes). Prompts that were learned by
pruning are pooled here like all others: a head sees features, and no image to prune.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch.nn import functional

from operators.nn.mask_prompts.knowledge import BANKS, CLASSES
from operators.nn.mask_prompts.model import (
    MASK,
    Elements,
    MaskConfig,
    TextFeatures,
    Vectors,
    p_real,
)
from operators.nn.mask_prompts.trainer import TrainedMask
from operators.nn.pad.calibration import Calibration, calibration_to_dict
from operators.nn.pad.threshold import Threshold
from operators.nn.prompts.artifact import HeadDescriptor, expect_shapes, save_head
from operators.nn.prompts.head import MASK_METHOD, HeadFacts, HeadScores
from operators.nn.vlm.interface import Vlm

_SEP = "|"  # between class, bank, id and phrase of an element's name


class MaskHead(HeadFacts):
    """A `PadHead` for 3D masks. `nearest` is the known element of masks that matters most."""

    name = "mask3d"
    attack = "mask"

    def __init__(self, vectors: Vectors, descriptor: HeadDescriptor, sha: str) -> None:
        super().__init__(descriptor, sha)
        self._vectors = vectors
        self._of_masks = vectors.elements.face_class == MASK

    @torch.no_grad()
    def __call__(self, features: torch.Tensor) -> HeadScores:
        """Without patches (N = 0) the whole image's head answers alone."""
        self.expect(features)
        x = functional.normalize(features[:, 0].float(), dim=1)
        z = functional.normalize(features[:, 1:].float(), dim=2)
        score, seen = p_real(x, z, self._vectors)
        nearest = seen.attention.masked_fill(~self._of_masks, -1.0).argmax(dim=1)
        cosines = (x * self._vectors.texts.t[nearest]).sum(dim=1)
        return HeadScores(score, nearest, cosines)


def save_mask_head(
    path: Path,
    trained: TrainedMask,
    vlm: Vlm,
    card: Mapping[str, Any],
    calibration: Calibration | None = None,
    thresholds: Mapping[str, Threshold] | None = None,
) -> str:
    """Write what `open_head` reads; the file's SHA-256."""
    v = trained.vectors
    descriptor = HeadDescriptor(
        method=MASK_METHOD,
        backbone_sha=vlm.backbone_sha,
        backbone=vlm.name,
        dim=vlm.dim,
        logit_scale=v.s,
        elements=tuple(
            _SEP.join((e.face_class, e.bank, e.id, e.phrase)) for e in trained.knowledge.elements
        ),
        prompt_sha=trained.knowledge.sha,
        config=asdict(v.config),
        card=dict(card),
        calibration=None if calibration is None else calibration_to_dict(calibration),
        thresholds={name: value.to_dict() for name, value in (thresholds or {}).items()},
    )
    w_q, w_k, sigma = v.learned
    tensors = {
        "t": v.texts.t, "w0": v.texts.w0, "wc": v.texts.wc, "w_q": w_q, "w_k": w_k, "sigma": sigma,
        "alpha": v.alpha.reshape(1), "face_class": v.elements.face_class.float(),
        "bank": v.elements.bank.float(),
    }  # fmt: skip
    return save_head(path, tensors, descriptor)


def mask_head(
    path: Path, tensors: Mapping[str, torch.Tensor], descriptor: HeadDescriptor, sha: str
) -> MaskHead:
    """ValueError if the tensors are not those of such a head."""
    count, dim = len(descriptor.elements), descriptor.dim
    key_dim = tensors["w_q"].shape[0] if "w_q" in tensors and tensors["w_q"].ndim else 0
    expect_shapes(
        path,
        tensors,
        {
            "t": (count, dim), "w0": (2, dim), "wc": (2, dim), "w_q": (key_dim, dim),
            "w_k": (key_dim, dim), "sigma": (2,), "alpha": (1,), "face_class": (count,),
            "bank": (count,),
        },
    )  # fmt: skip
    if key_dim < 1:
        raise ValueError(f"{path.name}: w_q has no row, the filter cannot attend")
    config = _config(path, descriptor.config)
    elements = _elements(path, tensors, descriptor.elements)
    texts = TextFeatures(tensors["t"], tensors["w0"], tensors["wc"])
    learned = (tensors["w_q"], tensors["w_k"], tensors["sigma"])
    vectors = Vectors(texts, elements, learned, tensors["alpha"][0], descriptor.logit_scale, config)
    return MaskHead(vectors, descriptor, sha)


def _config(path: Path, told: Mapping[str, Any]) -> MaskConfig:
    """ValueError for a name, a type or a value that a `MaskConfig` cannot have."""
    unknown = sorted(set(told) - {field.name for field in fields(MaskConfig)})
    if unknown:
        raise ValueError(f"{path.name}: its config is wrong: {unknown[0]!r} is unknown")
    try:
        return msgspec.convert(told, MaskConfig)
    except msgspec.ValidationError as error:
        raise ValueError(f"{path.name}: its config is wrong: {error}") from error


def _elements(path: Path, tensors: Mapping[str, torch.Tensor], names: tuple[str, ...]) -> Elements:
    """ValueError unless the numbers are 0 and 1, of both classes, and as the names say."""
    for name in ("face_class", "bank"):
        if not set(tensors[name].tolist()) <= {0.0, 1.0}:
            raise ValueError(f"{path.name}: {name} holds other numbers than 0 and 1")
    elements = Elements(tensors["face_class"].long(), tensors["bank"].long())
    if set(elements.face_class.tolist()) != {0, 1}:
        raise ValueError(f"{path.name}: elements of both classes are needed")
    rows = zip(elements.face_class.tolist(), elements.bank.tolist(), names, strict=True)
    for face_class, bank, name in rows:
        if name.split(_SEP)[:2] != [CLASSES[face_class], BANKS[bank]]:
            raise ValueError(f"{path.name}: {name} is a {BANKS[bank]} of {CLASSES[face_class]}")
    return elements
