"""A codebook that follows what is quantised by it: vector quantisation with moving averages.

Source: van den Oord et al., VQ-VAE, NeurIPS 2017 (arXiv:1711.00937), section 3 (straight-through,
commitment) and appendix A.1 (moving averages); method notes, MOSO 2b (debiased averages, Laplace
smoothing of the counts, entries that nobody uses set to the mean of the used ones).

Inferred, ours: `fit` begins with k-means on real vectors, seeded by k-means++ (Arthur and
Vassilvitskii, SODA 2007); entries drawn at random are mostly never used. An entry without a use so
far keeps its place instead of falling to zero. Dead entries may also go where a vector of the batch
is (`revive="sample"`). Looking up and learning are apart: `forward` changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import nn

_ROWS = 16_384  # distances of so many vectors are in memory at a time
_SEEDS_FROM = 8  # times as many vectors as seeds are looked at by k-means++

Revive = Literal["mean", "sample"]


@dataclass(frozen=True)
class CodebookConfig:
    """How entries follow. ValueError for what cannot be."""

    codes: int
    width: int
    decay: float = 0.99  # of the averages, per update
    smoothing: float = 1e-5  # Laplace's, of the counts
    revive_every: int = 10  # updates; then one dead entry is put back into use
    idle: int = 10_000  # updates without a use after which an entry counts as dead
    revive: Revive = "mean"  # where to: the mean of the used entries, or a vector of the batch

    def __post_init__(self) -> None:
        if min(self.codes, self.width, self.revive_every, self.idle) < 1:
            raise ValueError(f"codes, width, revive_every and idle must be 1 or more: {self}")
        if not (0 <= self.decay < 1 and 0 <= self.smoothing < 1):
            raise ValueError(f"decay or smoothing out of range: {self}")
        if self.revive not in ("mean", "sample"):
            raise ValueError(f"revive must be mean or sample, not {self.revive}")


class Quantised(NamedTuple):
    """Vectors [..., width] by their nearest entries."""

    codes: torch.Tensor  # [...] int64, their index
    vectors: torch.Tensor  # [..., width] the entries; gradients go on to the input as they come
    commitment: torch.Tensor  # scalar: mean square of input - entry; no gradient to the entry


class Codebook(nn.Module):
    """Entries, and the averages they come from, as buffers: a state dict holds all of it."""

    entries: torch.Tensor
    count: torch.Tensor
    total: torch.Tensor
    mass: torch.Tensor
    idle: torch.Tensor
    updates: torch.Tensor

    def __init__(self, config: CodebookConfig) -> None:
        super().__init__()
        self.config = config
        bound = 1 / config.codes
        first = torch.empty(config.codes, config.width).uniform_(-bound, bound)
        self.register_buffer("entries", first)
        self.register_buffer("count", torch.zeros(config.codes))  # average use, biased
        self.register_buffer("total", torch.zeros(config.codes, config.width))  # and sum, biased
        self.register_buffer("mass", torch.zeros(()))  # what both sum up to: 1 - decay^updates
        never = torch.full((config.codes,), config.idle, dtype=torch.int64)
        self.register_buffer("idle", never)  # updates since the last use
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> Quantised:
        """[..., width]; in float32, also under autocast."""
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            index = self.nearest(x.detach())
            entry = self.lookup(index)
            return Quantised(index, x + (entry - x).detach(), (x - entry).square().mean())

    @torch.no_grad()
    def nearest(self, x: torch.Tensor) -> torch.Tensor:
        """[..., width] to the index [...] of the entry that is least far; the first of equals."""
        return _nearest(x.flatten(0, -2), self.entries).view(x.shape[:-1])

    def lookup(self, index: torch.Tensor) -> torch.Tensor:
        """int64 [...] to entries [..., width]."""
        return self.entries[index]

    @torch.no_grad()
    def learn(
        self, x: torch.Tensor, index: torch.Tensor, generator: torch.Generator | None = None
    ) -> None:
        """One update from vectors [N, width] and their entries' index [N].

        `generator` (CPU) draws where a dead entry goes; needed for `revive="sample"` alone.
        """
        config = self.config
        count, total = _sums(x, index, config.codes)
        self.count.lerp_(count, 1 - config.decay)
        self.total.lerp_(total, 1 - config.decay)
        self.mass.lerp_(torch.ones_like(self.mass), 1 - config.decay)
        self.updates += 1
        self.idle.add_(1).masked_fill_(count > 0, 0)
        self.entries.copy_(torch.where((self.count > 0)[:, None], self._averages(), self.entries))
        if int(self.updates) % config.revive_every == 0:
            self._revive(x, generator)

    def _averages(self) -> torch.Tensor:
        count, total = self.count / self.mass, self.total / self.mass
        whole, smoothing = count.sum(), self.config.smoothing
        smooth = (count + smoothing) / (whole + self.config.codes * smoothing) * whole
        return total / smooth[:, None].clamp(min=1e-12)

    def _revive(self, x: torch.Tensor, generator: torch.Generator | None) -> None:
        """The dead entry that has waited longest, the first of equals, gets a place again."""
        longest = int(self.idle.argmax())
        if int(self.idle[longest]) < self.config.idle:
            return
        if self.config.revive == "sample":
            if generator is None:
                raise ValueError("a generator is needed to draw where a dead entry goes")
            place = x[int(torch.randint(len(x), (), generator=generator))]
        else:
            used = self.idle < self.config.idle
            place = self.entries[used].mean(dim=0)
        self.entries[longest] = place
        self.count[longest] = 0
        self.total[longest] = 0
        self.idle[longest] = 0

    @torch.no_grad()
    def fit(self, x: torch.Tensor, generator: torch.Generator, rounds: int = 8) -> None:
        """Entries by k-means on vectors [N, width], as if they had been learned for long.

        ValueError for fewer vectors than entries.
        """
        codes = self.config.codes
        if x.ndim != 2 or len(x) < codes:
            raise ValueError(f"{tuple(x.shape)} are not vectors for {codes} entries")
        entries = _seeds(x, codes, generator)
        for _ in range(rounds):
            count, total = _sums(x, _nearest(x, entries), codes)
            used = count > 0
            entries[used] = total[used] / count[used, None]
        count, total = _sums(x, _nearest(x, entries), codes)
        self.entries.copy_(entries)
        self.count.copy_(count)
        self.total.copy_(total)
        self.mass.fill_(1)
        self.updates.zero_()
        self.idle.copy_(torch.where(count > 0, 0, self.config.idle))


def perplexity(index: torch.Tensor, codes: int) -> float:
    """How many entries are in use, each counted by its share: exp of the index's entropy."""
    share = torch.bincount(index.flatten(), minlength=codes).double() / max(index.numel(), 1)
    return float(torch.exp(-torch.xlogy(share, share).sum()))


