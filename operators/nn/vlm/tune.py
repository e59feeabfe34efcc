"""Tune the compact model: pictures and captions that tell the same come together.

The text tower is locked (Zhai et al., LiT, CVPR 2022, arXiv:2111.07991); the image tower learns,
from pixels that are changed anew each time it sees them. Locked too, as it comes, it was made to
name objects and looks past halftone, pixel grids and sheen: on people and parameters it had not
seen, heads alone told prints and screens from faces no better than 0.70 AUC.

    L = L_con(pooled, text) + w L_con(mean patch, text)

Inferred, ours: a batch holds groups, pictures of one face before one camera that differ by the
attack alone, so that neither face nor camera tells the kind inside a batch. Its norms are folded
into its convolutions and stay so: statistics of 24 pictures are not those of a camera. Captions are
drawn by topic, as many of what is real as of what is printed, for there are more sorts of attack
than of faces.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from operators.nn.prompts.training import OptimiserConfig, RunLimits, StepTrainer
from operators.nn.vlm.align_data import classes_in, step_rng
from operators.nn.vlm.augment import augmented
from operators.nn.vlm.compact import CompactVlm, depth_features
from operators.nn.vlm.contrastive import contrastive_loss, fitting

U8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class TuneConfig:
    """How to tune. ValueError for what cannot be."""

    steps: int = 3000
    groups: int = 6  # per step
    captions_per_topic: int = 6
    frozen_blocks: int = 3  # of the image tower, stem included: strides 2 and 4
    learning_rate: float = 1e-3  # of the heads
    tower_rate: float = 0.3  # of the tower's rate by that of the heads
    weight_decay: float = 0.02
    warm_steps: int = 100
    patch_weight: float = 0.5  # w
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.steps, self.groups, self.captions_per_topic) < 1 or self.frozen_blocks < 0:
            raise ValueError(f"steps, groups, captions_per_topic start at 1: {self}")
        if min(self.learning_rate, self.tower_rate, self.weight_decay, self.patch_weight) < 0:
            raise ValueError(f"rates and weights are not negative: {self}")


@dataclass(frozen=True)
class TuneData:
    """Pictures by class and group, and captions with what they are true of. Checked when made."""

    images: U8  # [N, S, S, 3]
    image_class: torch.Tensor  # [N] int64
    group: torch.Tensor  # [N] int64: pictures of one face before one camera
    sentences: torch.Tensor  # [M, text_width] float32, see `CompactVlm.sentences`
    caption_class: torch.Tensor  # [M] int64
    covers: torch.Tensor  # [caption classes, image classes] bool
    topic: torch.Tensor  # [M] int64: what each caption is about; topics are drawn alike

    def __post_init__(self) -> None:
        count = len(self.images)
        if not count == len(self.image_class) == len(self.group) or count < 2:
            raise ValueError(f"{count} pictures, {len(self.image_class)} classes")
        if not len(self.sentences) == len(self.caption_class) == len(self.topic):
            raise ValueError(f"{len(self.sentences)} captions, {len(self.caption_class)} classes")
        told = self.covers[classes_in(self.caption_class)].any(dim=0)
        untold = [number for number in classes_in(self.image_class) if not told[number]]
        if untold:
            raise ValueError(f"no caption is true of the pictures of class {untold[0]}")

    def fingerprint(self) -> str:
        """SHA-256 over everything."""
        digest = hashlib.sha256(np.ascontiguousarray(self.images).tobytes())
        for value in (self.image_class, self.group, self.sentences, self.caption_class, self.topic):
            digest.update(value.contiguous().view(-1).numpy().tobytes())
        digest.update(self.covers.numpy().tobytes())
        return digest.hexdigest()


class Tuner:
    """The model that is tuned, its data, and one step's loss."""

    def __init__(self, vlm: CompactVlm, data: TuneData, config: TuneConfig) -> None:
        """Has the tower learn from `frozen_blocks` on, and fits the heads' standards to `data`."""
        self.vlm, self.data, self.config = vlm, data, config
        self._rows = [(data.group == number).nonzero()[:, 0] for number in classes_in(data.group)]
        self._captions = [
            (data.topic == number).nonzero()[:, 0].numpy() for number in classes_in(data.topic)
        ]
        tower = vlm.image.backbone
        tower.requires_grad_(True)
        for part in (tower.stem, *list(tower.blocks)[: config.frozen_blocks]):
            part.requires_grad_(False)
        self._fit_standards()
        learned = {
            **{f"image.{name}": weight for name, weight in tower.named_parameters()},
            **{f"heads.{name}": weight for name, weight in vlm.heads.named_parameters()},
        }
        told = [asdict(config), asdict(vlm.heads.config), data.fingerprint()]
        self.trainer = StepTrainer(
            {name: weight for name, weight in learned.items() if weight.requires_grad},
            self.loss,
            OptimiserConfig(
                config.steps, config.learning_rate, config.weight_decay, config.warm_steps
            ),
            hashlib.sha256(msgspec.json.encode(told)).hexdigest(),
            rates={name: config.tower_rate for name in learned if name.startswith("image.")},
        )

    def run(self, limits: RunLimits | None = None) -> bool:
        """True once all steps are done; the tower is frozen again then."""
        done = self.trainer.run(limits)
        if done:
            self.vlm.image.backbone.requires_grad_(False)
        return done

    def loss(self, step: int) -> torch.Tensor:
        """L of one step; all chance comes from (seed, step)."""
        config, data = self.config, self.data
        rng = step_rng(config.seed, step)
        chosen = rng.integers(len(self._rows), size=config.groups)
        rows = torch.cat([self._rows[number] for number in chosen])
        captions = torch.from_numpy(
            np.concatenate([rng.permutation(own)[: config.captions_per_topic]
                            for own in self._captions])
        )  # fmt: skip
        heads = self.vlm.heads
        depths = depth_features(self.vlm.image.backbone(self._pictures(rows, rng)))
        text, scale = heads.text(data.sentences[captions]), heads.scale()
        fits = fitting(data.image_class[rows], data.caption_class[captions], data.covers)
        return contrastive_loss(heads.pooled(depths.pooled), text, fits, scale) + (
            config.patch_weight
            * contrastive_loss(heads.patch(depths.local.mean(dim=1)), text, fits, scale)
        )

    def _pictures(self, rows: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """[B, 3, S, S] normalised, each changed by chance."""
        seen = np.stack([augmented(self.data.images[row], rng) for row in rows.tolist()])
        mean, std = (np.array(own, np.float32) for own in (self.vlm.image.mean, self.vlm.image.std))
        pictures = torch.from_numpy((seen - mean) / std).permute(0, 3, 1, 2)
        return pictures.contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def _fit_standards(self, count: int = 960, batch: int = 32) -> None:
        rng = step_rng(self.config.seed, self.config.steps)  # the step that never comes
        rows = torch.from_numpy(rng.permutation(len(self.data.images))[:count])
        parts = [rows[start : start + batch] for start in range(0, len(rows), batch)]
        found = [
            depth_features(self.vlm.image.backbone(self._pictures(part, rng))) for part in parts
        ]
        self.vlm.heads.fit_standards(
            torch.cat([depths.pooled for depths in found]),
            torch.cat([depths.local.mean(dim=1) for depths in found]),
            self.data.sentences,
        )
