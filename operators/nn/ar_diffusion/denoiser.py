"""The denoiser: a transformer over context and frames that guesses every frame's clean latent.

Source: method notes, AR-Diffusion 1b; DiT (Peebles and Xie, ICCV 2023, arXiv:2212.09748) with a
timestep per frame. Inferred, ours: index `classes` of the context table means "no class"; it is
never a class too. Rotary positions turn at most one radian and at least 1/100 per frame: a window
has 16 frames, slower pairs would not tell them apart.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from operators.nn.ar_diffusion.config import DenoiserConfig
from operators.nn.ar_diffusion.masks import attention_mask
from operators.nn.blocks.adaln import AdaLnBlock
from operators.nn.blocks.attention import KeyValue
from operators.nn.blocks.embedding import TimestepEmbedding, place_table
from operators.nn.blocks.rotary import Rotation, rotation
from operators.nn.blocks.start import xavier

Cache = tuple[KeyValue, ...]  # by layer: the context's tokens, then those of finished frames

_ROTARY_BASE = 100.0


class Denoiser(nn.Module):
    """x0_hat = net(z, t, labels). Frames may be fewer than `config.frames`."""

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        table = torch.randn(config.classes + 1, config.context_tokens, config.context_width) * 0.1
        self.contexts = nn.Parameter(table, requires_grad=not config.fixed_context)
        self.context_in = nn.Linear(config.context_width, width)
        self.latent_in = nn.Linear(config.channels, width)
        self.time = TimestepEmbedding(width)
        self.blocks = nn.ModuleList(
            AdaLnBlock(width, config.heads, 4.0, config.qk_norm, config.share_norm)
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.latent_out = nn.Linear(width, config.channels)
        self._first_weights()
        self._add_positions()

    def _first_weights(self) -> None:
        self.apply(xavier)
        zero = [self.latent_out, *(cast(AdaLnBlock, block).modulation for block in self.blocks)]
        for layer in zero:
            nn.init.zeros_(layer.weight)

    def _add_positions(self) -> None:
        config = self.config
        free, frames, tokens = config.context_tokens, config.frames, config.tokens
        mask = attention_mask(config.mask, free, frames, tokens)
        self.register_buffer("mask", mask, persistent=False)
        if config.positions == "table":
            places = place_table(frames * tokens, config.width)
            self.register_buffer("places", places, persistent=False)
            return
        self.places = nn.Parameter(torch.randn(tokens, config.width) * 0.02)  # within a frame
        times = torch.cat([torch.zeros(free), torch.arange(frames).repeat_interleave(tokens)])
        turns = rotation(times, config.width // config.heads, _ROTARY_BASE)
        self.register_buffer("cos", turns.cos, persistent=False)
        self.register_buffer("sin", turns.sin, persistent=False)

    @property
    def streams(self) -> bool:
        """True if keys and values of finished frames may be kept: causal, and free of places."""
        return self.config.mask == "strict" and self.config.positions == "rotary"

    @property
    def null(self) -> int:
        """The label of no class."""
        return self.config.classes

    def forward(self, z: torch.Tensor, t: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """z [B, F, tokens, channels], t int64 [B, F], labels int64 [B]; x0_hat in the shape of z.

        Labels are 0..classes-1, or `null`.
        """
        free = self.config.context_tokens
        x = torch.cat([self.context_in(self.contexts[labels]), self._tokens(z)], dim=1)
        mask, turned_by = self._mask(0, x.shape[1]), self._rotation(x.shape[1])
        c = self.time(t)
        for block in self.blocks:
            x = block(x, c, free, mask, turned_by)
        return self._latents(x[:, free:], z)

    def begin(self, labels: torch.Tensor) -> Cache:
        """The cache of a stream without frames. ValueError unless `streams`."""
        if not self.streams:
            raise ValueError("only the strict mask with rotary positions allows a cache")
        x = self.context_in(self.contexts[labels])
        free = x.shape[1]
        c = x.new_zeros(len(x), 0, self.config.width)
        cache = []
        for block in self.blocks:
            x, new = cast(AdaLnBlock, block).extend(x, c, free, None, None, self._rotation(free))
            cache.append(new)
        return tuple(cache)

    def extend(self, z: torch.Tensor, t: torch.Tensor, cache: Cache) -> tuple[torch.Tensor, Cache]:
        """`forward` for the frames behind those in `cache`, and the keys and values of theirs.

        The frames in `cache` are the window's first. Equal to `forward` over all of the window, as
        long as the cached frames had the same frames in front of them as they have there.
        """
        x = self._tokens(z)
        end = cache[0].k.shape[2] + x.shape[1]
        mask, turned_by = self._mask(end - x.shape[1], end), self._rotation(end)
        c = self.time(t)
        added = []
        for block, past in zip(self.blocks, cache, strict=True):
            x, new = cast(AdaLnBlock, block).extend(x, c, 0, past, mask, turned_by)
            added.append(new)
        return self._latents(x, z), tuple(added)

    def _tokens(self, z: torch.Tensor) -> torch.Tensor:
        """[B, F * tokens, width]"""
        x: torch.Tensor = self.latent_in(z)
        places: torch.Tensor = self.places
        if self.config.positions == "table":
            places = places[: z.shape[1] * z.shape[2]].view(z.shape[1], z.shape[2], -1)
        return x.add(places).flatten(1, 2)

    def _latents(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.latent_out(self.norm(x)).view(z.shape)
        return y

    def _mask(self, start: int, end: int) -> torch.Tensor | None:
        mask = cast("torch.Tensor | None", self.mask)
        return None if mask is None else mask[start:end, :end]

    def _rotation(self, end: int) -> Rotation | None:
        if self.config.positions == "table":
            return None
        cos, sin = cast(torch.Tensor, self.cos), cast(torch.Tensor, self.sin)
        return Rotation(cos[:end], sin[:end])
