"""The two stages of AR-Diffusion as they learn: batches drawn, state kept, figures afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np
import torch

from engine.recipe import Job, RecipeError
from operators.nn.ar_diffusion.config import SystemConfig
from operators.nn.ar_diffusion.denoiser import Denoiser
from operators.nn.ar_diffusion.files import System
from operators.nn.ar_diffusion.losses import VaeLoss, VaeLossConfig
from operators.nn.ar_diffusion.straight import fit_components
from operators.nn.ar_diffusion.temporal_training import TemporalTrainer
from operators.nn.ar_diffusion.training import (
    DenoiserLoss,
    DenoiserTrainer,
    DenoiserTraining,
    VaeTrainer,
)
from operators.nn.ar_diffusion.vae import Vae
from operators.nn.blocks.noise import keyed_generator
from operators.nn.blocks.stepper import StepperConfig
from operators.nn.quality.image import mean_psnr, psnr
from operators.recipes.footage import U8, Footage

SAVE_EVERY_S = 60.0
TELL_EVERY = 20  # steps
ENCODE_BATCH = 256
MOVED = 0.08  # of 0 to 1: beyond noise and flicker
VAE_DRAW, DENOISER_DRAW, JUDGE_DRAW, FIT_DRAW = 1, 2, 3, 4  # keep chances apart
FIT = 2048  # frames whose principal components the auto-encoder begins with
Trainer = VaeTrainer | DenoiserTrainer | TemporalTrainer


class StageSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How both stages learn."""

    vae_steps: int = -1  # -1: as many as this machine is good for
    vae_batch: int = 32
    vae_rate: float = 1e-3
    motion_weight: float = 8.0  # of pixels that change within a sequence, beside 1 of the others
    latent_noise: float = 0.03  # on unit tokens while the auto-encoder learns, per channel
    steps: int = -1
    batch: int = 16
    rate: float = 6e-4
    average: float = 0.999  # decay of the averaged weights, in both stages
    drop_label: float = 0.1
    rolling: float = 0.6  # share of clips with timesteps of an endless stream, the others FoPP's
    history_noise: float = 0.08  # most noise on done frames of these, per channel of unit tokens
    own_past: float = 0.5  # share of these whose done frames are guesses; half again as dear
    seed: int = 0
    device: str = ""  # cpu or cuda; empty: cuda where there is one, which the card tells


@dataclass(frozen=True)
class Stage:
    """One half of the training: how long it may take, and where it is kept."""

    job: Job
    name: str
    end_s: float
    fingerprint: str

    def run(self, trainer: Trainer, steps: int, step: Callable[[int], float]) -> bool:
        """To the last step, or until time is up or it is told to stop; True at the last step.

        `step` takes the number of a step and gives its loss; means of it go into NAME.log.csv.
        RecipeError for a state of another run, or a loss that is not finite.
        """
        state = self.job.out / f"{self.name}.state.safetensors"
        try:
            if state.exists():
                trainer.resume(state)
        except ValueError as error:
            raise RecipeError(f"{state}: {error}; name another folder with --out") from error
        try:
            self._steps(trainer, steps, step)
        except FloatingPointError as error:
            raise RecipeError(f"{self.name}: {error}; lower the rate") from error
        if self.job.stop.is_set() or trainer.stepper.step > 0:
            trainer.save(state)
        return trainer.stepper.step >= steps

    def _steps(self, trainer: Trainer, steps: int, step: Callable[[int], float]) -> None:
        stepper, saved_s = trainer.stepper, time.monotonic()
        losses: list[float] = []
        with (self.job.out / f"{self.name}.log.csv").open("a") as log:
            while stepper.step < steps and not self._is_over():
                losses.append(step(stepper.step))
                if stepper.step % TELL_EVERY == 0 or stepper.step == steps:
                    self.job.tell(self.name, stepper.step, steps)
                    log.write(f"{stepper.step},{np.mean(losses):.6f}\n")
                    log.flush()
                    losses.clear()
                if time.monotonic() - saved_s > SAVE_EVERY_S:
                    trainer.save(self.job.out / f"{self.name}.state.safetensors")
                    saved_s = time.monotonic()

    def _is_over(self) -> bool:
        return self.job.stop.is_set() or time.monotonic() >= self.end_s


def train_vae(
    system: SystemConfig,
    settings: StageSettings,
    footage: Footage,
    stage: Stage,
    start: System | None,
) -> Vae | None:
    """Stage 1: single frames; None if it did not come to its end."""
    torch.manual_seed(settings.seed)
    vae = Vae(system.vae)
    if start is not None:
        vae.load_state_dict(start.vae.state_dict())
    elif vae.encoder.straight is not None and vae.decoder.straight is not None:
        frames, weight = _drawn(footage, settings, keyed_generator(settings.seed, 0, FIT_DRAW), FIT)
        fit_components(vae.encoder.straight, vae.decoder.straight, frames.cpu(), weight.cpu())
    trainer = VaeTrainer(
        vae.to(settings.device),
        VaeLoss(VaeLossConfig()).to(settings.device),
        _stepping(settings, settings.vae_steps, settings.vae_rate, 100),
        settings.latent_noise,
        stage.fingerprint,
    )

    def step(number: int) -> float:
        chosen = keyed_generator(settings.seed, number, VAE_DRAW)
        return trainer.step(*_drawn(footage, settings, chosen, settings.vae_batch))["loss"]

    return trainer.averaged if stage.run(trainer, settings.vae_steps, step) else None


