"""`frameloom train vlm-compact`: the small vision-language model, aligned on simulated captures.

Faces of the data folder (`DOMAIN/live/SUBJECT/*`) are rendered as real, printed, replayed and
masked; heads over the frozen towers learn to bring each picture to what is truly said of it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from engine.recipe import Job, RecipeError, Trained
from operators.face.encode import SHIPPED
from operators.nn.capture.ranges import Split
from operators.nn.capture.scene import Kind
from operators.nn.vlm.align import AlignConfig, AlignProgress, AlignRun, AlignTrainer
from operators.nn.vlm.compact import CompactConfig
from operators.nn.vlm.compact_file import load_compact, save_compact
from operators.nn.vlm.compact_weights import build_compact
from operators.nn.vlm.retrieval import Retrieval, retrieval
from operators.recipes.align import align_data, image_classes, tower_features
from operators.recipes.captures import CaptureSet, plan_tasks, render_set, split_subjects
from operators.recipes.faces import FaceImage, Sampling, read_faces
from operators.recipes.settings import changed

SHARES: Mapping[Kind, float] = {"bonafide": 0.4, "print": 0.2, "replay": 0.2, "mask3d": 0.2}
SPLIT_SEEDS: Mapping[Split, int] = {"train": 0, "development": 1_000_000, "test": 2_000_000}


class VlmSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What may be set with `--set`."""

    size_px: int = 160  # of pictures: a face takes 10 ms on one core, at 224 px 20 ms
    dim: int = 128
    hidden: int = 128
    pictures: int = 6000  # rendered for training; an eighth of that for development
    faces_per_file: int = 12
    steps: int = 1500
    batch: int = 256
    learning_rate: float = 1e-3
    noise: float = 0.2
    seed: int = 0
    processes: int = 0  # that render; 0: one per core
    development: tuple[str, ...] = ()  # subjects; empty: by the order of the names
    test: tuple[str, ...] = ()


