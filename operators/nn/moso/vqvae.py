"""MOSO-VQVAE: a clip as tokens of scene, object and motion, and frames out of these tokens.

Source: Sun et al., MOSO, CVPR 2023 (arXiv:2303.03684); method notes, MOSO 2b. Tokens always come
from full frames: masked ones are for the beginning of learning (see `training`). Inferred, ours:
the straight way, see `straight`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from operators.nn.blocks.vq import Codebook, CodebookConfig, Revive
from operators.nn.moso.config import ClipLayout, VqvaeConfig
from operators.nn.moso.decoder import Decoder
from operators.nn.moso.encoders import ContentEncoder, MotionEncoder
from operators.nn.moso.merge import Content, Merge
from operators.nn.moso.preprocess import Clip, Parts, differences, orders, parted
from operators.nn.moso.straight import Gate, StraightIn
from operators.nn.moso.tokens import ClipTokens


class Codes(NamedTuple):
    """Numbers that have a code each, channels first."""

    scene: torch.Tensor  # [B, code_width, scene_side, scene_side]
    object: torch.Tensor  # [B, code_width, object_side, object_side]
    motion: torch.Tensor  # [B, T, code_width, motion_side, motion_side]

    def rows(self) -> torch.Tensor:
        """All of them as vectors [N, code_width]."""
        return torch.cat([_last(part).flatten(0, -2) for part in self])


class Coded(NamedTuple):
    """A clip behind the codebook."""

    tokens: ClipTokens
    codes: Codes  # entries; gradients go on to what they were chosen for
    chosen_for: Codes  # before the codebook
    commitment: torch.Tensor  # [3]: of scene, object and motion, see `Quantised`

    def indices(self) -> torch.Tensor:
        """int64 [N], as `Codes.rows`."""
        return torch.cat([part.flatten() for part in self.tokens])


class Vqvae(nn.Module):
    """Three encoders, one codebook, a merge, a decoder."""

    def __init__(self, config: VqvaeConfig) -> None:
        super().__init__()
        self.config = config
        layout, width, code_width = config.layout, config.width, config.code_width
        self.scene_encoder = ContentEncoder(config, layout.scene_side)
        self.object_encoder = ContentEncoder(config, layout.object_side)
        self.motion_encoder = MotionEncoder(config)
        self.scene_in, self.object_in, self.motion_in = (
            nn.Conv2d(width, code_width, 1) for _ in range(3)
        )
        revive: Revive = "sample" if config.straight else "mean"
        self.codebook = Codebook(CodebookConfig(layout.codes, code_width, revive=revive))
        self.scene_out, self.object_out, self.motion_out = (
            nn.ConvTranspose2d(code_width, width, 1) for _ in range(3)
        )
        self.merge = Merge(config)
        self.decoder = Decoder(config)
        self.straight = StraightIn(config) if config.straight else None
        self.gate = Gate(config) if config.straight else None

    @property
    def layout(self) -> ClipLayout:
        """Of its clips."""
        return self.config.layout

    def encode(
        self, frames: torch.Tensor, before: torch.Tensor, after: torch.Tensor | None = None
    ) -> ClipTokens:
        """[B, T, 3, H, W] float in [0, 1], and the frames around them [B, 3, H, W], to tokens.

        `after` None: nothing is known of it. ValueError for what is no clip of this config.
        """
        return self.coded(Clip(before, frames, after)).tokens

    def decode(self, tokens: ClipTokens) -> torch.Tensor:
        """Tokens to frames [B, T, 3, H, W], clamped to [0, 1]. ValueError for no such tokens."""
        tokens.check(self.layout)
        return self.frames(self.content(tokens.scene, tokens.object), tokens.motion).clamp(0, 1)

    def content(self, scene: torch.Tensor, own: torch.Tensor) -> Content:
        """Tokens of scene and object [B, tokens] to what all frames of the clip share."""
        sides = self.layout.scene_side, self.layout.object_side
        maps = (self._entries(part, side) for part, side in zip((scene, own), sides, strict=True))
        return self._content(*maps)

    def frames(self, content: Content, motion: torch.Tensor) -> torch.Tensor:
        """Motion tokens [B, n, tokens] to frames [B, n, 3, H, W], about 0..1, not clamped.

        Any n, one by one if need be; all T if the decoder is temporal.
        """
        return self._frames(content, self._entries(motion, self.layout.motion_side))

    def coded(
        self, clip: Clip, parts: Parts | None = None, generator: torch.Generator | None = None
    ) -> Coded:
        """Through encoders and codebook; `parts` puts masked frames in place of the full ones.

        `generator`: of dropout, while learning. ValueError for what is no clip of this config.
        """
        clip.check(self.config)
        motion = differences(clip, self.config) if parts is None else parts.motion
        scene_seen, object_seen = self._seen(clip, parts)
        scene = self.scene_in(self.scene_encoder(scene_seen))
        own = self.object_in(self.object_encoder(object_seen))
        moves = self.motion_in(self.motion_encoder(motion, generator).flatten(0, 1))
        moves = moves.unflatten(0, motion.shape[:2])
        if self.straight is not None:
            scene = scene + self.straight.content(scene_seen[:, 0])
            moves = moves + self.straight.motion(motion)
        scene_found = self.codebook(_last(scene))
        if self.straight is not None:
            said = scene_found.vectors.detach().movedim(-1, 1)
            own = own + self.straight.content(object_seen[:, 1]) - said
        found = (scene_found, self.codebook(_last(own)), self.codebook(_last(moves)))
        return Coded(
            ClipTokens(*(part.codes.flatten(-2) for part in found)),
            Codes(*(part.vectors.movedim(-1, -3) for part in found)),
            Codes(scene, own, moves),
            torch.stack([part.commitment for part in found]),
        )

    def forward(
        self, clip: Clip, is_masked: bool = False, generator: torch.Generator | None = None
    ) -> tuple[torch.Tensor, Coded]:
        """Frames [B, T, 3, H, W], not clamped, and what they came from.

        `is_masked`: the scene's encoder sees no objects, the object's nothing else. `generator`:
        of dropout, while learning.
        """
        parts = parted(clip, self.config) if is_masked else None
        coded = self.coded(clip, parts, generator)
        content = self._content(coded.codes.scene, coded.codes.object)
        return self._frames(content, coded.codes.motion, generator), coded

    def _seen(self, clip: Clip, parts: Parts | None) -> tuple[torch.Tensor, torch.Tensor]:
        """What the encoders of scene and object are given, [B, N, 3, H, W] each."""
        if parts is None:
            seen = orders(clip.frames) if self.config.stacking == "order" else clip.frames
            return seen, seen
        if self.config.stacking == "order":
            return orders(parts.scene), orders(parts.object)
        return parts.scene, parts.object

    def _content(self, scene: torch.Tensor, own: torch.Tensor) -> Content:
        return self.merge.content(self.scene_out(scene), self.object_out(own))

    def _frames(
        self, content: Content, moves: torch.Tensor, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        more = None if self.gate is None else self.gate(content.object, moves)
        features = self.motion_out(moves.flatten(0, 1)).unflatten(0, moves.shape[:2])
        frames: torch.Tensor = self.decoder(self.merge(content, features, more), generator)
        return frames

    def _entries(self, tokens: torch.Tensor, side: int) -> torch.Tensor:
        """[..., side^2] to [..., code_width, side, side]."""
        entries = self.codebook.lookup(tokens)
        return entries.view(*tokens.shape[:-1], side, side, -1).movedim(-1, -3)


def _last(codes: torch.Tensor) -> torch.Tensor:
    """Channels last."""
    return codes.movedim(-3, -1)
