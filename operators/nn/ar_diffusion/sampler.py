"""Clips from noise: all frames of a clip by the AD schedule, known frames given as done.

Source: method notes, AR-Diffusion 1c and 1e; guidance without a classifier, Ho and Salimans
(arXiv:2207.12598), equation 6 in the form x_0 = un + w (cond - un). Inferred, ours: a finished
frame's tokens are brought back to length 1, which all tokens had that the denoiser learned from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from operators.nn.ar_diffusion.ad import check_lag, check_window, states, window_ends
from operators.nn.ar_diffusion.denoiser import Denoiser
from operators.nn.ar_diffusion.diffusion import FINISHED, Diffusion
from operators.nn.ar_diffusion.vae import unit_tokens
from operators.nn.blocks.noise import keyed_normal


@dataclass(frozen=True)
class Plan:
    """S steps per frame, a lag of s between frames, weight of guidance (1: none)."""

    steps: int
    lag: int
    guidance: float = 1.0

    def __post_init__(self) -> None:
        check_lag(self.steps, self.lag)
        if not 0 <= self.guidance <= 100:
            raise ValueError(f"guidance must be 0..100, not {self.guidance}")


def frame_noise(seed: int, first: int, frames: int, tokens: int, channels: int) -> torch.Tensor:
    """[frames, tokens, channels]: each frame's own, by its absolute index, however it is cut."""
    return torch.stack([keyed_normal((tokens, channels), seed, first + f) for f in range(frames)])


def guided(cond: torch.Tensor, uncond: torch.Tensor, weight: float) -> torch.Tensor:
    """x0_hat that leans away from the unconditional one."""
    return uncond + weight * (cond - uncond)


@torch.inference_mode()
def sample(
    denoiser: Denoiser,
    diffusion: Diffusion,
    plan: Plan,
    noise: torch.Tensor,
    labels: torch.Tensor,
    known: torch.Tensor | None = None,
) -> torch.Tensor:
    """Unit tokens [B, F, K, C] from standard normal `noise` of the same shape.

    labels int64 [B]; known [B, P, K, C]: unit tokens of the first P < F frames. ValueError if F is
    more than the denoiser's window and the lag would lose updates there.
    """
    frames, window = noise.shape[1], denoiser.config.frames
    if frames > window:
        check_window(plan.steps, plan.lag, window)
    count = 0 if known is None else known.shape[1]
    p = states(frames, plan.steps, plan.lag, count)
    x = noise.clone()
    if known is not None:
        x[:, :count] = diffusion.scaled(known)
    for call, end in enumerate(window_ends(p, window)):
        seen = slice(max(end - window, 0), end)
        x[:, seen] = _one_call(
            denoiser, diffusion, plan, x[:, seen], p[call : call + 2, seen], labels
        )
    return unit_tokens(x)


def _one_call(
    denoiser: Denoiser,
    diffusion: Diffusion,
    plan: Plan,
    x: torch.Tensor,
    p: torch.Tensor,
    labels: torch.Tensor,
) -> torch.Tensor:
    """x after the call; p [2, W] before and after."""
    levels = levels_of(diffusion, p, plan.steps)
    t = diffusion.shown(levels[0]).masked_fill((p[1] == 0), diffusion.waiting)
    t, before, after = (row.to(x.device).expand(len(x), -1) for row in (t, *levels))
    x0_hat = predict(denoiser, x, t, labels, plan.guidance)
    x = diffusion.step(x, x0_hat, before, after)
    ends = (before != FINISHED) & (after == FINISHED)
    return torch.where(ends[..., None, None], diffusion.clean(x), x)


def levels_of(diffusion: Diffusion, p: torch.Tensor, steps: int) -> torch.Tensor:
    """The noise level at which a state is left, any shape: `FINISHED` for p = S."""
    by_state = torch.cat([diffusion.grid(steps).flip(0), torch.tensor([FINISHED])])
    return by_state[p]


def predict(
    denoiser: Denoiser, x: torch.Tensor, t: torch.Tensor, labels: torch.Tensor, weight: float
) -> torch.Tensor:
    """x0_hat, guided unless the weight is 1; x [B, F, K, C], t [B, F], labels [B]."""
    if weight == 1:
        x0_hat: torch.Tensor = denoiser(x, t, labels)
        return x0_hat
    nothing = torch.full_like(labels, denoiser.null)
    both = denoiser(torch.cat([x, x]), torch.cat([t, t]), torch.cat([labels, nothing]))
    cond, uncond = both.chunk(2)
    return guided(cond, uncond, weight)


def sample_stitched(
    denoiser: Denoiser,
    diffusion: Diffusion,
    plan: Plan,
    noise: torch.Tensor,
    labels: torch.Tensor,
    overlap: int,
) -> Iterator[torch.Tensor]:
    """A long clip as windows that each begin with the last `overlap` frames of the one before.

    For lags that no sliding window allows, s = 0 first of all. noise [B, F, K, C]; gives the new
    frames of each window, unit tokens [B, n, K, C], F in all.
    """
    window, frames = denoiser.config.frames, noise.shape[1]
    if not 1 <= overlap < window:
        raise ValueError(f"an overlap of {overlap}: 1 to {window - 1} can be")
    known: torch.Tensor | None = None
    done = 0
    while done < frames:
        back = 0 if known is None else known.shape[1]
        part = noise[:, done - back : done - back + window]
        made = sample(denoiser, diffusion, plan, part, labels, known)
        yield made[:, back:]
        done += made.shape[1] - back
        known = made[:, -overlap:]
