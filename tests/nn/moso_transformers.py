"""Small MOSO-Transformers, tokens for them, and a codec whose tokens can be read by eye."""

from __future__ import annotations

import dataclasses

import torch

from operators.nn.moso.config import ClipLayout, TransformerConfig
from operators.nn.moso.tokens import ClipTokens
from operators.nn.moso.transformer import Transformer

LAYOUT = ClipLayout(
    frames=5, condition=2, scene_side=4, object_side=2, motion_side=2, codes=12
)  # fmt: skip
PUBLISHED = TransformerConfig(
    LAYOUT, width=16, heads=2, content_depth=2, motion_depth=2, embed_width=6, first_std=0.3
)
OURS = dataclasses.replace(
    PUBLISHED, first_std=0.0, places="learned", tied=True, grounded=True, held=True, prefix=True
)


def transformer(config: TransformerConfig = OURS, seed: int = 1, **changes: object) -> Transformer:
    """Frozen, the same for the same seed. Tokens of published ones, fresh, are a hundredth of their
    places: here they are as loud.
    """
    torch.manual_seed(seed)
    net = Transformer(dataclasses.replace(config, **changes)).eval().requires_grad_(False)
    if not net.config.tied:
        torch.nn.init.normal_(net.tokens.table.weight)
        torch.nn.init.xavier_normal_(net.tokens.into.weight, gain=2)
    return net


def clips(batch: int = 2, layout: ClipLayout = LAYOUT, seed: int = 2) -> ClipTokens:
    """Any codes."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(batch, layout.scene_tokens), (batch, layout.object_tokens),
              (batch, layout.frames, layout.motion_tokens)]  # fmt: skip
    return ClipTokens(*(torch.randint(layout.codes, s, generator=generator) for s in shapes))


class PixelCodec:
    """Frames of 2x2 pixels whose red is the motion token's share of all codes.

    Scene and object are the first given frame's red, repeated; green tells the first scene token,
    blue nothing. `seen` keeps what was encoded.
    """

    layout = LAYOUT

    def __init__(self) -> None:
        self.seen: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    def encode(self, frames: torch.Tensor, before: torch.Tensor, after: torch.Tensor) -> ClipTokens:
        self.seen.append((frames, before, after))
        red = (frames[:, :, 0] * self.layout.codes).floor().long().clamp(max=self.layout.codes - 1)
        motion = red.flatten(2)
        return ClipTokens(motion[:, 0].repeat(1, 4), motion[:, 0], motion)

    def decode(self, tokens: ClipTokens) -> torch.Tensor:
        share = (tokens.motion + 0.5) / self.layout.codes
        red = share.unflatten(2, (2, 2))
        green = (tokens.scene[:, :1, None, None] + 0.5).expand_as(red) / self.layout.codes
        return torch.stack([red, green, torch.zeros_like(red)], dim=2)


def frames(batch: int, count: int, seed: int = 3) -> torch.Tensor:
    """[batch, count, 3, 2, 2] in [0, 1)."""
    return torch.rand(batch, count, 3, 2, 2, generator=torch.Generator().manual_seed(seed))
