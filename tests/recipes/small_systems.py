"""A system of AR-Diffusion so small that a test can run it. Its weights are random."""

from __future__ import annotations

import torch

from operators.nn.ar_diffusion.config import (
    DenoiserConfig,
    DiffusionConfig,
    SystemConfig,
    VaeConfig,
)
from operators.nn.ar_diffusion.denoiser import Denoiser
from operators.nn.ar_diffusion.files import System
from operators.nn.ar_diffusion.vae import Vae

SMALL = SystemConfig(
    name="small",
    vae=VaeConfig(
        size_px=32, patch_px=8, tokens=2, channels=4, width=16, depth=1, heads=2, codes=8,
        code_width=8, conv_width=8, conv_multipliers=(1, 1, 1), conv_blocks=1, conv_groups=2,
        shuffle=2,
    ),
    denoiser=DenoiserConfig(
        frames=8, tokens=2, channels=4, width=16, depth=1, heads=2, context_tokens=1,
        context_width=16, classes=2,
    ),
    diffusion=DiffusionConfig(latent_scale=2.0),
    steps=4,
    lag=2,
)  # fmt: skip


def small_system() -> System:
    """Always the same; what it makes is garbage that moves."""
    torch.manual_seed(5)
    vae, denoiser = Vae(SMALL.vae).eval(), Denoiser(SMALL.denoiser).eval()
    for network in (vae, denoiser):
        for weight in network.parameters():
            if weight.ndim > 1 and not weight.any():  # what starts at 0 would give no motion
                torch.nn.init.normal_(weight, std=0.2)
    return System(SMALL, vae.requires_grad_(False), denoiser.requires_grad_(False), {}, "ab" * 32)
