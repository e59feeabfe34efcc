"""AR-VAE, stage 1b: the decoder also looks back in time, from frame to frame.

Source: method notes, AR-Diffusion 1b. In front of every block of the decoder stand two layers that
add nothing at first: *fine*, attention along time at each patch, and *coarse*, from a frame's
latent and patch tokens to the latent tokens of that frame and all before it. The encoder is not
touched, so latents stay what they are. Inferred, ours: "add nothing" is a zeroed last matrix. No
layer knows positions in time, so keys and values of frames that are past never have to be changed.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import nn

from operators.nn.ar_diffusion.config import VaeConfig
from operators.nn.ar_diffusion.vae import Decoder
from operators.nn.blocks.attention import Attention, CrossAttention, KeyValue


class Past(NamedTuple):
    """What a layer keeps of P frames, B clips: keys and values of both sub-layers."""

    fine: KeyValue  # [B * patches, heads, P, head_width] each
    coarse: KeyValue  # [B, heads, P * latents, head_width] each

    @property
    def frames(self) -> int:
        """P"""
        return self.fine.k.shape[2]

    def then(self, later: Past) -> Past:
        """These frames followed by `later`."""
        return Past(self.fine.then(later.fine), self.coarse.then(later.coarse))

    def last(self, count: int) -> Past:
        """The last `count` frames, at least 1, in memory of their own."""
        gone = max(self.frames - count, 0)
        latents = self.coarse.k.shape[2] // self.frames
        return Past(self.fine.without(0, gone), self.coarse.without(0, gone * latents))


class TemporalLayer(nn.Module):
    """Both sub-layers, over decoder tokens [B, T, 1 + patches + latents, width]."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        width = config.width
        self.patches = config.grid**2
        self.fine_norm = nn.LayerNorm(width)
        self.fine = Attention(width, config.heads)
        self.q_norm, self.k_norm, self.v_norm = (nn.LayerNorm(width) for _ in range(3))
        self.coarse = CrossAttention(width, config.heads)
        for last in (self.fine.out, self.coarse.out):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The class token passes as it is."""
        return self.extend(x, None)[0]

    def extend(
        self, x: torch.Tensor, past: Past | None, window: int | None = None
    ) -> tuple[torch.Tensor, Past]:
        """`forward` for the T frames behind those in `past`, and what is kept of the T.

        A frame looks at `window` frames, itself the last of them; None: at all there are.
        """
        known = 0 if past is None else past.frames
        sees = _sees(known, x.shape[1], window, x.device)
        first, patches, latents = x.tensor_split((1, 1 + self.patches), dim=2)
        y, fine = self._fine(patches, None if past is None else past.fine, sees)
        own = torch.cat([patches + y, latents], dim=2)
        y, coarse = self._coarse(own, latents, None if past is None else past.coarse, sees)
        return torch.cat([first, own + y], dim=2), Past(fine, coarse)

    def _fine(
        self, patches: torch.Tensor, past: KeyValue | None, sees: torch.Tensor | None
    ) -> tuple[torch.Tensor, KeyValue]:
        batch, frames, count, width = patches.shape
        along = self.fine_norm(patches).transpose(1, 2).reshape(batch * count, frames, width)
        y, new = self.fine.extend(along, past, sees)
        return y.view(batch, count, frames, width).transpose(1, 2), new

    def _coarse(
        self,
        own: torch.Tensor,
        latents: torch.Tensor,
        past: KeyValue | None,
        sees: torch.Tensor | None,
    ) -> tuple[torch.Tensor, KeyValue]:
        if sees is not None:
            sees = sees.repeat_interleave(own.shape[2], 0).repeat_interleave(latents.shape[2], 1)
        latents = latents.flatten(1, 2)
        y, new = self.coarse.extend(
            self.q_norm(own.flatten(1, 2)), self.k_norm(latents), self.v_norm(latents), past, sees
        )
        return y.view(own.shape), new


class TemporalDecoder(nn.Module):
    """A trained decoder and one `TemporalLayer` in front of each of its blocks.

    Only `layers` learns in this stage; freeze the decoder.
    """

    def __init__(
        self, config: VaeConfig, decoder: Decoder, layers: nn.ModuleList | None = None
    ) -> None:
        """`layers`: one for each block; None: new ones, which add nothing."""
        super().__init__()
        self.decoder = decoder
        if layers is None:
            layers = nn.ModuleList(TemporalLayer(config) for _ in range(config.depth))
        self.layers = layers

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Unit tokens [B, T, tokens, channels] to frames [B, T, 3, size_px, size_px]."""
        batch_time = z.shape[:2]
        latents = z.flatten(0, 1)
        x = self.decoder.start(latents)
        for layer, block in zip(self.layers, self.decoder.blocks, strict=True):
            x = block(layer(x.view(*batch_time, *x.shape[1:])).flatten(0, 1))
        frames = self.decoder.finish(x, latents)
        return frames.view(*batch_time, *frames.shape[1:])

    def extend(
        self, z: torch.Tensor, past: tuple[Past, ...] | None, window: int | None = None
    ) -> tuple[torch.Tensor, tuple[Past, ...]]:
        """`forward` for the frames behind those in `past`, and what each layer keeps of them.

        A frame looks at `window` frames, itself the last of them; None: at all there are.
        """
        batch_time, latents = z.shape[:2], z.flatten(0, 1)
        x = self.decoder.start(latents)
        added = []
        for depth, (layer, block) in enumerate(zip(self.layers, self.decoder.blocks, strict=True)):
            x, new = cast(TemporalLayer, layer).extend(
                x.view(*batch_time, *x.shape[1:]), None if past is None else past[depth], window
            )
            added.append(new)
            x = block(x.flatten(0, 1))
        frames = self.decoder.finish(x, latents)
        return frames.view(*batch_time, *frames.shape[1:]), tuple(added)


def _sees(known: int, frames: int, window: int | None, device: torch.device) -> torch.Tensor | None:
    """Which of `known + frames` frames each of the last `frames` looks at, bool; None: at all."""
    if frames == 1 and (window is None or known < window):
        return None
    at = torch.arange(known, known + frames, device=device)[:, None]
    other = torch.arange(known + frames, device=device)
    sees = other <= at
    return sees if window is None else sees & (other > at - window)
