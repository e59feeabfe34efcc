"""Masked token modelling: how many tokens are hidden in training, and decoding by confidence.

Source: Chang et al., MaskGIT, CVPR 2022 (arXiv:2202.04200), sections 3.1 and 3.2: gamma(r) =
cos(pi r / 2); counts, constant temperature and groups as in method notes, MOSO 2c to 2e. After
step k = 0..S-1 of S, clamp(floor(gamma((k + 1) / S) L), 1, masked - 1) tokens of L are hidden. At
least one always is, so what a run gives back are the tokens drawn at its last step, and never the
buffer in which the least sure ones are hidden again.

Inferred, ours: one uniform number picks a token by its cumulated probability, since drawing one per
token and vocabulary entry costs more than a small network itself. A row with known tokens counts
with the L that it hides at the start; confidence is the logarithm of the untempered probability.
Every clip draws from a generator of its own, so that a batch is its clips one by one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

Parts = Sequence[torch.Tensor]  # groups of tokens that one network call sees together
Guess = Callable[[Parts], Parts]  # tokens [B, ..., L] of each part to logits [B, ..., L, V] of each


def gamma(r: float) -> float:
    """The share that is hidden when a share `r` in 0..1 of the way is done: 1 to 0."""
    return math.cos(math.pi * r / 2)


def training_counts(rates: torch.Tensor, length: int) -> torch.Tensor:
    """clamp(int(rate L), 1, L - 1) for rates in 0..1 of any shape, int64. ValueError for L < 2."""
    if length < 2:
        raise ValueError(f"of {length} tokens some cannot be hidden and some be shown")
    return (rates * length).long().clamp(1, length - 1)


def training_rates(count: int, generator: torch.Generator) -> torch.Tensor:
    """[count] float64: gamma(u) of uniform u."""
    u = torch.rand(count, generator=generator, dtype=torch.float64)
    return torch.cos(u * (math.pi / 2))


def hide(shape: Sequence[int], counts: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Bool of `shape` [..., L], True at `counts` [...] (or what expands to it) places of each row.

    Every choice of that many places is equally likely.
    """
    return lowest(torch.rand(tuple(shape), generator=generator), counts)


def lowest(values: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Bool [..., L], True at the `counts` [...] lowest of each row; equal ones in their order."""
    ranks = values.argsort(dim=-1, stable=True).argsort(dim=-1)
    return ranks < counts[..., None]


def still_hidden(step: int, steps: int, start: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """How many are to be hidden after `step`; `start` at first and `hidden` before it, int64 [...].

    clamp(floor(gamma((step + 1) / steps) start), 1, hidden - 1), and 0 where nothing was hidden.
    """
    wanted = (start.double() * gamma((step + 1) / steps)).floor().long()
    return wanted.minimum(hidden - 1).clamp(min=1).minimum(start)


@dataclass(frozen=True)
class DecodePlan:
    """How hidden tokens are filled in. ValueError for what cannot be."""

    steps: int  # S, network calls
    temperature: float = 0.0  # of the Gumbel noise on confidences, the same at every step
    sharpness: float = (
        1.0  # logits are multiplied by it before a token is drawn; inf: the likeliest
    )

    def __post_init__(self) -> None:
        if self.steps < 1 or not 0 <= self.temperature < math.inf or not self.sharpness > 0:
            raise ValueError(f"steps, temperature or sharpness out of range: {self}")


def pick(logits: torch.Tensor, u: torch.Tensor, sharpness: float = 1.0) -> torch.Tensor:
    """Tokens int64 [...] from logits [..., V], one uniform `u` [...] in [0, 1) each.

    The first token whose cumulated probability passes u. `sharpness` inf: the likeliest.
    """
    if math.isinf(sharpness):
        return logits.argmax(dim=-1)
    sums = (logits.float() * sharpness).softmax(dim=-1).cumsum(dim=-1)
    target = u.to(sums)[..., None] * sums[..., -1:]
    index = torch.searchsorted(sums, target, right=True)[..., 0]
    return index.clamp(max=logits.shape[-1] - 1)


def uniform(shape: Sequence[int], generators: Sequence[torch.Generator]) -> torch.Tensor:
    """[B, ...] float32 in [0, 1), row by row from B CPU generators. ValueError for another B."""
    if shape[0] != len(generators):
        raise ValueError(f"{shape[0]} clips need as many generators, not {len(generators)}")
    return torch.stack([torch.rand(tuple(shape[1:]), generator=own) for own in generators])


def decode(
    parts: Parts,
    mask: int,
    guess: Guess,
    plan: DecodePlan,
    generators: Sequence[torch.Generator],
) -> list[torch.Tensor]:
    """Fill in what holds the token `mask`: S calls of `guess`, the surest tokens stay each time.

    `parts`: int64 [B, ..., L] each, B the same; each row of L hides its own number of tokens. The
    other tokens never change. `guess` gives logits over the tokens that may be filled in.
    """
    tokens = list(parts)
    start = [(part == mask).sum(dim=-1) for part in tokens]
    hidden = list(start)
    for step in range(plan.steps):
        for i, logits in enumerate(guess(tokens)):
            if step + 1 < plan.steps:
                hidden[i] = still_hidden(step, plan.steps, start[i], hidden[i])
            else:
                hidden[i] = torch.zeros_like(start[i])
            tokens[i] = _filled(tokens[i], logits, mask, hidden[i], plan, generators)
    return tokens


def _filled(
    tokens: torch.Tensor,
    logits: torch.Tensor,
    mask: int,
    hidden: torch.Tensor,
    plan: DecodePlan,
    generators: Sequence[torch.Generator],
) -> torch.Tensor:
    """The tokens with every hidden one drawn, the `hidden` [B, ...] least sure of these hidden."""
    was = tokens == mask
    u, v = uniform((len(tokens), 2, *tokens.shape[1:]), generators).to(logits.device).unbind(1)
    own = logits[was].float()
    drawn = pick(own, u[was], plan.sharpness)
    sure = own.gather(-1, drawn[:, None])[:, 0] - own.logsumexp(dim=-1)
    if plan.temperature > 0:
        sure = sure + plan.temperature * _gumbel(v[was])
    order = torch.full(tokens.shape, torch.inf, device=logits.device).masked_scatter(was, sure)
    return tokens.masked_scatter(was, drawn).masked_fill(lowest(order, hidden), mask)


def _gumbel(u: torch.Tensor) -> torch.Tensor:
    tiny = torch.finfo(u.dtype).tiny
    return -(-u.clamp(min=tiny).log()).clamp(min=tiny).log()
