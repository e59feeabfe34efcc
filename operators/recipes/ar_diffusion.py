"""`frameloom train ar-diffusion`: the auto-encoder, then the denoiser, on worlds or own videos.

Without `--data` both learn from rendered worlds; a folder of videos takes their place. Each stage
keeps its state in the output folder and goes on from it. With `--set temporal_steps=N` the decoder
also gets layers that look back in time (stage 1b), in a file of their own.
"""

from __future__ import annotations

import hashlib
import time
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import torch

from engine.recipe import Job, RecipeError, Trained
from operators.face.encode import SHIPPED as FEATURE_WEIGHTS
from operators.generate.checkpoint import SHIPPED
from operators.nn.ar_diffusion.config import COMPACT, PAPER, SystemConfig
from operators.nn.ar_diffusion.files import System, load_system, save_system
from operators.nn.ar_diffusion.temporal import TemporalDecoder
from operators.nn.quality.features import ClipFeatures
from operators.nn.vlm.compact_file import load_compact
from operators.nn.worlds.spec import KINDS, Kind
from operators.recipes.ar_diffusion_eval import (
    QUICK,
    EvalSettings,
    evaluate_system,
    evaluate_videos,
)
from operators.recipes.ar_diffusion_stages import (
    Stage,
    encode,
    held_out_figures,
    train_denoiser,
    train_vae,
)
from operators.recipes.ar_diffusion_temporal import (
    TemporalSettings,
    layers_path,
    measured_layers,
    train_layers,
    without_layers,
)
from operators.recipes.footage import Footage, Part, Rendered, View, read, render
from operators.recipes.real_clips import wrong_sizes
from operators.recipes.settings import changed

SYSTEMS: Mapping[str, SystemConfig] = {"compact": COMPACT, "paper": PAPER}
GPU_STEPS = (20_000, 60_000)  # of both stages, where there is a GPU
CPU_STEPS = (5_000, 4_000)  # about an hour and a half on two cores


