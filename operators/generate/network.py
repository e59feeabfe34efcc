"""The decoder of a checkpoint, as what is compiled: by `engines build`, and when a node opens.

The denoiser is none: what it is given grows while a stream begins and whenever steps change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.device.networks import Network
from operators.generate.checkpoint import SHIPPED

if TYPE_CHECKING:
    from operators.nn.ar_diffusion.config import VaeConfig
    from operators.nn.ar_diffusion.vae import Decoder


def ar_diffusion_decoder() -> Network:
    """With the weights that come along."""
    from operators.nn.ar_diffusion.files import load_system

    system = load_system(SHIPPED)
    return decoder_network(system.vae.decoder, system.config.vae)


def decoder_network(decoder: Decoder, config: VaeConfig) -> Network:
    """One frame's latent to its picture, on a random latent: all unit tokens can be met."""
    import torch

    from operators.nn.ar_diffusion.vae import unit_tokens

    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(1, config.tokens, config.channels, generator=generator)
    return Network(decoder, (unit_tokens(tokens),), ("fp32", "fp16", "bf16"))
