"""FoPP: timesteps for training, non-decreasing over frames, every frame's timestep equally likely.

Source: Frame-oriented Probability Propagation, AR-Diffusion (arXiv:2503.07418); method notes,
AR-Diffusion 1c. Timesteps count from 0.

    de[t, f] = C(t + f, f)                      non-decreasing sequences of f + 1 that end at t
    ds[t, f] = C((T-1-t) + (F-1-f), F-1-f)      non-decreasing sequences of F - f that start at t

The sums that sampling needs are counts too: sum_{u <= t} de[u, f] = de[t, f + 1], and ds is de
seen from the other end. One table serves both directions, kept as logarithms.
"""

from __future__ import annotations

import math

import torch


class Fopp:
    """Draws t_0 <= ... <= t_{F-1} in 0..T-1 through an anchor uniform over frames and timesteps."""

    def __init__(self, frames: int, timesteps: int) -> None:
        if frames < 1 or timesteps < 1:
            raise ValueError(f"{frames} frames, {timesteps} timesteps: both start at 1")
        self.frames, self.timesteps = frames, timesteps
        t = torch.arange(timesteps, dtype=torch.float64)
        f = torch.arange(frames + 1, dtype=torch.float64)[:, None]
        self._log_de = torch.lgamma(t + f + 1) - torch.lgamma(f + 1) - torch.lgamma(t + 1)

    def sample(self, batch: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """int64 [batch, frames] on the CPU."""
        last = self.frames - 1
        anchor = torch.randint(self.frames, (batch,), generator=generator)
        value = torch.randint(self.timesteps, (batch,), generator=generator)
        chance = 1 - torch.rand(batch, self.frames, generator=generator, dtype=torch.float64)
        t = value[:, None].repeat(1, self.frames)
        for f in range(last - 1, -1, -1):
            t[:, f] = torch.where(f < anchor, self._below(t[:, f + 1], f, chance[:, f]), t[:, f])
        for f in range(1, self.frames):
            mirrored = self.timesteps - 1 - t[:, f - 1]
            drawn = self.timesteps - 1 - self._below(mirrored, last - f, chance[:, f])
            t[:, f] = torch.where(f > anchor, drawn, t[:, f])
        return t

    def backward_chances(self, f: int, upper: int) -> torch.Tensor:
        """P(t_f = t given t_{f+1} = upper) for f in front of the anchor, [timesteps] float64."""
        shares = torch.exp(self._log_de[f + 1, : upper + 1] - self._log_de[f + 1, upper])
        chances = torch.zeros(self.timesteps, dtype=torch.float64)
        chances[: upper + 1] = torch.diff(shares, prepend=shares.new_zeros(1))
        return chances

    def forward_chances(self, f: int, lower: int) -> torch.Tensor:
        """P(t_f = t given t_{f-1} = lower) for f behind the anchor, [timesteps] float64."""
        return self.backward_chances(self.frames - 1 - f, self.timesteps - 1 - lower).flip(0)

    def probability(self, t: torch.Tensor) -> float:
        """P of one sequence [frames]: (1 / FT) sum_f 1 / (de[t_f, f] ds[t_f, f]); 0 if it falls."""
        if bool((t.diff() < 0).any()):
            return 0.0
        f = torch.arange(self.frames)
        paths = self._log_de[f, t] + self._log_de[self.frames - 1 - f, self.timesteps - 1 - t]
        return float(torch.exp(-paths).sum()) / (self.frames * self.timesteps)

    def log_ending(self, t: int, f: int) -> float:
        """ln de[t, f]"""
        return float(self._log_de[f, t])

    def log_starting(self, t: int, f: int) -> float:
        """ln ds[t, f]"""
        return float(self._log_de[self.frames - 1 - f, self.timesteps - 1 - t])

    def compositions(self) -> int:
        """How many sequences there are: C(T + F - 1, F), exactly."""
        return math.comb(self.timesteps + self.frames - 1, self.frames)

    def _below(self, upper: torch.Tensor, f: int, chance: torch.Tensor) -> torch.Tensor:
        """t in 0..upper with probability proportional to de[t, f]; `chance` uniform in (0, 1]."""
        sums = self._log_de[f + 1]
        found = torch.searchsorted(sums, chance.log() + sums[upper])
        return torch.minimum(found, upper)  # rounding may pass the end by one
