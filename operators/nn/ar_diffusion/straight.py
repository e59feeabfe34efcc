"""A linear way past both networks: a cell's pixels to its token, and back.

Inferred, ours. Anchored tokens each have a cell of the frame. Its pixels' principal components are
what a linear map of so few numbers keeps best; networks find that only after very many steps, and
then have yet to learn what is not linear. So components go to the token and back on a way of their
own, whose matrices are learned like all others from there on.

Tokens are unit vectors. `onto_sphere` is the inverse stereographic projection: C - 1 numbers as a
unit vector of C without losing their length. First weights share out the sphere's room as noise on
tokens asks for: a component of variance v gets amplitude v^(1/4), the least mean error for a given
sum of squares (Lee and Petersen, IEEE Trans. Commun. 24(12), 1976).
"""

from __future__ import annotations

from typing import cast

import torch
from torch import nn
from torch.nn import functional

from operators.nn.ar_diffusion.config import VaeConfig


def onto_sphere(y: torch.Tensor) -> torch.Tensor:
    """[..., C - 1] to unit vectors [..., C]; 0 goes to (0, .., 0, -1), |y| = 1 to the equator."""
    square = y.square().sum(dim=-1, keepdim=True)
    return torch.cat([2 * y, square - 1], dim=-1) / (square + 1)


def from_sphere(z: torch.Tensor) -> torch.Tensor:
    """Unit vectors [..., C] back to [..., C - 1], at most 20 long: noise may hit the far pole."""
    return z[..., :-1] / (1 - z[..., -1:]).clamp(min=0.005)


class CellsIn(nn.Module):
    """[B, 3, size_px, size_px] to [B, tokens, channels - 1]."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        self.cells = nn.Conv2d(3, config.channels - 1, config.cell_px, config.cell_px)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """See the class."""
        y: torch.Tensor = self.cells(frames)
        return y.flatten(2).transpose(1, 2)


class CellsOut(nn.Module):
    """[B, tokens, channels - 1] to [B, 3, size_px, size_px]."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        self.cell_px = config.cell_px
        self.side = config.side
        self.pixels = nn.Linear(config.channels - 1, 3 * config.cell_px**2)

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        """See the class."""
        cells = self.pixels(y).transpose(1, 2).unflatten(2, (self.side, self.side))
        frames: torch.Tensor = functional.pixel_shuffle(cells, self.cell_px)
        return frames


@torch.no_grad()
def fit_components(
    into: CellsIn, out: CellsOut, frames: torch.Tensor, weight: torch.Tensor
) -> None:
    """First weights from frames [B, 3, S, S] in [0, 1] and the weight of each pixel [B, 1, S, S].

    Coefficients of an average cell have length 1. ValueError for fewer cells than pixels in one.
    """
    size = into.cells.kernel_size[0]
    cells = functional.pixel_unshuffle(frames, size).movedim(1, -1).flatten(0, 2).double()
    share = functional.avg_pool2d(weight, size).flatten().double()
    if len(cells) < cells.shape[1]:
        raise ValueError(f"{len(cells)} cells of {cells.shape[1]} numbers: give more frames")
    share = share / share.sum()
    mean = share @ cells
    centred = cells - mean
    variance, axes = torch.linalg.eigh((centred * share[:, None]).T @ centred)
    count = into.cells.out_channels
    variance, axes = variance[-count:].flip(0).clamp(min=1e-8), axes[:, -count:].flip(1)
    gain = variance.rsqrt().sqrt() / variance.sqrt().sum().sqrt()
    matrix = axes.T * gain[:, None]
    into.cells.weight.copy_(matrix.view(count, 3, size, size))
    cast(nn.Parameter, into.cells.bias).copy_(-matrix @ mean)
    out.pixels.weight.copy_(axes / gain)
    out.pixels.bias.copy_(mean)
