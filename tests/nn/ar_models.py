"""Small AR-Diffusion networks whose layers all do something: trained ones are never all zero."""

from __future__ import annotations

import dataclasses

import torch

from operators.nn.ar_diffusion.config import (
    DenoiserConfig,
    DiffusionConfig,
    SystemConfig,
    VaeConfig,
)
from operators.nn.ar_diffusion.denoiser import Denoiser
from operators.nn.ar_diffusion.diffusion import Diffusion
from operators.nn.ar_diffusion.temporal import TemporalDecoder
from operators.nn.ar_diffusion.vae import Vae

VAE = VaeConfig(
    size_px=16, patch_px=4, tokens=4, channels=3, width=16, depth=2, heads=2, codes=8,
    code_width=8, conv_width=4, conv_multipliers=(1, 2), conv_blocks=1, conv_groups=2, shuffle=2,
)  # fmt: skip
DENOISER = DenoiserConfig(
    frames=6, tokens=4, channels=3, width=24, depth=3, heads=2, context_tokens=2,
    context_width=5, classes=3,
)  # fmt: skip
DIFFUSION = DiffusionConfig(timesteps=100, latent_scale=3**0.5)
SYSTEM = SystemConfig("small", VAE, DENOISER, DIFFUSION, steps=6, lag=2)


def awake(seed: int = 1, **changes: object) -> Denoiser:
    """`DENOISER` with changes, evaluated; gates and the last layer open."""
    torch.manual_seed(seed)
    denoiser = Denoiser(dataclasses.replace(DENOISER, **changes)).eval().requires_grad_(False)
    for name, weight in denoiser.named_parameters():
        if "modulation" in name or "latent_out" in name:
            torch.nn.init.normal_(weight, std=0.2)
    return denoiser


def looking_back(vae: Vae | None = None, seed: int = 4) -> TemporalDecoder:
    """Layers that all add something, in the decoder of `vae`, or in one of `VAE` that shows all."""
    torch.manual_seed(seed)
    if vae is None:
        vae = Vae(VAE).eval().requires_grad_(False)
        torch.nn.init.normal_(vae.decoder.pixels.rgb.weight, std=0.3)
    temporal = TemporalDecoder(vae.config, vae.decoder).eval().requires_grad_(False)
    for name, weight in temporal.layers.named_parameters():
        if "out.weight" in name:
            torch.nn.init.normal_(weight, std=0.3)
    return temporal


def diffusion() -> Diffusion:
    return Diffusion(DIFFUSION)


def unit(*shape: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(shape), dim=-1)
