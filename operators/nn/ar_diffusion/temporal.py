"""AR-VAE, stage 1b: the decoder also looks back in time, from frame to frame.

Source: method notes, AR-Diffusion 1b. In front of every block of the decoder stand two layers that
add nothing at first: *fine*, attention along time at each patch, and *coarse*, from a frame's
latent and patch tokens to the latent tokens of that frame and all before it. The encoder is not
touched, so latents stay what they are. Inferred, ours: "add nothing" is a zeroed last matrix.
"""

from __future__ import annotations

import torch
from torch import nn

from operators.nn.ar_diffusion.config import VaeConfig
from operators.nn.ar_diffusion.vae import Decoder
from operators.nn.blocks.attention import Attention, CrossAttention


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
        first, patches, latents = x.tensor_split((1, 1 + self.patches), dim=2)
        patches = patches + self._fine(patches)
        own = torch.cat([patches, latents], dim=2)
        return torch.cat([first, own + self._coarse(own, latents)], dim=2)

    def _fine(self, patches: torch.Tensor) -> torch.Tensor:
        batch, frames, count, width = patches.shape
        along = self.fine_norm(patches).transpose(1, 2).reshape(batch * count, frames, width)
        mask = torch.ones(frames, frames, dtype=torch.bool, device=along.device).tril()
        y: torch.Tensor = self.fine(along, mask)
        return y.view(batch, count, frames, width).transpose(1, 2)

    def _coarse(self, own: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        frames, queries, keys = own.shape[1], own.shape[2], latents.shape[2]
        rows = torch.arange(frames, device=own.device).repeat_interleave(queries)
        columns = torch.arange(frames, device=own.device).repeat_interleave(keys)
        latents = latents.flatten(1, 2)
        y: torch.Tensor = self.coarse(
            self.q_norm(own.flatten(1, 2)),
            self.k_norm(latents),
            self.v_norm(latents),
            rows[:, None] >= columns[None, :],
        )
        return y.view(own.shape)


class TemporalDecoder(nn.Module):
    """A trained decoder and one `TemporalLayer` in front of each of its blocks.

    Only `layers` learns in this stage; freeze the decoder.
    """

    def __init__(self, config: VaeConfig, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder
        self.layers = nn.ModuleList(TemporalLayer(config) for _ in range(config.depth))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Unit tokens [B, T, tokens, channels] to frames [B, T, 3, size_px, size_px]."""
        batch_time = z.shape[:2]
        x = self.decoder.start(z.flatten(0, 1))
        for layer, block in zip(self.layers, self.decoder.blocks, strict=True):
            x = block(layer(x.view(*batch_time, *x.shape[1:])).flatten(0, 1))
        frames = self.decoder.finish(x)
        return frames.view(*batch_time, *frames.shape[1:])
