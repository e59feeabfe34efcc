"""Timesteps as an endless stream meets them: frames that are done, then a staircase up to noise.

Inferred, ours, for training beside FoPP. A rolling window (method notes, AR-Diffusion 1e) has most
of its frames done and a few moving, one lag apart. Under FoPP such sequences hardly occur: the
chance that ten frames of sixteen are below timestep 20 of 1000 is beneath 1e-15, so a denoiser that
knows FoPP alone goes on from a past whose like it has never seen. And the past of a stream is made,
not given, and errors feed on themselves: each frame is a little paler than the one before, and in a
few hundred frames what is small has gone. So `history_noise` shakes frames that are done by noise
that no timestep tells of, and `own_past` puts the denoiser's own guesses in their place, pale as
they are: what comes next is to be as clear as the data all the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from operators.nn.ar_diffusion.diffusion import FINISHED
from operators.nn.ar_diffusion.vae import unit_tokens

FROM_NOTHING = 4  # a window without done frames counts as often as so many windows with some
TOGETHER = 0.1  # share of windows whose moving frames move all at once (s = 0)


@dataclass(frozen=True)
class Rolling:
    """Draws FINISHED <= t_0 <= ... <= t_{F-1} in 0..T-1."""

    frames: int
    timesteps: int

    def sample(self, batch: int, generator: torch.Generator) -> torch.Tensor:
        """int64 [batch, frames] on the CPU; at least the last frame is moving.

        The number of done frames is uniform, with more weight for none. The step between neighbours
        is log-uniform from T / F to T, or 0; the first moving frame is anywhere within its step.
        """
        frames, last = self.frames, self.timesteps - 1
        done = torch.randint(1 - FROM_NOTHING, frames, (batch, 1), generator=generator).clamp(min=0)
        chance = torch.rand(batch, 3, 1, generator=generator, dtype=torch.float64).unbind(1)
        step = self.timesteps * float(frames) ** -chance[0]
        step = torch.where(chance[1] < TOGETHER, 0.0, step)
        first = torch.where(step > 0, step, self.timesteps) * chance[2]
        behind = torch.arange(frames) - done
        t = (first + behind * step).long().clamp(FINISHED + 1, last)
        return t.masked_fill(behind < 0, FINISHED)


def shaken(
    tokens: torch.Tensor, done: torch.Tensor, most: float, generator: torch.Generator
) -> torch.Tensor:
    """Unit tokens [B, F, K, C], those of `done` frames bool [B, F] with noise on every channel.

    Its deviation is one per clip, uniform from 0 to `most`; they stay unit tokens.
    """
    size = most * torch.rand(len(tokens), 1, 1, 1, generator=generator).to(tokens)
    noise = torch.randn(tokens.shape, generator=generator).to(tokens)
    return torch.where(done[..., None, None], unit_tokens(tokens + size * noise), tokens)
