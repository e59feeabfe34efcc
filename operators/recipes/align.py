"""The towers' features of pictures and captions, put in the form that alignment learns from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from engine.recipe import Job
from operators.nn.capture.captions import SEEN
from operators.nn.vlm.align_data import AlignData, CachedImages, cache_images
from operators.nn.vlm.compact import CompactImageTower, CompactVlm
from operators.nn.vlm.interface import ImageTower
from operators.nn.vlm.preprocess import preprocess
from operators.recipes.captures import CaptureSet, Shot
from operators.recipes.faces import U8

BATCH = 16
HELD_OUT_WORDINGS = 5  # one wording in so many is kept for measuring


@dataclass(frozen=True)
class Vocabulary:
    """Captions by what they are true of."""

    texts: tuple[str, ...]
    caption_class: torch.Tensor  # [M] int64
    covers: torch.Tensor  # [caption classes, image classes] bool


def image_classes(sets: Sequence[CaptureSet]) -> list[tuple[str, str]]:
    """(kind, sub-kind) of all pictures, in order."""
    return sorted({(shot.kind, shot.subkind) for made in sets for shot in made.shots})


def vocabulary(shots: Sequence[Shot], classes: Sequence[tuple[str, str]]) -> Vocabulary:
    """Captions of kinds and sub-kinds. One that is told of several sub-kinds is true of them all;
    what is said of single pictures only ("with the edge of the paper in view") is left out.
    """
    told: dict[str, set[int]] = {}
    for shot in shots:
        for text in shot.captions:
            if any(detail in text for detail in SEEN.values()):
                continue
            told.setdefault(text, set()).add(classes.index((shot.kind, shot.subkind)))
    groups = sorted({tuple(sorted(of)) for of in told.values()})
    covers = torch.zeros(len(groups), len(classes), dtype=torch.bool)
    for number, group in enumerate(groups):
        covers[number, list(group)] = True
    texts = sorted(told)
    numbers = [groups.index(tuple(sorted(told[text]))) for text in texts]
    return Vocabulary(tuple(texts), torch.tensor(numbers), covers)


def is_held_out(text: str) -> bool:
    """Whether a wording is kept for measuring: by its hash, the same every time."""
    return hashlib.sha256(text.encode()).digest()[0] % HELD_OUT_WORDINGS == 0


def tower_features(
    tower: CompactImageTower, images: U8, job: Job, what: str
) -> CachedImages | None:
    """One pass of the frozen tower; None when the job is to stop."""

    def batches() -> object:
        for start in range(0, len(images), BATCH):
            if job.stop.is_set():
                return
            job.tell(what, min(start + BATCH, len(images)), len(images))
            yield preprocess(list(images[start : start + BATCH]), tower)

    cached = cache_images(tower, batches())  # type: ignore[arg-type]
    return None if job.stop.is_set() else cached


def joined_features(tower: ImageTower, images: U8) -> np.ndarray:
    """[N, 1 + P, dim] float16: pooled, then patches by the value path; what `FaceEncode` sends."""
    found = []
    with torch.inference_mode():
        for start in range(0, len(images), BATCH):
            made = tower(preprocess(list(images[start : start + BATCH]), tower))
            found.append(torch.cat([made.pooled[:, None], made.patches_value], 1).half())
    return torch.cat(found).numpy()


def align_data(
    made: CaptureSet,
    cached: CachedImages,
    classes: Sequence[tuple[str, str]],
    vlm: CompactVlm,
    *,
    held_out: bool,
) -> AlignData:
    """Pictures with the wordings that are for learning, or with those that are held out."""
    words = vocabulary(made.shots, classes)
    keep = [n for n, text in enumerate(words.texts) if is_held_out(text) == held_out]
    return AlignData(
        pooled=cached.pooled,
        local=cached.local,
        image_class=torch.tensor([classes.index((s.kind, s.subkind)) for s in made.shots]),
        sentences=vlm.sentences([words.texts[n] for n in keep]),
        caption_class=words.caption_class[keep],
        covers=words.covers,
    )
