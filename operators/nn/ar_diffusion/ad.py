"""AD: which frame moves at which network call, for a lag of s steps between neighbours.

Source: adaptive difference scheduler, AR-Diffusion (arXiv:2503.07418); method notes, AR-Diffusion
1c. A frame's state p counts its updates, 0 (not started) to S (done); after k calls it is

    p_f(k) = clip(k - f s, 0, S)

s = 0 moves all frames together (synchronous), s = S one after the other (auto-regressive).
"""

from __future__ import annotations

import torch


def check_lag(steps: int, lag: int) -> None:
    """ValueError unless 0 <= s <= S and S >= 1."""
    if steps < 1 or not 0 <= lag <= steps:
        raise ValueError(f"a lag of {lag} between frames of {steps} steps: 0 to {steps} can be")


def least_lag(steps: int, window: int) -> int:
    """ceil(S / W): below it a window of W frames slides past frames that are not done."""
    return -(-steps // window)


def check_window(steps: int, lag: int, window: int) -> None:
    """ValueError if a sliding window of W frames would lose updates."""
    check_lag(steps, lag)
    if lag < least_lag(steps, window):
        raise ValueError(
            f"a lag of {lag} loses updates: {steps} steps in a window of {window} frames need "
            f"a lag of {least_lag(steps, window)} or more"
        )


def calls(frames: int, steps: int, lag: int) -> int:
    """Network calls until F frames are done: S + (F - 1) s."""
    return steps + (frames - 1) * lag


def states(frames: int, steps: int, lag: int, known: int = 0) -> torch.Tensor:
    """p by call, int64 [calls + 1, frames], row 0 before the first.

    The first `known` frames are done from the start; the others go as if they were alone.
    """
    check_lag(steps, lag)
    if not 0 <= known < frames:
        raise ValueError(f"{known} of {frames} frames are known: at least one must be left")
    k = torch.arange(calls(frames - known, steps, lag) + 1)[:, None]
    p = (k - torch.arange(frames - known) * lag).clamp(0, steps)
    return torch.cat([torch.full((len(p), known), steps), p], dim=1)


def window_ends(p: torch.Tensor, window: int) -> list[int]:
    """By call, the frame behind the last that the network sees, from `states`.

    It starts at W and moves on when the frame just past it is due for its first update.
    """
    started = (p[1:] > 0).sum(dim=1)
    return [min(max(window, int(count)), p.shape[1]) for count in started]