def _nearest(x: torch.Tensor, entries: torch.Tensor) -> torch.Tensor:
    """|x - e|^2 without |x|^2, which is the same for all entries."""
    half, turned = entries.square().sum(dim=1) / 2, entries.T
    parts = (torch.addmm(half, part, turned, alpha=-1) for part in torch.split(x, _ROWS))
    return torch.cat([part.argmin(dim=1) for part in parts])


def _sums(x: torch.Tensor, index: torch.Tensor, codes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Per entry: how many vectors, and their sum."""
    count = torch.bincount(index, minlength=codes).to(x.dtype)
    return count, x.new_zeros(codes, x.shape[1]).index_add_(0, index, x)


def _seeds(x: torch.Tensor, codes: int, generator: torch.Generator) -> torch.Tensor:
    """k-means++: each seed is drawn by its square distance to the nearest one so far."""
    some = torch.randperm(len(x), generator=generator)[: codes * _SEEDS_FROM]
    x = x[some.to(x.device)]
    chosen = [x[0]]
    distance = torch.full((len(x),), torch.inf, device=x.device)
    draws = torch.rand(codes, generator=generator, dtype=torch.float64).tolist()
    for share in draws[1:]:
        distance = torch.minimum(distance, (x - chosen[-1]).square().sum(dim=1))
        mass = distance.double().cumsum(0)
        place = torch.searchsorted(mass, mass[-1:] * share, right=True).clamp(max=len(x) - 1)
        chosen.append(x[int(place)])
    return torch.stack(chosen)
