"""How the learning rate goes: a straight rise, then half a cosine down to nothing.

Source: Loshchilov and Hutter, SGDR, ICLR 2017 (arXiv:1608.03983), eq. 5 without restarts; the rise
as in Goyal et al. 2017 (arXiv:1706.02677), section 2.2.
"""

from __future__ import annotations

import math


def warm_cosine(step: int, steps: int, warm_steps: int) -> float:
    """The share of the full rate in (0, 1] at `step` of 0..steps-1; it would be 0 at `steps`."""
    if step < warm_steps:
        return (step + 1) / warm_steps
    done = (step - warm_steps) / max(steps - warm_steps, 1)
    return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
