"""`frameloom train vlm-compact`: the small vision-language model, aligned on simulated captures.

Faces of the data folder (`DOMAIN/live/SUBJECT/*`), before rooms out of `DOMAIN/rooms/*`, are
rendered as real, printed, replayed and masked; the image tower and the heads learn to bring each
picture to what is truly said of it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from engine.recipe import Job, RecipeError, Trained
from operators.face.encode import SHIPPED
from operators.nn.capture.ranges import CELLS_OF, Split
from operators.nn.capture.scene import KINDS, Kind
from operators.nn.prompts.training import RunLimits
from operators.nn.vlm.compact import CompactConfig
from operators.nn.vlm.compact_file import load_compact, save_compact
from operators.nn.vlm.compact_weights import build_compact
from operators.nn.vlm.retrieval import Retrieval, retrieval
from operators.nn.vlm.tune import TuneConfig, Tuner
from operators.recipes.align import align_data, image_classes, tower_features, tune_data
from operators.recipes.captures import CaptureSet, plan_tasks, render_set, split_subjects
from operators.recipes.faces import U8, FaceImage, Sampling, read_faces
from operators.recipes.rooms import read_rooms
from operators.recipes.settings import changed

SHARES: Mapping[Kind, float] = dict.fromkeys(KINDS, 0.25)
SPLIT_SEEDS: Mapping[Split, int] = {"train": 0, "development": 1_000_000, "test": 2_000_000}


class VlmSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What may be set with `--set`."""

    size_px: int = 192  # of pictures: a face takes 15 ms on one core, at 224 px 20 ms
    dim: int = 128
    hidden: int = 128
    pictures: int = 6000  # rendered for training; an eighth of that for development
    faces_per_file: int = 24
    steps: int = 600  # more made strangers worse
    groups: int = 6  # per step; each is a real face and an attack of each kind
    learning_rate: float = 1e-3  # of the heads
    tower_rate: float = 0.5  # of the image tower's rate by that of the heads
    frozen_blocks: int = 3  # of the image tower
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
        people = people_of(job, settings)
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
            found = captures_of(people, split, count, settings, job)
            if found is None:
                return Trained(None, {})
            made[split] = found
        classes = image_classes(list(made.values()))
        tuner = Tuner(vlm, tune_data(made["train"], classes, vlm), tune_config(settings))
        limits = RunLimits(
            state_path=job.out / "state.safetensors",
            time_limit_s=job.time_limit_s,
            stop=job.stop,
            progress=lambda step, steps: job.tell("tune", step, steps),
        )
        if not tuner.run(limits):
            return Trained(None, {})
        path = job.out / "compact-vlm.safetensors"
        card = make_card(settings, people)
        save_compact(path, vlm, card)  # rounds: what is measured is what was saved
        saved, _, _ = load_compact(path)
        cached = tower_features(saved.image, made["development"].images, job, "measure")
        if cached is None:
            return Trained(None, {})
        data = align_data(made["development"], cached, classes, vlm, held_out=True)
        figures = figures_of(retrieval(saved.heads, data))
        save_compact(path, saved, {**card, "development": figures})
        return Trained(path, figures)

    def evaluate(self, job: Job, checkpoint: Path | None) -> Mapping[str, Any]:
        """Which caption class does a picture of the test subjects come nearest to?"""
        path = checkpoint or SHIPPED
        try:
            vlm, descriptor, sha = load_compact(path, with_text=True)
        except (OSError, ValueError) as error:
            raise RecipeError(f"{path}: {error}; train one, or name another") from error
        card = descriptor.card
        settings = changed(VlmSettings(**card["settings"]), job.settings)
        people = people_of(job, settings)
        made = captures_of(people, "test", settings.pictures // 8, settings, job)
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
        raise RecipeError(f"{job.data}: no face was found")
    return faces


def asked_splits(development: Sequence[str], test: Sequence[str]) -> dict[Split, Sequence[str]]:
    """Subjects by split, where the settings name any."""
    asked: dict[Split, Sequence[str]] = {"development": development, "test": test}
    return {split: names for split, names in asked.items() if names}


@dataclass(frozen=True)
class People:
    """Who is to be rendered, and before what."""

    faces: list[FaceImage]
    splits: list[Split]  # of each face
    rooms: Mapping[str, list[U8]]  # by file name


def people_of(job: Job, settings: VlmSettings) -> People:
    """All that the job's folder holds. RecipeError without a face, or too few people."""
    faces = faces_of(job, settings.faces_per_file)
    splits = split_subjects(faces, asked_splits(settings.development, settings.test))
    assert job.data is not None  # `faces_of` has looked
    return People(faces, splits, read_rooms(job.data, settings.faces_per_file))


def captures_of(
    people: People, split: Split, count: int, settings: VlmSettings, job: Job
) -> CaptureSet | None:
    """So many pictures of one split; None when the job is to stop."""
    chosen = [index for index, of in enumerate(people.splits) if of == split]
    rooms = [room for pictures in people.rooms.values() for room in pictures]
    counts = {kind: round(count * share) for kind, share in SHARES.items()}
    seed = SPLIT_SEEDS[split] + settings.seed * 100_000
    tasks = plan_tasks(people.faces, chosen, counts, split, seed, len(rooms))
    processes = settings.processes or len(os.sched_getaffinity(0))
    return render_set(people.faces, tasks, settings.size_px, job, processes, rooms)


def tune_config(settings: VlmSettings) -> TuneConfig:
    """The part of the settings that training follows."""
    return TuneConfig(
        steps=settings.steps,
        groups=settings.groups,
        frozen_blocks=settings.frozen_blocks,
        learning_rate=settings.learning_rate,
        tower_rate=settings.tower_rate,
        seed=settings.seed,
    )


def make_card(settings: VlmSettings, people: People) -> dict[str, Any]:
    """What the checkpoint says of itself."""
    named = [f"{face.domain}/{face.subject}" for face in people.faces]
    subjects = {
        split: sorted({name for name, of in zip(named, people.splits, strict=True) if of == split})
        for split in SPLIT_SEEDS
    }
    return {
        "purpose": "stands in for a large CLIP where none is at hand; knows captured faces only",
        "settings": msgspec.to_builtins(settings),
        "subjects": subjects,
        "rooms": sorted(people.rooms),
        "cells": {split: list(cells) for split, cells in CELLS_OF.items()},
    }


def figures_of(found: Retrieval) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in found._asdict().items()}


RECIPE = Recipe()