class Recipe:
    """Alignment of the compact model."""

    name = "vlm-compact"
    about = "small vision-language model of captured faces: image tower, text tower, one space"
    configs = ("compact",)

    def train(self, job: Job) -> Trained:
        settings = changed(VlmSettings(), job.settings)
        faces = faces_of(job, settings.faces_per_file)
        splits = split_subjects(faces, asked_splits(settings.development, settings.test))
        vlm = build_compact(
            CompactConfig(size_px=settings.size_px, dim=settings.dim, hidden=settings.hidden),
            settings.seed,
        )
        made: dict[Split, CaptureSet] = {}
        counts: dict[Split, int] = {
            "train": settings.pictures,
            "development": settings.pictures // 8,
        }
        for split, count in counts.items():
            found = captures_of(faces, splits, split, count, settings, job)
            if found is None:
                return Trained(None, {})
            made[split] = found
        classes = image_classes(list(made.values()))
        data = {}
        for split, captured in made.items():
            cached = tower_features(vlm.image, captured.images, job, f"features {split}")
            if cached is None:
                return Trained(None, {})
            data[split] = align_data(
                captured, cached, classes, vlm, held_out=split == "development"
            )
        trainer = AlignTrainer(
            vlm.heads,
            data["train"],
            AlignConfig(
                steps=settings.steps,
                batch=settings.batch,
                learning_rate=settings.learning_rate,
                noise=settings.noise,
                seed=settings.seed,
            ),
        )
        run = AlignRun(
            state_path=job.out / "state.safetensors",
            held_out=data["development"],
            time_limit_s=job.time_limit_s,
            progress=lambda now: _tell(job, now),
        )
        if not trainer.run(run):
            return Trained(None, {})
        found_now = retrieval(vlm.heads, data["development"])
        path = job.out / "compact-vlm.safetensors"
        card = make_card(settings, faces, splits, trainer.step, found_now)
        save_compact(path, vlm, card)
        return Trained(path, figures_of(found_now))

    def evaluate(self, job: Job, checkpoint: Path | None) -> Mapping[str, Any]:
        """Which caption class does a picture of the test subjects come nearest to?"""
        path = checkpoint or SHIPPED
        try:
            vlm, descriptor, sha = load_compact(path, with_text=True)
        except (OSError, ValueError) as error:
            raise RecipeError(f"{path}: {error}; train one, or name another") from error
        card = descriptor.card
        settings = changed(VlmSettings(**card["settings"]), job.settings)
        faces = faces_of(job, settings.faces_per_file)
        splits = split_subjects(faces, asked_splits(settings.development, settings.test))
        made = captures_of(faces, splits, "test", settings.pictures // 8, settings, job)
        if made is None:
            raise RecipeError("stopped before the pictures were made")
        cached = tower_features(vlm.image, made.images, job, "features test")
        if cached is None:
            raise RecipeError("stopped before the pictures were seen")
        data = align_data(made, cached, image_classes([made]), vlm, held_out=True)
        figures = figures_of(retrieval(vlm.heads, data))
        text = "\n".join(f"{name:<24} {value:.4f}" for name, value in figures.items())
        return {"checkpoint": sha, "figures": figures, "text": text}

    def calibrate(self, job: Job, checkpoint: Path | None) -> Mapping[str, Any]:
        raise RecipeError("vlm-compact has no threshold: calibrate antispoof")

    def due(self) -> str | None:
        return None if SHIPPED.exists() else "there is no checkpoint yet"


def faces_of(job: Job, per_file: int) -> list[FaceImage]:
    """All faces of the job's folder; RecipeError without one."""
    if job.data is None:
        raise RecipeError("--data FOLDER is needed: DOMAIN/live/SUBJECT/ with pictures or videos")
    faces: list[FaceImage] = []
    for done, of, found in read_faces(job.data, Sampling(per_file=per_file)):
        job.tell("find faces", done, of)
        faces += found
    if not faces:
        raise RecipeError(f"{job.data}: no face of at least 40 pixels was found")
    return faces


def asked_splits(development: Sequence[str], test: Sequence[str]) -> dict[Split, Sequence[str]]:
    """Subjects by split, where the settings name any."""
    asked: dict[Split, Sequence[str]] = {"development": development, "test": test}
    return {split: names for split, names in asked.items() if names}


def captures_of(
    faces: Sequence[FaceImage],
    splits: Sequence[Split],
    split: Split,
    count: int,
    settings: Any,
    job: Job,
) -> CaptureSet | None:
    """So many pictures of one split; `settings` has size_px, seed and processes."""
    chosen = [index for index, of in enumerate(splits) if of == split]
    counts = {kind: round(count * share) for kind, share in SHARES.items()}
    seed = SPLIT_SEEDS[split] + settings.seed * 100_000
    tasks = plan_tasks(faces, chosen, counts, split, seed)
    processes = settings.processes or len(os.sched_getaffinity(0))
    return render_set(faces, tasks, settings.size_px, job, processes)


def make_card(
    settings: VlmSettings,
    faces: Sequence[FaceImage],
    splits: Sequence[Split],
    steps: int,
    found: Retrieval,
) -> dict[str, Any]:
    """What the checkpoint says of itself."""
    subjects = {
        split: sorted(
            {f"{f.domain}/{f.subject}" for f, s in zip(faces, splits, strict=True) if s == split}
        )
        for split in SPLIT_SEEDS
    }
    return {
        "purpose": "stands in for a large CLIP where none is at hand; knows captured faces only",
        "settings": msgspec.to_builtins(settings),
        "subjects": subjects,
        "steps": steps,
        "development": figures_of(found),
    }


def figures_of(found: Retrieval) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in found._asdict().items()}


def _tell(job: Job, now: AlignProgress) -> None:
    job.tell("align", now.step, now.steps)


RECIPE = Recipe()
