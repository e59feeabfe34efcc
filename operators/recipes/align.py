"""The towers' features of pictures and captions, put in the form that alignment learns from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from engine.recipe import Job
from operators.nn.capture.captions import FRAMES, GENERAL, PARTICULAR
from operators.nn.vlm.align_data import AlignData, CachedImages, cache_images
from operators.nn.vlm.compact import CompactImageTower, CompactVlm
from operators.nn.vlm.interface import ImageTower
from operators.nn.vlm.preprocess import preprocess
from operators.nn.vlm.tune import TuneData
from operators.recipes.captures import CaptureSet
from operators.recipes.faces import U8

BATCH = 16
HELD_OUT_WORDINGS = 5  # one wording in so many is kept for measuring


@dataclass(frozen=True)
class Vocabulary:
    """Captions by what they are true of."""

    texts: tuple[str, ...]
    caption_class: torch.Tensor  # [M] int64
    covers: torch.Tensor  # [caption classes, image classes] bool
    topic: torch.Tensor  # [M] int64: of a kind as a whole, or of its sub-kinds


def image_classes(sets: Sequence[CaptureSet]) -> list[tuple[str, str]]:
    """(kind, sub-kind) of all pictures, in order."""
    return sorted({(shot.kind, shot.subkind) for made in sets for shot in made.shots})


def vocabulary(classes: Sequence[tuple[str, str]]) -> Vocabulary:
    """Every wording of every kind and sub-kind among `classes`, and which of these it is true of.

    From the tables of captions, not from those of single pictures: what is true of a kind is then
    true of all its sub-kinds, whoever happened to be told so.
    """
    kinds = list(dict.fromkeys(kind for kind, _ in classes))
    groups: list[tuple[tuple[str, ...], list[int], int]] = []
    for number, kind in enumerate(kinds):
        of_kind = [n for n, (other, _) in enumerate(classes) if other == kind]
        groups.append((GENERAL[kind], of_kind, number))  # type: ignore[index]
    groups += [
        (PARTICULAR[sub], [n], len(kinds) + kinds.index(kind))
        for n, (kind, sub) in enumerate(classes)
        if PARTICULAR[sub]
    ]
    covers = torch.zeros(len(groups), len(classes), dtype=torch.bool)
    texts: list[str] = []
    numbers: list[int] = []
    topics: list[int] = []
    for number, (nouns, of, topic) in enumerate(groups):
        covers[number, of] = True
        told = [frame.format(noun) for noun in nouns for frame in FRAMES]
        texts += told
        numbers += [number] * len(told)
        topics += [topic] * len(told)
    return Vocabulary(tuple(texts), torch.tensor(numbers), covers, torch.tensor(topics))


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
    words, keep = _wordings(classes, held_out)
    return AlignData(
        pooled=cached.pooled,
        local=cached.local,
        image_class=_numbers(made, classes),
        sentences=vlm.sentences([words.texts[n] for n in keep]),
        caption_class=words.caption_class[keep],
        covers=words.covers,
    )


def tune_data(made: CaptureSet, classes: Sequence[tuple[str, str]], vlm: CompactVlm) -> TuneData:
    """Pictures in their groups, with the wordings that are for learning."""
    words, keep = _wordings(classes, False)
    return TuneData(
        images=made.images,
        image_class=_numbers(made, classes),
        group=torch.tensor([shot.group for shot in made.shots]),
        sentences=vlm.sentences([words.texts[n] for n in keep]),
        caption_class=words.caption_class[keep],
        covers=words.covers,
        topic=words.topic[keep],
    )


def _wordings(classes: Sequence[tuple[str, str]], held_out: bool) -> tuple[Vocabulary, list[int]]:
    words = vocabulary(classes)
    return words, [n for n, text in enumerate(words.texts) if is_held_out(text) == held_out]


def _numbers(made: CaptureSet, classes: Sequence[tuple[str, str]]) -> torch.Tensor:
    return torch.tensor([classes.index((shot.kind, shot.subkind)) for shot in made.shots])