def _drawn(
    footage: Footage, settings: StageSettings, chosen: torch.Generator, count: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames [count, 3, S, S], and the weight of each of their pixels."""
    index = torch.randint(len(footage.frames), (count,), generator=chosen).numpy()
    share = torch.rand(count, generator=chosen, dtype=torch.float64).numpy()
    frames, others = (
        as_input(footage.frames[each], settings.device)
        for each in (index, footage.others(index, share))
    )
    return frames, motion_weight(frames, others, settings.motion_weight)


def motion_weight(frames: torch.Tensor, others: torch.Tensor, moved: float) -> torch.Tensor:
    """[B, 1, H, W] with mean 1 in each frame: `1 + moved` parts where it differs from another frame
    of its sequence, 1 part elsewhere. What moves is small and would be the last to be learned.
    """
    weight = 1 + moved * ((frames - others).abs().amax(dim=1, keepdim=True) > MOVED).float()
    return weight / weight.mean(dim=(2, 3), keepdim=True)


def train_denoiser(
    system: SystemConfig,
    settings: StageSettings,
    data: tuple[Footage, torch.Tensor],
    stage: Stage,
    start: System | None,
) -> Denoiser | None:
    """Stage 2: stretches of latents; None if it did not come to its end."""
    footage, tokens = data
    firsts, classes = map(torch.from_numpy, footage.windows(system.denoiser.frames))
    torch.manual_seed(settings.seed)
    denoiser = Denoiser(system.denoiser)
    if start is not None:
        denoiser.load_state_dict(start.denoiser.state_dict())
    trainer = DenoiserTrainer(
        denoiser.to(settings.device),
        system.diffusion,
        _stepping(settings, settings.steps, settings.rate, 200),
        DenoiserTraining(
            settings.drop_label, settings.rolling, settings.history_noise, settings.own_past
        ),
        stage.fingerprint,
    )
    within = torch.arange(system.denoiser.frames)

    def step(number: int) -> float:
        chosen = keyed_generator(settings.seed, number, DENOISER_DRAW)
        pick = torch.randint(len(firsts), (settings.batch,), generator=chosen)
        clips = tokens[firsts[pick, None] + within].to(settings.device)
        return trainer.step(clips, labels_of(denoiser, classes[pick]).to(settings.device))["loss"]

    return trainer.averaged if stage.run(trainer, settings.steps, step) else None


@torch.inference_mode()
def encode(vae: Vae, frames: U8, job: Job) -> torch.Tensor | None:
    """Unit tokens [M, K, C] on the CPU of frames [M, S, S, 3]; None when the job is to stop."""
    device = str(next(vae.parameters()).device)
    parts = []
    for first in range(0, len(frames), ENCODE_BATCH):
        if job.stop.is_set():
            return None
        parts.append(vae.encode(as_input(frames[first : first + ENCODE_BATCH], device)).cpu())
        job.tell("encode", min(first + ENCODE_BATCH, len(frames)), len(frames))
    return torch.cat(parts).clone()


@torch.inference_mode()
def held_out_figures(system: System, footage: Footage, batches: int = 12) -> dict[str, float]:
    """Of footage that nothing was learned from: how well frames come back, and latents out of
    noise by FoPP's timesteps and by a stream's. `latent_power` is the error of always guessing the
    mean latent.
    """
    frames = footage.frames[:: max(1, len(footage.frames) // 384)]
    tokens = system.vae.encode(as_input(frames, "cpu"))
    back = system.vae.decode_uint8(tokens).movedim(1, -1).numpy()
    firsts, classes = map(torch.from_numpy, footage.windows(system.config.denoiser.frames))
    within = torch.arange(system.config.denoiser.frames)
    fopp, rolling = (
        DenoiserLoss(
            system.config.denoiser.frames, system.config.diffusion, DenoiserTraining(0, share)
        )
        for share in (0.0, 1.0)
    )
    losses, latents = [], []
    for number in range(batches):
        chosen = keyed_generator(0, number, JUDGE_DRAW)
        pick = torch.randint(len(firsts), (8,), generator=chosen)
        seen = footage.frames[(firsts[pick, None] + within).flatten().numpy()]
        clips = system.vae.encode(as_input(seen, "cpu"))
        clips = clips.view(8, len(within), *clips.shape[1:])
        labels = labels_of(system.denoiser, classes[pick])
        losses.append(
            [float(loss(system.denoiser, clips, labels, chosen)) for loss in (fopp, rolling)]
        )
        latents.append(fopp.diffusion.scaled(clips).flatten(0, 1))
    return {
        "vae_psnr_db": round(mean_psnr(psnr(back, frames)), 3),
        "denoising_loss": round(float(np.mean(losses, axis=0)[0]), 5),
        "rolling_loss": round(float(np.mean(losses, axis=0)[1]), 5),
        "latent_power": round(float(torch.cat(latents).var(dim=0).mean()), 5),
    }


def as_input(frames: U8, device: str) -> torch.Tensor:
    """[..., S, S, 3] uint8 to [..., 3, S, S] float in [0, 1]."""
    return torch.from_numpy(frames).to(device).movedim(-1, -3).float().div_(255)


def labels_of(denoiser: Denoiser, classes: torch.Tensor) -> torch.Tensor:
    """The classes, or none for a denoiser that knows none."""
    return classes if denoiser.config.classes else torch.full_like(classes, denoiser.null)


def _stepping(settings: StageSettings, steps: int, rate: float, warm: int) -> StepperConfig:
    return StepperConfig(
        max(steps, 1), rate, warm_steps=min(warm, max(steps, 1)), cosine=True,
        average=settings.average, seed=settings.seed,
    )  # fmt: skip
