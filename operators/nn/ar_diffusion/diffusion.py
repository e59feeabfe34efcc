"""Noise on latents, a timestep per frame, and the way back.

Source: method notes, AR-Diffusion 1c: x0 prediction, DDIM with eta 0 and uniform spacing; frames
that have not started are shown with the last timestep, finished ones with timestep 1. Frames that
do not move are left as they are, bit for bit: the published sampler multiplies finished ones by
1.00002 per call. Inferred, ours: `spacing` trailing. The published steps begin at a timestep that
is not all noise yet and spend their last call on timestep 1, where nothing is left to do: that is
one of ten.
"""

from __future__ import annotations

import torch

from operators.nn.ar_diffusion.config import DiffusionConfig
from operators.nn.ar_diffusion.vae import unit_tokens
from operators.nn.blocks.ddpm import corrupt, ddim_step, linear_alpha_bar, uniform_timesteps

FINISHED = 0  # a noise level below every timestep that is ever shown: abar_0 is the last one's end


class Diffusion:
    """Tables of one schedule. Levels are timesteps; `FINISHED` marks what is done."""

    def __init__(self, config: DiffusionConfig) -> None:
        self.config = config
        abar = linear_alpha_bar(config.timesteps, config.first_beta, config.last_beta)
        self.alpha_bar = abar.float()  # [timesteps]

    def scaled(self, tokens: torch.Tensor) -> torch.Tensor:
        """Unit tokens as the denoiser knows them."""
        return tokens * self.config.latent_scale

    def clean(self, z: torch.Tensor) -> torch.Tensor:
        """The nearest latent that an encoder could have made, in the denoiser's scale."""
        return self.scaled(unit_tokens(z))

    def corrupt(self, z: torch.Tensor, eps: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """z, eps [B, F, K, C], t int64 [B, F]: each frame at its own timestep."""
        return corrupt(z, eps, self._abar(t, z))

    def grid(self, steps: int) -> torch.Tensor:
        """The timesteps that S inference steps visit, [S] int64, rising."""
        config = self.config
        return uniform_timesteps(steps, config.timesteps, config.spacing == "trailing")

    def shown(self, level: torch.Tensor) -> torch.Tensor:
        """What the network is told for frames at `level`, any shape: finished ones are at 1."""
        return level.clamp(min=1)

    @property
    def waiting(self) -> int:
        """What the network is told for frames that have not started."""
        return self.config.timesteps - 1

    def step(
        self, x: torch.Tensor, x0_hat: torch.Tensor, level: torch.Tensor, to: torch.Tensor
    ) -> torch.Tensor:
        """DDIM from `level` to `to`, int64 [B, F] each; where they agree x stays as it is."""
        moved = ddim_step(x, x0_hat, self._abar(level, x), self._abar(to, x))
        return torch.where((level != to)[..., None, None], moved, x)

    def _abar(self, t: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        return self.alpha_bar.to(like.device)[t.to(like.device)][..., None, None].to(like.dtype)
