"""Checkpoints with random weights, made once: what operators do must not need trained ones."""

from __future__ import annotations

import atexit
import math
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch

from operators.nn.ar_diffusion.config import (
    DenoiserConfig,
    DiffusionConfig,
    SystemConfig,
    VaeConfig,
)
from operators.nn.ar_diffusion.denoiser import Denoiser
from operators.nn.ar_diffusion.files import save_system
from operators.nn.ar_diffusion.vae import Vae
from operators.nn.pad.calibration import Calibration, LabelledCalibration, calibration_to_dict
from operators.nn.pad.threshold import Threshold
from operators.nn.prompts.artifact import HeadDescriptor, save_head
from operators.nn.prompts.head import SPOOF_METHOD
from operators.nn.vlm.compact import CompactConfig, CompactHeads, CompactVlm
from operators.nn.vlm.compact_file import open_compact, save_compact
from operators.nn.vlm.efficientnet import EfficientNetLite0

SIZE_PX, DIM = 64, 16
CLASSES = ("bounce", "pan", "surveillance")
AR_SIZE_PX, AR_WINDOW = 32, 8


@cache
def scratch() -> Path:
    """A folder for this run of the tests."""
    folder = Path(tempfile.mkdtemp(prefix="frameloom-test-"))
    atexit.register(shutil.rmtree, folder)
    return folder


@cache
def random_compact() -> Path:
    """A compact model of 64 x 64 pixels and 16 numbers."""
    torch.manual_seed(0)
    heads = CompactHeads(CompactConfig(size_px=SIZE_PX, dim=DIM, hidden=0))
    path = scratch() / "compact.safetensors"
    save_compact(path, CompactVlm(EfficientNetLite0().eval(), heads))
    return path


@cache
def random_ar_diffusion() -> Path:
    """A video model of 32 x 32 pixels, three classes, a window of 8 frames, 4 steps and a lag of 2.

    What training begins at zero, and would therefore say nothing, is random too.
    """
    vae = VaeConfig(
        size_px=AR_SIZE_PX, patch_px=8, tokens=4, channels=4, width=16, depth=1, heads=2,
        codes=16, code_width=8, conv_width=8, conv_multipliers=(1, 1, 1), conv_blocks=1,
        conv_groups=4, shuffle=2,
    )  # fmt: skip
    denoiser = DenoiserConfig(
        frames=AR_WINDOW, tokens=4, channels=4, width=16, depth=1, heads=2, context_tokens=1,
        context_width=16, classes=len(CLASSES),
    )  # fmt: skip
    torch.manual_seed(0)
    config = SystemConfig("tiny", vae, denoiser, DiffusionConfig(latent_scale=2.0), steps=4, lag=2)
    networks = Vae(vae), Denoiser(denoiser)
    for weight in (weight for network in networks for weight in network.parameters()):
        if not weight.any():
            torch.nn.init.normal_(weight.data, std=0.3)
    networks[0].decoder.pixels.rgb.weight.data *= 4  # strong colours
    path = scratch() / "ar-diffusion.safetensors"
    save_system(path, config, *networks, {"classes": CLASSES})
    return path


@cache
def backbone_sha() -> str:
    """Of `random_compact`."""
    return open_compact(random_compact()).backbone_sha


def save_random_head(
    path: Path,
    calibration: Calibration | None = None,
    logit_scale: float = 10.0,
    thresholds: dict[str, Threshold] | None = None,
    **fields: Any,
) -> Path:
    """An anti-spoofing head of random prompts for the features of `random_compact`."""
    values: dict[str, Any] = {
        "method": SPOOF_METHOD, "backbone_sha": backbone_sha(), "backbone": "compact", "dim": DIM,
        "elements": ("1: print", "2: screen"), "prompt_sha": "0" * 64, "config": {}, "card": {},
    }  # fmt: skip
    descriptor = HeadDescriptor(
        logit_scale=logit_scale,
        calibration=None if calibration is None else calibration_to_dict(calibration),
        thresholds={camera: value.to_dict() for camera, value in (thresholds or {}).items()},
        **(values | fields),
    )
    generator = torch.Generator().manual_seed(1)
    unit = torch.nn.functional.normalize(torch.randn(3, descriptor.dim, generator=generator), dim=1)
    save_head(path, {"w_r": unit[0], "w_k": unit[1:]}, descriptor)
    return path


@cache
def certain_head(log_odds: float) -> Path:
    """A head that says the same of every face: these log-odds of live."""
    path = scratch() / f"says{log_odds:+g}.safetensors"
    third = math.log(0.5)  # the logit of one in three, which is all that its tiny scale leaves
    return save_random_head(path, LabelledCalibration(1.0, log_odds - third, "logit"), 1e-9)
