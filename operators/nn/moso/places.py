"""Where a token is: what is added to its embedding, for the content stack and the motion stack.

Source: method notes, MOSO 2b. `published`: sinusoids of three numbers, each behind a LayerNorm:
index in the sequence, column in the map, frame. Objects take the first entries of the scene's
columns, whatever their own map's width (a quirk, kept). Inferred: the motion stack counts the index
within a frame, guidance first, and guidance has no column.

Ours, `learned`: one table that begins as sinusoids of row and column in units of the frame, so that
tokens of scene, object and motion at one place of the picture begin alike, and a direction of
its own for each kind.
"""

from __future__ import annotations

import torch
from torch import nn

from operators.nn.blocks.embedding import place_table, sinusoid
from operators.nn.moso.config import ClipLayout

_LONGEST = 100.0  # of sinusoids over a map: 32 places at most
_KIND = 0.5  # of a kind's direction, beside sinusoids of root mean square 0.7
_QUIET = 0.3  # both times this, beside tokens of root mean square 1


class FixedPlaces(nn.Module):
    """Sinusoids of 0..count-1, or of these modulo `period`, then a LayerNorm that learns."""

    def __init__(self, count: int, width: int, period: int | None = None) -> None:
        super().__init__()
        table = place_table(period or count, width)
        table = table.repeat(-(-count // len(table)), 1)[:count]
        self.register_buffer("table", table, persistent=False)
        self.norm = nn.LayerNorm(width)

    def forward(self) -> torch.Tensor:
        """[N, width]"""
        y: torch.Tensor = self.norm(self.table)
        return y


class PublishedContent(nn.Module):
    """[scene + object + T, width]"""

    def __init__(self, layout: ClipLayout, width: int) -> None:
        super().__init__()
        scene, self.objects = layout.scene_tokens, layout.object_tokens
        self.index = FixedPlaces(scene + self.objects + layout.frames, width)
        self.column = FixedPlaces(scene, width, layout.scene_side)
        self.frame = FixedPlaces(layout.frames, width)

    def forward(self) -> torch.Tensor:
        """What is added."""
        column = self.column()
        y: torch.Tensor = self.index() + torch.cat([column, column[: self.objects], self.frame()])
        return y


class PublishedMotion(nn.Module):
    """[T, 1 + motion_tokens, width]: guidance first."""

    def __init__(self, layout: ClipLayout, width: int) -> None:
        super().__init__()
        tokens = layout.motion_tokens
        self.index = FixedPlaces(1 + tokens, width)
        self.column = FixedPlaces(tokens, width, layout.motion_side)
        self.frame = FixedPlaces(layout.frames, width)

    def forward(self) -> torch.Tensor:
        """What is added."""
        within = self.index() + nn.functional.pad(self.column(), (0, 0, 1, 0))
        y: torch.Tensor = within + self.frame()[:, None]
        return y


class LearnedContent(nn.Module):
    """[scene + object + T, width]"""

    def __init__(self, layout: ClipLayout, width: int) -> None:
        super().__init__()
        span = layout.scene_side
        tables = [grid_table(side, span, width) for side in (span, layout.object_side)]
        tables.append(place_table(layout.frames, width))
        self.table = nn.Parameter(torch.cat([table + _kind(width) for table in tables]) * _QUIET)

    def forward(self) -> torch.Tensor:
        """What is added."""
        return self.table


class LearnedMotion(nn.Module):
    """[T, 1 + motion_tokens, width]: guidance first."""

    def __init__(self, layout: ClipLayout, width: int) -> None:
        super().__init__()
        grid = grid_table(layout.motion_side, layout.scene_side, width) + _kind(width)
        self.within = nn.Parameter(torch.cat([_kind(width), grid]) * _QUIET)
        self.frame = nn.Parameter(place_table(layout.frames, width) * _QUIET)

    def forward(self) -> torch.Tensor:
        """What is added."""
        return self.within + self.frame[:, None]


def grid_table(side: int, span: int, width: int) -> torch.Tensor:
    """[side^2, width]: half the numbers tell the row, half the column, of a place's centre.

    Measured in places of a map of `span` to a side, so that maps of different sides agree.
    """
    centres = (torch.arange(side) + 0.5) * span / side - 0.5
    line = sinusoid(centres, width // 2, _LONGEST)
    return torch.cat([line.repeat_interleave(side, 0), line.repeat(side, 1)], dim=1)


def _kind(width: int) -> torch.Tensor:
    return torch.randn(1, width) * _KIND
