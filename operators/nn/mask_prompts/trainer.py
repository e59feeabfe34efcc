"""Learn mask prompts from cached features of faces and masks.

    L = CE(s x.w(x), y) + l1 CE(s x_c.w^c, y) + l2 KL(sg[p(x_c)] || p(x)) + l3 L_irr

Explicit prompts are many, and the text tower is the dear part: in each step a few of them pass it
with a gradient; the others stand as they were when all were last encoded.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass

import msgspec
import numpy as np
import torch
from torch.nn import functional

from operators.nn.mask_prompts import losses
from operators.nn.mask_prompts.data import MaskData
from operators.nn.mask_prompts.elimination import kept_count, relevance
from operators.nn.mask_prompts.knowledge import Knowledge
from operators.nn.mask_prompts.model import (
    MaskConfig,
    MaskPrompts,
    TextFeatures,
    Vectors,
    causal_logits,
    keep_patches,
    look,
)
from operators.nn.prompts.training import OptimiserConfig, RunLimits, StepTrainer
from operators.nn.vlm.align_data import step_rng
from operators.nn.vlm.clip import VisionTower
from operators.nn.vlm.interface import Vlm


@dataclass(frozen=True)
class TrainedMask:
    """What was learned."""

    vectors: Vectors
    knowledge: Knowledge
    losses: tuple[float, ...]  # of each step since the last interruption


class MaskTrainer:
    """The prompts, their data, and one step's loss."""

    def __init__(
        self,
        vlm: Vlm,
        data: MaskData,
        knowledge: Knowledge,
        config: MaskConfig,
        optimiser: OptimiserConfig,
    ) -> None:
        """ValueError if features are not of the model's width, or its tower cannot prune."""
        if data.x.shape[1] != vlm.dim:
            raise ValueError(f"features of {data.x.shape[1]} numbers for a model of {vlm.dim}")
        self._tower = vlm.image
        if config.removal == "prune" and not (
            isinstance(vlm.image, VisionTower) and data.images is not None
        ):
            raise ValueError(
                "removal by pruning needs a tower of patches and the images themselves"
            )
        self.prompts = MaskPrompts(vlm, knowledge.subset(config.entities, config.triples), config)
        self.data, self.config, self._s = data, config, vlm.logit_scale
        self._cached: torch.Tensor | None = None
        told = [asdict(config), asdict(optimiser), vlm.backbone_sha, knowledge.sha]
        self.trainer = StepTrainer(
            dict(self.prompts.named_parameters()),
            self.loss,
            optimiser,
            hashlib.sha256(msgspec.json.encode([*told, data.fingerprint()])).hexdigest(),
        )

    def run(self, limits: RunLimits | None = None) -> TrainedMask | None:
        """None if time was up, or it was told to stop, before the last step."""
        if not self.trainer.run(limits):
            return None
        with torch.no_grad():
            texts = self.prompts.texts()
        vectors = self._vectors(TextFeatures(*(value.clone() for value in texts)))
        learned = tuple(value.detach().clone() for value in vectors.learned)
        frozen = Vectors(
            vectors.texts, vectors.elements, learned, vectors.alpha.detach().clone(),  # type: ignore[arg-type]
            vectors.s, vectors.config,
        )  # fmt: skip
        return TrainedMask(frozen, self.prompts.knowledge, tuple(self.trainer.losses))

    def loss(self, step: int) -> torch.Tensor:
        """L of one step; all chance comes from (seed, step)."""
        config = self.config
        rng = step_rng(config.seed, step)
        rows = self.data.draw(config.batch, rng)
        v = self._vectors(self._texts(step, rng))
        x, z, y = self.data.x[rows], self.data.patches(rows), self.data.label[rows]
        seen = look(x, v)
        total = functional.cross_entropy(seen.logits, y)
        if max(config.l1, config.l2, config.l3) == 0:
            return total
        kept = keep_patches(z, seen.g, y, config)
        x_c = kept.x_c if config.removal == "pool" else self._pruned(rows, z, seen.g, y)
        causal = causal_logits(x_c, v)
        if config.l1 > 0:
            total = total + config.l1 * functional.cross_entropy(causal, y)
        if config.l2 > 0:
            total = total + config.l2 * losses.agreement(causal, seen.logits)
        if config.l3 > 0:
            total = total + config.l3 * losses.irrelevance(causal_logits(z, v), kept.mask)
        return total

    def _texts(self, step: int, rng: np.random.Generator) -> TextFeatures:
        """All text features; those of a few explicit prompts and of the classes carry gradients.

        A run that goes on encodes all at its first step, so it equals an uninterrupted one exactly
        where it was interrupted at a multiple of `refresh_steps`.
        """
        learner, count = self.prompts.learner, len(self.prompts.knowledge.elements)
        if self._cached is None or step % self.config.refresh_steps == 0:
            with torch.no_grad():
                self._cached = learner()
        fresh = rng.permutation(count)[: self.config.fresh]
        rows = torch.from_numpy(np.concatenate([fresh, np.arange(count, count + 4)]))
        return self.prompts.parted(self._cached.index_copy(0, rows, learner(rows)))

    def _vectors(self, texts: TextFeatures) -> Vectors:
        own = self.prompts
        learned = (own.filter.query, own.filter.key, own.filter.bank_scale)
        return Vectors(texts, own.elements, learned, own.alpha, self._s, self.config)

    @torch.no_grad()
    def _pruned(
        self, rows: torch.Tensor, z: torch.Tensor, g: torch.Tensor, y: torch.Tensor
    ) -> torch.Tensor:
        """x_c by true removal: the tower sees kept patches alone."""
        assert isinstance(self._tower, VisionTower)
        assert self.data.images is not None
        numbers = torch.arange(len(rows))
        r = relevance(z, g[numbers, y], g[numbers, 1 - y])
        kept = r.topk(kept_count(z.shape[1], self.config.rho), dim=1).indices.sort(dim=1).values
        return functional.normalize(self._tower(self.data.images[rows], kept).pooled, dim=1)
