"""`frameloom train mask3d`: knowledge-based prompts that tell a 3D mask from a face.

Supervised (`arXiv:2505.03610`): faces of `DOMAIN/live/SUBJECT/*` are rendered as they are and
behind masks; prompts, filter and causal prompts are learned on their features. Threshold and
calibration come from other people's real faces. Attacks by print and replay are seen by the test
alone. `--set sweep=true` also trains without each part of the method.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import msgspec
import torch

from engine.recipe import Job, RecipeError, Trained
from operators.face.encode import SHIPPED as BACKBONE
from operators.nn.capture.ranges import CELLS, CELLS_OF, GAP, Split
from operators.nn.capture.scene import Kind
from operators.nn.mask_prompts.data import MaskData
from operators.nn.mask_prompts.head import save_mask_head
from operators.nn.mask_prompts.knowledge import Knowledge, KnowledgeError, read_knowledge
from operators.nn.mask_prompts.model import COMPACT, MASK, PAPER, REAL, MaskConfig, p_real
from operators.nn.mask_prompts.trainer import MaskTrainer, TrainedMask
from operators.nn.pad.bootstrap import BootstrapConfig
from operators.nn.pad.calibration import fit_real_only
from operators.nn.pad.conformal import conformal_threshold
from operators.nn.pad.errors import EvaluationError
from operators.nn.pad.threshold import Threshold
from operators.nn.prompts.artifact import load_head
from operators.nn.prompts.training import OptimiserConfig, RunLimits
from operators.nn.spoof_prompts.model import text_side
from operators.nn.spoof_prompts.priors import read_priors
from operators.nn.vlm.interface import Vlm
from operators.recipes.antispoof_data import (
    Featured,
    People,
    Renderer,
    backbone_subjects,
    split_people,
    tasks_of,
)
from operators.recipes.calibrating import calibrate_folder, calibrate_settings
from operators.recipes.face_scores import F64, open_backbone
from operators.recipes.judge import judge_folder, judge_settings
from operators.recipes.judge_captures import area, judge_captures
from operators.recipes.settings import changed
from operators.recipes.vlm_compact import faces_of
from operators.recipes.zero_shot import zero_shot

FILE = "mask3d.safetensors"
SHIPPED = BACKBONE.with_name(FILE)
SUPERVISED: Mapping[Kind, float] = {"bonafide": 0.5, "mask3d": 0.5}
ABLATIONS: Mapping[str, Mapping[str, Any]] = {
    "as configured": {},
    "without filter (w_c(x) = w_c^0)": {"filter": False},
    "without causal prompts": {"l1": 0.0, "l2": 0.0, "l3": 0.0, "causal_head": False},
    "without agreement (l2)": {"l2": 0.0},
    "without L_irr (l3)": {"l3": 0.0},
    "whole image alone at inference": {"causal_head": False},
    "rho = 0.25": {"rho": 0.25},
    "rho = 0.75": {"rho": 0.75},
    "without elimination (rho = 1)": {"rho": 1.0},
    "entities alone": {"triples": 0},
}


class MaskSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What may be set with `--set`. A weight of 0 leaves a term out: the ablations.

    `l1=0` needs `l2=0` and `causal_head=false` with it: all three live on causal prompts.
    """

    backbone: str = ""  # compact model or folder of a CLIP; empty: the one that comes along
    knowledge: str = ""  # a file of knowledge; empty: the one that comes along
    development: tuple[str, ...] = ()  # subjects; empty: as the backbone had it, or by the names
    test: tuple[str, ...] = ()
    faces_per_file: int = 12
    pictures: int = 1600  # for training, half of them masks
    calibration: int = 600  # real faces of development people, for threshold and calibration
    tests: int = 1600  # of test people: real, print, replay and masks
    bpcer: float = 0.01  # that the stored threshold asks for
    steps: int = 300
    learning_rate: float = 1e-3
    context: int = COMPACT.context
    entities: int = COMPACT.entities
    triples: int = COMPACT.triples
    key_dim: int = COMPACT.key_dim
    keep_elements: int = COMPACT.keep_elements
    filter: bool = True
    rho: float = COMPACT.rho
    l1: float = COMPACT.l1
    l2: float = COMPACT.l2
    l3: float = COMPACT.l3
    causal_head: bool = True
    batch: int = COMPACT.batch
    seed: int = 0
    sweep: bool = False  # also train without each part
    draws: int = 1000  # of the bootstrap
    processes: int = 0  # that render; 0: one per core

    def prompts(self) -> MaskConfig:
        """ValueError for what cannot be."""
        own = set(self.__struct_fields__)
        names = [field.name for field in fields(MaskConfig) if field.name in own]
        return MaskConfig(**{name: getattr(self, name) for name in names})

    def optimiser(self) -> OptimiserConfig:
        """ValueError for what cannot be."""
        return OptimiserConfig(self.steps, self.learning_rate, warm_steps=self.steps // 20)


DEFAULTS = {
    "compact": MaskSettings(),
    "paper": MaskSettings(
        context=PAPER.context, entities=PAPER.entities, triples=PAPER.triples,
        key_dim=PAPER.key_dim, batch=PAPER.batch, steps=1500,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class _Material:
    vlm: Vlm
    people: People
    data: MaskData
    development: Featured
    test: Featured
    knowledge: Knowledge


class Recipe:
    """Knowledge-based mask prompts."""

    name = "mask3d"
    about = "knowledge-based prompts: 3D masks told from faces by what is known of both"
    configs = ("compact", "paper")

    def train(self, job: Job) -> Trained:
        settings = changed(DEFAULTS[job.config], job.settings)
        try:
            config, optimiser = settings.prompts(), settings.optimiser()
            material = _gather(job, settings)
            if material is None:
                return Trained(None, {})
            ablations: Mapping[str, Any] | None = {}
            if settings.sweep:
                ablations = _ablations(job, settings, material)
            limits = _limits(job, "learn prompts", job.out / "state.safetensors")
            trained = _learn(material, config, optimiser, limits)
            if trained is None or ablations is None:
                return Trained(None, {})
            return _save(job, settings, material, trained, ablations)
        except (EvaluationError, KnowledgeError, FloatingPointError) as error:
            raise RecipeError(str(error)) from error
        except (ValueError, FileNotFoundError) as error:
            raise RecipeError(f"{error}; choose another --out, or other settings") from error

    def evaluate(self, job: Job, checkpoint: Path | None) -> Mapping[str, Any]:
        return judge_folder(job, _file(checkpoint), judge_settings(job))

    def calibrate(self, job: Job, checkpoint: Path | None) -> Mapping[str, Any]:
        return calibrate_folder(job, _file(checkpoint), calibrate_settings(job))

    def due(self) -> str | None:
        if not SHIPPED.exists():
            return "there is no checkpoint yet"
        try:
            _, descriptor, _ = load_head(SHIPPED)
        except ValueError as error:
            return str(error)
        if not BACKBONE.exists():
            return None
        with BACKBONE.open("rb") as file:
            sha = hashlib.file_digest(file, "sha256").hexdigest()
        return None if descriptor.backbone_sha == sha else "the backbone has changed"


def _file(checkpoint: Path | None) -> Path:
    if checkpoint is None:
        return SHIPPED
    return checkpoint / FILE if checkpoint.is_dir() else checkpoint


def _gather(job: Job, settings: MaskSettings) -> _Material | None:
    """Faces, splits and features; None when the job is to stop."""
    place = Path(settings.backbone) if settings.backbone else None
    knowledge = read_knowledge(Path(settings.knowledge)) if settings.knowledge else read_knowledge()
    vlm = open_backbone(place, with_text=True)
    text_side(vlm)  # before anything is rendered for it
    faces = faces_of(job, settings.faces_per_file)
    asked = (settings.development, settings.test)
    people = split_people(faces, asked, backbone_subjects(place), None)
    workers = settings.processes or torch.get_num_threads()
    renderer = Renderer(vlm.image, vlm.backbone_sha, faces, workers, job, patches=True)
    wanted: dict[Split, tuple[int, Mapping[Kind, float] | None]] = {
        "train": (settings.pictures, SUPERVISED),
        "development": (settings.calibration, None),
        "test": (settings.tests, None),
    }
    found: dict[str, Featured] = {}
    for split, (count, shares) in wanted.items():
        made = renderer.features(split, tasks_of(people, split, count, settings.seed, shares))
        if made is None:
            return None
        found[split] = made
    train = found["train"]
    data = MaskData.of(
        torch.from_numpy(train.data),
        [MASK if shot.kind == "mask3d" else REAL for shot in train.shots],
        [f"{shot.domain}/{shot.subkind}" for shot in train.shots],
    )
    return _Material(vlm, people, data, found["development"], found["test"], knowledge)


def _learn(
    material: _Material, config: MaskConfig, optimiser: OptimiserConfig, limits: RunLimits
) -> TrainedMask | None:
    trainer = MaskTrainer(material.vlm, material.data, material.knowledge, config, optimiser)
    return trainer.run(limits)


def _save(
    job: Job,
    settings: MaskSettings,
    material: _Material,
    trained: TrainedMask,
    ablations: Mapping[str, Any],
) -> Trained:
    """Calibrate on real faces, measure, and write the checkpoint with its card."""
    live = _scores(trained, material.development)
    found = conformal_threshold(live, settings.bpcer)
    told = "bona fide captures of development people"
    threshold = Threshold(found.value, "bpcer", settings.bpcer, told, found.n, 0)
    bootstrap = BootstrapConfig(draws=settings.draws, seed=settings.seed)
    shots = material.test.shots
    baselines = zero_shot(material.vlm, material.test.unit(), read_priors())
    card = {
        "purpose": "tells 3D masks from faces; knows masks of the capture simulator only",
        "method": "knowledge-based prompts, a reference reading of arXiv:2505.03610",
        "backbone": {"name": material.vlm.name, "sha": material.vlm.backbone_sha},
        "settings": msgspec.to_builtins(settings),
        "subjects": material.people.subjects(),
        "simulator": {
            "cells": CELLS, "gap": GAP, "cells_of": {k: list(v) for k, v in CELLS_OF.items()},
        },
        "knowledge_sha": trained.knowledge.sha,
        "pictures": {
            "train": len(material.data.x), "development": len(live), "test": len(shots),
        },
        "test": judge_captures(_scores(trained, material.test), shots, bootstrap),
        "zero_shot": {
            name: judge_captures(score, shots, bootstrap)["AUC"]
            for name, score in baselines.items()
        },
        "ablations": dict(ablations),
    }  # fmt: skip
    path = job.out / FILE
    save_mask_head(path, trained, material.vlm, card, fit_real_only(live), {"": threshold})
    areas = card["test"]["AUC"]
    figures = {f"AUC {name}": float(areas[name]["value"]) for name in ("mask3d", "print+replay")}
    for way, own in card["zero_shot"].items():
        figures[f"AUC mask3d, zero-shot, {way}"] = float(own["mask3d"]["value"])
    return Trained(path, figures)


def _ablations(job: Job, settings: MaskSettings, material: _Material) -> dict[str, Any] | None:
    """AUC by group of each variant, one training each; None if it was told to stop."""
    table: dict[str, Any] = {}
    for number, (name, changes) in enumerate(ABLATIONS.items(), 1):
        config = replace(settings.prompts(), **changes)
        made = _learn(material, config, settings.optimiser(), RunLimits(stop=job.stop))
        if made is None:
            return None
        score = _scores(made, material.test)
        shots = material.test.shots
        table[name] = {group: area(score, shots, group) for group in ("mask3d", "print+replay")}
        job.tell("ablations", number, len(ABLATIONS))
    (job.out / "ablations.json").write_bytes(msgspec.json.format(msgspec.json.encode(table)))
    return table


def _scores(trained: TrainedMask, made: Featured) -> F64:
    """[N] as the head gives them at run time."""
    features = torch.from_numpy(made.data).float()
    x = torch.nn.functional.normalize(features[:, 0], dim=1)
    z = torch.nn.functional.normalize(features[:, 1:], dim=2)
    with torch.inference_mode():
        score, _ = p_real(x, z, trained.vectors)
    found: F64 = score.double().numpy()
    return found


def _limits(job: Job, what: str, state: Path) -> RunLimits:
    return RunLimits(
        state_path=state,
        time_limit_s=job.time_limit_s,
        stop=job.stop,
        progress=lambda step, steps: job.tell(what, step, steps),
        every_steps=MaskConfig.refresh_steps,  # so that a run that goes on does so exactly
    )


RECIPE = Recipe()
