"""`frameloom train antispoof`: unknown-spoof prompts from real faces of one domain, nothing else.

Faces of `DOMAIN/live/SUBJECT/*` are rendered as bona fide captures; prompts are learned on their
features (method notes, 2.2); the threshold is the conformal one of other people's real faces
(2.4). Attacks are seen by the test alone, whose figures, beside those of hand-written prompts,
stand in the card. `--set sweep=true` also trains every K and every ablation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.recipe import Job, RecipeError, Trained
from operators.face.encode import SHIPPED as BACKBONE
from operators.nn.pad.calibration import fit_real_only
from operators.nn.pad.conformal import conformal_threshold
from operators.nn.pad.errors import EvaluationError
from operators.nn.pad.threshold import Threshold
from operators.nn.prompts.artifact import load_head
from operators.nn.prompts.head import open_head
from operators.nn.prompts.training import RunLimits
from operators.nn.spoof_prompts.data import LeakError
from operators.nn.spoof_prompts.head import save_spoof_head
from operators.nn.spoof_prompts.model import text_side
from operators.nn.spoof_prompts.priors import Priors, read_priors
from operators.nn.spoof_prompts.trainer import TrainedPrompts, train_spoof_prompts
from operators.recipes.antispoof_card import Material, figures_of, head_scores, make_card
from operators.recipes.antispoof_data import (
    Featured,
    Renderer,
    backbone_subjects,
    real_faces,
    refuse_attacks,
    split_people,
    tasks_of,
    twins,
)
from operators.recipes.antispoof_settings import DEFAULTS, AntispoofSettings
from operators.recipes.antispoof_sweep import Bench, sweep
from operators.recipes.calibrating import calibrate_folder, calibrate_settings
from operators.recipes.captures import render_set
from operators.recipes.face_scores import open_backbone
from operators.recipes.judge import judge_folder, judge_settings
from operators.recipes.judge_captures import TellTales, score_pictures, tell_tales
from operators.recipes.settings import changed
from operators.recipes.vlm_compact import faces_of

FILE = "antispoof.safetensors"
SHIPPED = BACKBONE.with_name(FILE)


class Recipe:
    """Unknown-spoof prompts."""

    name = "antispoof"
    about = "unknown-spoof prompts: attacks of any kind, learned from real faces of one domain"
    configs = ("compact", "paper")

    def train(self, job: Job) -> Trained:
        settings = changed(DEFAULTS[job.config], job.settings)
        config, optimiser, priors = settings.prompts(), settings.optimiser(), read_priors()
        try:
            material = gather(job, settings)
            if material is None:
                return Trained(None, {})
            ablations: Mapping[str, Any] | None = {}
            if settings.sweep:
                ablations = sweep(_bench(material, settings, priors), config, settings.seeds, job)
            if ablations is None:
                return Trained(None, {})
            trained = train_spoof_prompts(
                material.vlm, material.real, priors, config, optimiser, _limits(job)
            )
            if trained is None:
                return Trained(None, {})
            return _save(job, settings, material, trained, ablations)
        except (EvaluationError, LeakError, FloatingPointError) as error:
            raise RecipeError(str(error)) from error
        except ValueError as error:  # of a backbone without text, of a state of another run
            raise RecipeError(f"{error}; choose another --out, or other settings") from error

    def evaluate(self, job: Job, checkpoint: Path | None) -> Mapping[str, Any]:
        return judge_folder(job, head_file(checkpoint), judge_settings(job))

    def calibrate(self, job: Job, checkpoint: Path | None) -> Mapping[str, Any]:
        return calibrate_folder(job, head_file(checkpoint), calibrate_settings(job))

    def due(self) -> str | None:
        if not SHIPPED.exists():
            return "there is no checkpoint yet"
        try:
            _, descriptor, _ = load_head(SHIPPED)
        except ValueError as error:
            return str(error)
        if BACKBONE.exists() and descriptor.backbone_sha != _sha(BACKBONE):
            return "the backbone that comes along has changed"
        return None if descriptor.prompt_sha == read_priors().sha else "the priors have changed"


def head_file(checkpoint: Path | None) -> Path:
    """The file of a checkpoint: itself, the one in a folder, or the one that comes along."""
    if checkpoint is None:
        return SHIPPED
    return checkpoint / FILE if checkpoint.is_dir() else checkpoint


def gather(job: Job, settings: AntispoofSettings) -> Material | None:
    """Faces, splits and features; None when the job is to stop."""
    place = Path(settings.backbone) if settings.backbone else None
    vlm = open_backbone(place, with_text=True)
    text_side(vlm)  # before anything is rendered for it
    faces = faces_of(job, settings.faces_per_file)
    asked = (settings.development, settings.test)
    people = split_people(faces, asked, backbone_subjects(place), settings.domain)
    assert job.data is not None  # `faces_of` has looked
    refuse_attacks(job.data, people.domain)
    renderer = Renderer(vlm.image, vlm.backbone_sha, faces, settings.workers(), job)
    tasks = {
        "train": tasks_of(people, "train", settings.pictures, settings.seed),
        "development": tasks_of(people, "development", settings.calibration, settings.seed),
        "test": tasks_of(people, "test", settings.tests, settings.seed),
    }
    if settings.views > 0:
        tasks["views"] = twins(tasks["train"])
    found: dict[str, Featured] = {}
    for name, some in tasks.items():
        made = renderer.features(name, some)
        if made is None:
            return None
        found[name] = made
    real = real_faces(found["train"], found.get("views"))
    return Material(vlm, people, real, found["development"], found["test"])


def _save(
    job: Job,
    settings: AntispoofSettings,
    material: Material,
    trained: TrainedPrompts,
    ablations: Mapping[str, Any],
) -> Trained:
    """Calibrate on real faces, measure, and write the checkpoint with its card."""
    live = head_scores(trained, material.development)
    found = conformal_threshold(live, settings.bpcer)
    told = f"bona fide captures of development people of {trained.domain}"
    threshold = Threshold(found.value, "bpcer", settings.bpcer, told, found.n, 0)
    card = make_card(settings, material, trained)
    card["ablations"] = dict(ablations)

    def write() -> str:
        return save_spoof_head(
            job.out / FILE, trained, material.vlm, card, fit_real_only(live), {"": threshold}
        )

    write()
    if settings.tell_tales:
        shifts = _tell_tales(job, settings, material)
        if shifts is None:
            return Trained(None, {})
        card["tell_tales"] = shifts
        write()
    return Trained(job.out / FILE, figures_of(card))


def _tell_tales(
    job: Job, settings: AntispoofSettings, material: Material
) -> Mapping[str, Mapping[str, float]] | None:
    """The saved head on pictures that were made another way; None when the job is to stop."""
    people, size_px = material.people, material.vlm.image.size_px
    tasks = tasks_of(people, "test", settings.tests, settings.seed)
    base = render_set(people.faces, tasks, size_px, job, settings.workers())
    if base is None:
        return None
    rendering = TellTales(people.faces, tasks, size_px, settings.workers())
    head = open_head(job.out / FILE)
    return tell_tales(base, score_pictures(material.vlm.image, head), rendering, job)


def _bench(material: Material, settings: AntispoofSettings, priors: Priors) -> Bench:
    return Bench(
        material.vlm, material.real, priors, material.development, material.test,
        settings.optimiser(), settings.draws,
    )  # fmt: skip


def _limits(job: Job) -> RunLimits:
    return RunLimits(
        state_path=job.out / "state.safetensors",
        time_limit_s=job.time_limit_s,
        stop=job.stop,
        progress=lambda step, steps: job.tell("learn prompts", step, steps),
    )


def _sha(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


RECIPE = Recipe()
