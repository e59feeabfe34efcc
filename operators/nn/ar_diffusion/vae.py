"""AR-VAE, stage 1: a frame as a few unit vectors, and back.

Source: method notes, AR-Diffusion 1b; a TiTok (Yu et al., NeurIPS 2024, arXiv:2406.07550) whose
tokens are not quantised. Both transformers have a norm in front, as TiTok has.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import nn
from torch.nn import functional

from operators.nn.ar_diffusion.config import VaeConfig
from operators.nn.ar_diffusion.conv_decoder import ConvDecoder
from operators.nn.ar_diffusion.straight import CellsIn, CellsOut, from_sphere, onto_sphere
from operators.nn.blocks.start import xavier
from operators.nn.blocks.transformer import Block


class Posterior(NamedTuple):
    """Mean and logarithm of the variance, [B, tokens, channels] each, before normalising."""

    mean: torch.Tensor
    logvar: torch.Tensor


def unit_tokens(z: torch.Tensor) -> torch.Tensor:
    """[..., channels] with each token brought to length 1."""
    return functional.normalize(z, dim=-1)


class Encoder(nn.Module):
    """Frames to posteriors; only the latent tokens are read."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        width, patches = config.width, config.grid**2
        self.centred = config.centred
        self.cell = config.grid // config.side if config.anchored else 0  # patches along its side
        self.patches = nn.Conv2d(3, width, config.patch_px, config.patch_px)
        self.class_token = _places(1, width)
        self.places = _places(1 + patches, width)
        self.latents = _places(config.tokens, width)
        self.latent_places = _places(config.tokens, width)
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.blocks = nn.ModuleList(Block(width, config.heads) for _ in range(config.depth))
        self.moments = nn.Linear(width, 2 * config.channels)
        self.apply(xavier)
        self.straight = CellsIn(config) if config.straight else None
        if self.straight is not None:
            nn.init.zeros_(self.moments.weight)

    def forward(self, frames: torch.Tensor) -> Posterior:
        """[B, 3, size_px, size_px] in [0, 1]."""
        grid = self.patches(2 * frames - 1 if self.centred else frames)
        batch = len(grid)
        x = torch.cat([self.class_token.expand(batch, -1, -1), _tokens(grid)], dim=1) + self.places
        latents = (self.latents + self.latent_places).expand(batch, -1, -1)
        if self.cell:
            latents = latents + _tokens(functional.avg_pool2d(grid, self.cell))
        x = self.before(torch.cat([x, latents], dim=1))
        for block in self.blocks:
            x = block(x)
        moments = self.moments(self.after(x[:, -latents.shape[1] :]))
        mean, logvar = moments.chunk(2, dim=-1)
        if self.straight is not None:
            mean = onto_sphere(self.straight(frames) + mean[..., 1:])
        return Posterior(mean, logvar.clamp(-30, 20))


class Decoder(nn.Module):
    """Latents to frames: queries for every patch, a soft codebook, convolutions."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        width, patches = config.width, config.grid**2
        self.grid, self.patches = config.grid, patches
        self.side = config.side if config.anchored else 0
        self.latents = nn.Linear(config.channels, width)
        self.latent_places = _places(config.tokens, width)
        self.class_token = _places(1, width)
        self.mask_token = _places(1, width)
        self.places = _places(1 + patches, width)
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.blocks = nn.ModuleList(Block(width, config.heads) for _ in range(config.depth))
        self.logits = nn.Sequential(
            nn.Linear(width, 2 * width), nn.Tanh(), nn.Linear(2 * width, config.codes)
        )
        self.codebook = nn.Linear(config.codes, config.code_width)
        self.apply(xavier)
        self.pixels = ConvDecoder(config)
        self._first_weights()
        self.straight = CellsOut(config) if config.straight else None
        if self.straight is not None:
            nn.init.zeros_(cast(nn.Parameter, self.pixels.rgb.bias))

    def _first_weights(self) -> None:
        """Ours. Logits of deviation about 2 over entries of deviation 1: usual weights would mix
        all entries alike. A grey frame at first: otherwise the first steps go into unlearning a
        random pattern, and silence what the latents say.
        """
        last = self.logits[2]
        assert isinstance(last, nn.Linear)
        nn.init.normal_(last.weight, std=4 * last.in_features**-0.5)
        nn.init.normal_(self.codebook.weight)
        rgb = self.pixels.rgb
        assert rgb.bias is not None
        nn.init.zeros_(rgb.weight)
        nn.init.constant_(rgb.bias, 0.5)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """[B, tokens, channels], unit tokens, to [B, 3, size_px, size_px], not clamped."""
        x = self.start(z)
        for block in self.blocks:
            x = block(x)
        return self.finish(x, z)

    def start(self, z: torch.Tensor) -> torch.Tensor:
        """The tokens in front of the first block: class, patches, latents."""
        latents = self.latents(z)
        queries = self.mask_token.expand(len(z), self.patches, -1)
        if self.side:
            cells = latents.transpose(1, 2).unflatten(2, (self.side, self.side))
            queries = queries + _tokens(functional.interpolate(cells, size=self.grid))
        queries = torch.cat([self.class_token.expand(len(z), -1, -1), queries], dim=1)
        x = torch.cat([queries + self.places, latents + self.latent_places], dim=1)
        y: torch.Tensor = self.before(x)
        return y

    def finish(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Frames from the tokens behind the last block, and the latents they come from."""
        logits = self.logits(self.after(x[:, 1 : 1 + self.patches]))
        codes = self.codebook(logits.softmax(dim=-1)).transpose(1, 2)
        frames: torch.Tensor = self.pixels(codes.unflatten(2, (self.grid, self.grid)))
        return frames if self.straight is None else frames + self.straight(from_sphere(z))


class Vae(nn.Module):
    """Both."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.decoder = Encoder(config), Decoder(config)

    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        """[B, 3, size_px, size_px] in [0, 1] to unit tokens [B, tokens, channels]: the mode."""
        return unit_tokens(self.encoder(frames).mean)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Unit tokens [B, tokens, channels] to [B, 3, size_px, size_px] in about [0, 1]."""
        frames: torch.Tensor = self.decoder(z)
        return frames

    def decode_uint8(self, z: torch.Tensor) -> torch.Tensor:
        """`decode`, clamped and rounded: uint8 [B, 3, size_px, size_px]."""
        return (self.decode(z).float() * 255).round_().clamp_(0, 255).to(torch.uint8)


def _tokens(grid: torch.Tensor) -> torch.Tensor:
    """[B, C, h, w] to [B, h * w, C]"""
    return grid.flatten(2).transpose(1, 2)


def _places(count: int, width: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(1, count, width) * width**-0.5)