class ArSettings(TemporalSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What may be set with `--set`."""

    kinds: tuple[Kind, ...] = KINDS  # of worlds; a class each
    fps: float = 15.0
    clips: int = 1440  # rendered for training
    clip_frames: int = 60
    latest_start_s: float = 8.0  # a clip begins at any time up to this in the life of its world
    most_frames: int = 90_000  # taken from a folder of videos
    start: str = ""  # checkpoint whose weights are gone on from
    evaluation: str = "full"  # for the card: full, quick or none
    threads: int = 0  # of torch; 0: as many as it takes by itself


class Recipe:
    """Both stages, then the figures of the card."""

    name = "ar-diffusion"
    about = "video generation frame by frame: auto-encoder and asynchronous diffusion"
    configs = tuple(SYSTEMS)

    def train(self, job: Job) -> Trained:
        settings = full_settings(job)
        end_s = time.monotonic() + job.time_limit_s
        footage = footage_of(job, settings, "train")
        if footage is None:
            return Trained(None, {})
        system = system_for(job.config, footage)
        start = start_of(settings, system)
        mark = fingerprint(job.config, settings, footage)
        vae = train_vae(system, settings, footage, Stage(job, "vae", end_s, mark), start)
        tokens = None if vae is None else encode(vae, footage.frames, job)
        if vae is None or tokens is None:
            return Trained(None, {})
        denoiser = train_denoiser(
            system, settings, (footage, tokens), Stage(job, "denoiser", end_s, mark), start
        )
        if denoiser is None:
            return Trained(None, {})
        path = _checkpoint(job)
        card = make_card(system, settings, footage, start)
        save_system(path, system, vae.cpu(), denoiser.cpu(), card)
        saved = load_system(path)  # rounded: what is measured is what was saved
        layers = None
        if settings.temporal_steps:
            stage = Stage(job, "temporal", end_s, mark)
            layers = train_layers(saved, settings, footage, stage)
            if layers is None:
                return Trained(None, {})
        figures = self._measured(job, settings, saved, layers)
        if figures is None:
            return Trained(None, {})
        save_system(path, system, saved.vae, saved.denoiser, {**card, **figures})
        return Trained(path, figures["held_out"] | figures.get("temporal", {}))

    def _measured(
        self, job: Job, settings: ArSettings, saved: System, layers: TemporalDecoder | None
    ) -> dict[str, Any] | None:
        """What the card says of how good it is; None when the job is to stop."""
        held_out = footage_of(job, settings, "held-out")
        if held_out is None:
            return None
        told: dict[str, Any] = {"held_out": held_out_figures(saved, held_out)}
        if layers is not None:
            beside = layers_path(_checkpoint(job))
            told["temporal"] = measured_layers(beside, layers, saved, settings, held_out)
        if settings.evaluation != "none":
            sizes = QUICK if settings.evaluation == "quick" else EvalSettings()
            if job.data is None:
                report = evaluate_system(saved, settings.kinds, clip_features(), sizes, job)
            else:
                sizes = msgspec.structs.replace(
                    sizes, fps=settings.fps, most_frames=settings.most_frames
                )
                report = evaluate_videos(saved, held_out, told["held_out"], sizes, job)
            if not report["complete"]:
                return None
            told["evaluation"] = {
                name: report[name]
                for name in report.keys() - {"text", "pictures", "system", "figures"}
            }
        return told

    def evaluate(self, job: Job, checkpoint: Path | None) -> Mapping[str, Any]:
        """On held-out worlds, or on the held-out part of a folder of videos."""
        system = opened(checkpoint or SHIPPED)
        sizes = dict(job.settings)
        default = QUICK if sizes.pop("quick", False) else EvalSettings()
        if job.data is None:
            kinds = msgspec.convert(system.card["classes"], tuple[Kind, ...])
            return evaluate_system(system, kinds, clip_features(), changed(default, sizes), job)
        trained = system.card["settings"]  # what it held out depends on these two
        for name in ("fps", "most_frames"):
            sizes.setdefault(name, trained[name])
        settings = changed(default, sizes)
        problems = wrong_sizes(settings, system.config.denoiser.frames)
        if problems:
            raise RecipeError("; ".join(problems))
        seen = ArSettings(fps=settings.fps, most_frames=settings.most_frames)
        held_out = footage_of(job, seen, "held-out", system)
        if held_out is None:
            raise RecipeError("stopped before the videos were read")
        figures = held_out_figures(system, held_out)
        report = evaluate_videos(system, held_out, figures, settings, job)
        return {"checkpoint": system.sha, **report}

    def calibrate(self, job: Job, checkpoint: Path | None) -> Mapping[str, Any]:
        raise RecipeError("ar-diffusion has no threshold: there is nothing to calibrate")

    def due(self) -> str | None:
        if not SHIPPED.exists():
            return "there is no checkpoint yet"
        done = load_system(SHIPPED).card["settings"]["steps"]
        if torch.cuda.is_available() and done < GPU_STEPS[1]:
            return f"it was trained for {done} of {GPU_STEPS[1]} steps, and there is a GPU"
        return None


def _checkpoint(job: Job) -> Path:
    return job.out / f"ar-diffusion-{job.config}.safetensors"


def full_settings(job: Job) -> ArSettings:
    """With the device and the number of steps that this machine gets, where none were named."""
    settings = changed(ArSettings(), job.settings)
    if settings.evaluation not in ("full", "quick", "none"):
        raise RecipeError(f"--set evaluation={settings.evaluation}: full, quick or none")
    if settings.threads:
        torch.set_num_threads(settings.threads)
    device = settings.device or ("cuda" if torch.cuda.is_available() else "cpu")
    usual = CPU_STEPS if device == "cpu" else GPU_STEPS
    return msgspec.structs.replace(
        settings,
        device=device,
        vae_steps=usual[0] if settings.vae_steps < 0 else settings.vae_steps,
        steps=usual[1] if settings.steps < 0 else settings.steps,
    )


def footage_of(
    job: Job, settings: ArSettings, part: Part, system: System | None = None
) -> Footage | None:
    """What is learned from or judged on; None when the job is to stop."""
    config = SYSTEMS[job.config] if system is None else system.config
    view = View(config.vae.size_px, settings.fps, config.denoiser.frames)
    if job.data is not None:
        return read(job.data, part, view, settings.most_frames, job)
    if part == "train":
        clips, length = settings.clips, settings.clip_frames
        worlds = Rendered(
            settings.kinds, "train", clips, length, settings.latest_start_s, settings.seed
        )
    else:
        clips, length = max(settings.clips // 20, len(settings.kinds)), config.denoiser.frames
        worlds = Rendered(settings.kinds, "validation", clips, length, settings.latest_start_s)
    return render(view, worlds, job)


def system_for(config: str, footage: Footage) -> SystemConfig:
    """The published or the compact sizes, with the classes of the data where it knows classes."""
    system = SYSTEMS[config]
    if system.denoiser.fixed_context:
        return system
    return replace(system, denoiser=replace(system.denoiser, classes=len(footage.classes)))


def start_of(settings: ArSettings, system: SystemConfig) -> System | None:
    """The checkpoint that is gone on from. RecipeError if its sizes are others."""
    if not settings.start:
        return None
    found = opened(Path(settings.start))
    if (found.config.vae, found.config.denoiser) != (system.vae, system.denoiser):
        raise RecipeError(f"{settings.start} has other sizes or classes; begin without it")
    return found


def opened(path: Path) -> System:
    try:
        return load_system(path)
    except (OSError, ValueError) as error:
        raise RecipeError(f"{path}: {error}; train one, or name another") from error


def clip_features() -> ClipFeatures:
    """The features that distances between sets of clips are measured on."""
    model, _, sha = load_compact(FEATURE_WEIGHTS)
    return ClipFeatures(model.image.backbone, sha)


def fingerprint(config: str, settings: ArSettings, footage: Footage) -> str:
    """Tells apart what states of training may not be mixed up."""
    same = without_layers(msgspec.structs.replace(settings, threads=0, evaluation="none"))
    told = msgspec.json.encode([config, same, footage.origin, zlib.crc32(footage.frames.data)])
    return hashlib.sha256(told).hexdigest()[:16]


def make_card(
    system: SystemConfig, settings: ArSettings, footage: Footage, start: System | None
) -> dict[str, Any]:
    """What the checkpoint says of itself, but for the figures."""
    return {
        "purpose": "video generation frame by frame after AR-Diffusion (arXiv:2503.07418)",
        "classes": footage.classes if system.denoiser.classes else (),
        "data": footage.origin,
        "licence": "Apache-2.0; rendered by this project's own code, or by the user's videos",
        "settings": msgspec.to_builtins(settings),
        "started_from": None if start is None else {"sha": start.sha, "card": start.card},
        "torch": str(torch.__version__),
    }


RECIPE = Recipe()
