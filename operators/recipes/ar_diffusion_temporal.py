"""Stage 1b of AR-Diffusion in the recipe: layers that look back, off unless steps are set.

They are learned in the decoder as it was saved, rounded, since that is the one they will stand in,
and are kept in a file of their own beside it. The system's own file does not need them.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import torch

from operators.nn.ar_diffusion.files import System
from operators.nn.ar_diffusion.losses import VaeLoss, VaeLossConfig
from operators.nn.ar_diffusion.temporal import TemporalDecoder
from operators.nn.ar_diffusion.temporal_file import decoder_digest, load_layers, save_layers
from operators.nn.ar_diffusion.temporal_stream import TemporalStream
from operators.nn.ar_diffusion.temporal_training import TemporalTrainer
from operators.nn.ar_diffusion.vae import unit_tokens
from operators.nn.blocks.noise import keyed_generator, keyed_normal
from operators.nn.blocks.stepper import StepperConfig
from operators.nn.quality.image import mean_psnr, psnr
from operators.recipes.ar_diffusion_stages import Stage, StageSettings, as_input, motion_weight
from operators.recipes.footage import U8, Footage

TEMPORAL_DRAW, SHAKE_DRAW = 101, 102  # keep chances apart, from the other stages' too
WARM_STEPS = 100
JUDGED = 48  # held-out clips; it may be up to twice as many
_SETTING = "temporal_"


class TemporalSettings(StageSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the layers learn. Motion's weight, noise on tokens and averaging are stage 1's."""

    temporal_steps: Annotated[int, msgspec.Meta(ge=0)] = 0  # 0: no layers
    temporal_batch: Annotated[int, msgspec.Meta(ge=1)] = 2  # clips as long as the denoiser's window
    temporal_rate: float = 1e-3  # published: 1e-6, in 24 layers of 1024 numbers


def without_layers(settings: TemporalSettings) -> dict[str, Any]:
    """What all other stages depend on: their states are good with layers and without."""
    told: dict[str, Any] = msgspec.to_builtins(settings)
    return {name: value for name, value in told.items() if not name.startswith(_SETTING)}


def layers_path(system: Path) -> Path:
    """Where the layers are kept that belong to a system's file."""
    return system.with_suffix(".temporal.safetensors")


def train_layers(
    saved: System, settings: TemporalSettings, footage: Footage, stage: Stage
) -> TemporalDecoder | None:
    """Stage 1b: clips; None if it did not come to its end. `saved` is on the CPU again behind it.

    What is returned is on the CPU too.
    """
    torch.manual_seed(settings.seed)
    own = f"{settings.temporal_steps} {settings.temporal_batch} {settings.temporal_rate}"
    mark = f"{stage.fingerprint} {own} {decoder_digest(saved.vae.decoder)}"
    stage = dataclasses.replace(stage, fingerprint=mark)
    trainer = TemporalTrainer(
        saved.vae.to(settings.device),
        VaeLoss(VaeLossConfig()).to(settings.device),
        _stepping(settings),
        settings.latent_noise,
        mark,
    )
    length = saved.config.denoiser.frames
    firsts, _ = footage.windows(length)

    def step(number: int) -> float:
        chosen = keyed_generator(settings.seed, number, TEMPORAL_DRAW)
        pick = torch.randint(len(firsts), (settings.temporal_batch,), generator=chosen).numpy()
        index = (firsts[pick, None] + np.arange(length)).ravel()
        share = torch.rand(len(index), generator=chosen, dtype=torch.float64).numpy()
        frames, others = (
            as_input(footage.frames[each], settings.device)
            for each in (index, footage.others(index, share))
        )
        weight = motion_weight(frames, others, settings.motion_weight)
        clips, weights = (x.view(-1, length, *x.shape[1:]) for x in (frames, weight))
        return trainer.step(clips, weights)["loss"]

    done = stage.run(trainer, settings.temporal_steps, step)
    saved.vae.cpu()
    return trainer.averaged.cpu() if done else None


def measured_layers(
    path: Path,
    layers: TemporalDecoder,
    saved: System,
    settings: TemporalSettings,
    held_out: Footage,
) -> dict[str, float]:
    """Figures of the layers as they are in the file that is written here, which tells them too."""
    card: dict[str, Any] = {
        "purpose": "stage 1b of AR-Diffusion: a decoder that looks back in time",
        "settings": msgspec.to_builtins(settings),
        "torch": str(torch.__version__),
    }
    save_layers(path, layers, card)
    kept = load_layers(path, saved.vae).decoder
    figures = layer_figures(saved, kept, held_out, settings.latent_noise)
    save_layers(path, kept, {**card, "held_out": figures})
    return figures


@torch.inference_mode()
def layer_figures(
    system: System, layers: TemporalDecoder, footage: Footage, latent_noise: float
) -> dict[str, float]:
    """Of clips that nothing was learned from, decoded as a stream, each frame also by itself.

    PSNR in dB, flicker in levels of 0..255: see `flicker`. `shaken`: from tokens under the noise of
    training, which is the same for both.
    """
    length = system.config.denoiser.frames
    firsts, _ = footage.windows(length)
    firsts = firsts[:: max(1, len(firsts) // JUDGED)]
    found: dict[str, list[tuple[float, float]]] = {}
    stream = TemporalStream(layers, length)
    for number, first in enumerate(firsts):
        real = footage.frames[first : first + length]
        tokens = system.vae.encode(as_input(real, "cpu"))
        noise = keyed_normal(tokens.shape, number, SHAKE_DRAW)
        for name, seen in (("", tokens), ("shaken_", unit_tokens(tokens + latent_noise * noise))):
            stream.restart()
            for way, made in (
                ("frame", system.vae.decode(seen)),
                ("temporal", stream.decode(seen)),
            ):
                pictures = _pictures(made)
                decibel = mean_psnr(psnr(pictures, real))
                found.setdefault(name + way, []).append((decibel, flicker(pictures, real)))
    told: dict[str, float] = {}
    for name, pairs in found.items():
        decibel, levels = np.mean(pairs, axis=0)
        told |= {f"{name}_psnr_db": round(float(decibel), 3),
                 f"{name}_flicker": round(float(levels), 3)}  # fmt: skip
    return told


def flicker(pictures: U8, real: U8) -> float:
    """Mean |error of a frame - error of the one before it| over [T, S, S, 3] uint8, T from 2 on.

    In levels of 0..255. An error that stays where it is does not count, one that jumps does.
    """
    error = pictures.astype(np.int16) - real
    return float(np.abs(np.diff(error, axis=0)).mean())


def _pictures(frames: torch.Tensor) -> U8:
    """[T, 3, S, S] in about [0, 1] to uint8 [T, S, S, 3]."""
    pictures: U8 = (frames * 255).round().clamp(0, 255).to(torch.uint8).movedim(1, -1).numpy()
    return pictures


def _stepping(settings: TemporalSettings) -> StepperConfig:
    steps = max(settings.temporal_steps, 1)
    return StepperConfig(
        steps, settings.temporal_rate, warm_steps=min(WARM_STEPS, steps), cosine=True,
        average=settings.average, seed=settings.seed,
    )  # fmt: skip
