"""MOSO-Transformer: from the tokens of a scene and an object to motion, by one vector per frame.

Source: method notes, MOSO 2b (arXiv:2303.03684). The content stack sees scene, object and one
command per frame, all of them both ways; what the commands become is the guidance h_1..h_T. The
motion stack has h_t in front of each frame's tokens; a layer is attention within a frame, attention
over frames at one index, and an MLP. Embedding and head are shared by both. Inferred: norms at both
ends, as in all pre-LN transformers; guidance is taken behind the norm.

Ours, for short training and two cores (each a field of `TransformerConfig`): `tied` logits are
products with the embedding's own rows, no GELU between, and rows may begin as the codebook's
entries (`start_from`), so that a token's first guess is itself and what looks like it. `grounded`
motion tokens hear scene and object at their own place; otherwise all of the content has to pass
through h_t. Hidden motion tokens are `held` at those of the last given frame, as which they begin:
a frozen picture need not be learned. With `prefix`, given frames do not see later ones: they are
the same at every decoding step, and their keys and values are kept.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import nn
from torch.nn import functional

from operators.nn.blocks.attention import Attention, KeyValue
from operators.nn.blocks.start import xavier
from operators.nn.blocks.transformer import Block, Mlp
from operators.nn.moso.config import TransformerConfig
from operators.nn.moso.places import (
    LearnedContent,
    LearnedMotion,
    PublishedContent,
    PublishedMotion,
)
from operators.nn.moso.tokens import Vocabulary, vocabulary

_QUIET = 0.3  # root mean square of what is to be heard beside tokens, but not for one


class Content(NamedTuple):
    """What the content stack made of a clip, [B, n, width] each, behind the last norm."""

    scene: torch.Tensor  # n = scene_tokens
    object: torch.Tensor  # n = object_tokens
    guidance: torch.Tensor  # n = T: h_1..h_T


class MotionState(NamedTuple):
    """What does not change while the motion of the frames behind the first `given` is decoded."""

    given: torch.Tensor  # [B, n, 1 + motion_tokens, width]: given frames, n = 0 with `past`
    base: torch.Tensor  # [B, F, 1 + motion_tokens, width]: the rest, but for its tokens
    past: tuple[KeyValue, ...] | None  # by layer: of given frames, at each index
    held: torch.Tensor | None = None  # [B, 1, motion_tokens, width]: added to what is hidden


class TokenEmbedding(nn.Module):
    """Tokens in, logits out."""

    def __init__(self, config: TransformerConfig, size: int) -> None:
        super().__init__()
        self.tied, self.dropout = config.tied, config.dropout
        self.table = nn.Embedding(size, config.embed_width)
        self.into = nn.Linear(config.embed_width, config.width)
        self.head = None if config.tied else nn.Linear(config.width, size)
        self.bias = nn.Parameter(torch.zeros(size)) if config.tied else None

    def forward(self, tokens: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
        """int64 [...] to [..., width]; dropout only with a generator to draw from."""
        x: torch.Tensor = self.into(self.table(tokens))
        if not self.tied:
            x = functional.gelu(x)
        if self.dropout == 0 or generator is None:
            return x
        kept = torch.rand(x.shape, generator=generator) >= self.dropout
        return x * kept.to(x) / (1 - self.dropout)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """[..., width] to [..., whole vocabulary]."""
        if self.head is not None:
            y: torch.Tensor = self.head(x)
            return y
        width = self.table.weight.shape[1]
        back = (x @ self.into.weight) * width**-0.5
        return functional.linear(back, self.table.weight, self.bias)


class MotionLayer(nn.Module):
    """Attention within a frame, attention over frames at one index, MLP; pre-norm."""

    def __init__(self, width: int, heads: int, ratio: float) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.spatial, self.temporal = Attention(width, heads), Attention(width, heads)
        self.mlp = Mlp(width, ratio)

    def extend(self, x: torch.Tensor, past: KeyValue | None) -> tuple[torch.Tensor, KeyValue]:
        """[B, F, N, width] to the same, and keys and values over frames [B * N, heads, F, ...].

        `past`: those of frames in front, which these see and which do not see these.
        """
        batch, frames, places, width = x.shape
        x = x.flatten(0, 1)
        x = x + self.spatial(self.norm1(x))
        x = x.view(batch, frames, places, width).transpose(1, 2).flatten(0, 1)
        mixed, new = self.temporal.extend(self.norm2(x), past)
        x = x + mixed
        x = x + self.mlp(self.norm3(x))
        return x.view(batch, places, frames, width).transpose(1, 2), new


class Transformer(nn.Module):
    """Two stacks. Logits are over the whole vocabulary: cut them to the codes to sample."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config, layout, width = config, config.layout, config.width
        published = config.places == "published"
        self.vocabulary: Vocabulary = vocabulary(layout)
        self.tokens = TokenEmbedding(config, self.vocabulary.size)
        self.content_places = (PublishedContent if published else LearnedContent)(layout, width)
        self.motion_places = (PublishedMotion if published else LearnedMotion)(layout, width)
        self.content_blocks = nn.ModuleList(
            Block(width, config.heads, config.ratio) for _ in range(config.content_depth)
        )
        self.motion_layers = nn.ModuleList(
            MotionLayer(width, config.heads, config.ratio) for _ in range(config.motion_depth)
        )
        self.content_norm, self.motion_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.ground = nn.Linear(2 * width, width) if config.grounded else None
        self._first_weights()

    def _first_weights(self) -> None:
        std = self.config.first_std
        if std:
            _published_start(self, std)
        else:
            self.apply(xavier)
            _quieten(self.content_blocks)
            _quieten(self.motion_layers)
        if self.config.tied:  # what is hidden looks like no code
            nn.init.normal_(self.tokens.table.weight[self.vocabulary.mask], std=_QUIET)

    @torch.no_grad()
    def start_from(self, codebook: torch.Tensor) -> None:
        """Let codes begin as the entries [codes, embed_width] of the VQVAE's codebook.

        Each number gets variance 1 over all entries, then each entry the length that random ones
        have: with unequal lengths the longest would be everyone's first guess. ValueError for
        another shape, or entries that are all the same.
        """
        wanted = (self.vocabulary.codes, self.config.embed_width)
        if tuple(codebook.shape) != wanted:
            raise ValueError(f"a codebook of {tuple(codebook.shape)}, not {wanted}")
        entries = codebook.float() - codebook.float().mean(dim=0)
        spread = entries.std(dim=0)
        if not spread.max() > 0:
            raise ValueError("all entries of the codebook are the same")
        entries = functional.normalize(
            entries / spread.clamp(min=1e-3 * float(spread.max())), dim=1
        )
        self.tokens.table.weight[: wanted[0]] = (entries * wanted[1] ** 0.5).to(
            self.tokens.table.weight
        )

    def content(
        self, scene: torch.Tensor, own: torch.Tensor, generator: torch.Generator | None = None
    ) -> Content:
        """Tokens int64 [B, scene_tokens] and, of the object, [B, object_tokens]; MASK may be there.

        `generator`: of dropout, while learning.
        """
        commands = torch.tensor(self.vocabulary.guidance, device=scene.device)
        sequence = torch.cat([scene, own, commands.expand(len(scene), -1)], dim=1)
        x = self.tokens(sequence, generator) + self.content_places()
        for block in self.content_blocks:
            x = block(x)
        x = self.content_norm(x)
        return Content(*x.split([scene.shape[1], own.shape[1], len(commands)], dim=1))

    def content_logits(self, content: Content) -> tuple[torch.Tensor, torch.Tensor]:
        """[B, n, vocabulary] of scene and object."""
        return self.tokens.logits(content.scene), self.tokens.logits(content.object)

    def begin_motion(
        self,
        content: Content,
        given: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> MotionState:
        """`given` int64 [B, K, motion_tokens]: tokens of the first frames, None for no frames."""
        layout = self.config.layout
        shape = (len(content.guidance), layout.frames, layout.motion_tokens, self.config.width)
        tokens = self._grounded(content).expand(shape)
        base = self.motion_places() + torch.cat([content.guidance[:, :, None], tokens], dim=2)
        count = 0 if given is None else given.shape[1]
        shown, base = base[:, :count], base[:, count:]
        if given is None:
            return MotionState(shown, base, None)
        entered = self.tokens(given, generator)
        shown = _behind_guidance(shown, entered)
        held = entered[:, -1:] if self.config.held else None
        if not self.config.prefix:
            return MotionState(shown, base, None, held)
        _, past = self._motion(shown, None)
        return MotionState(shown[:, :0], base, past, held)

    def continue_motion(
        self, state: MotionState, tokens: torch.Tensor, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """Tokens int64 [B, F, motion_tokens] of frames behind the given ones, some of them MASK.

        Their logits [B, F, motion_tokens, vocabulary].
        """
        x = self.tokens(tokens, generator)
        if state.held is not None:
            x = x + state.held * (tokens == self.vocabulary.mask)[..., None]
        x = _behind_guidance(state.base, x)
        x, _ = self._motion(torch.cat([state.given, x], dim=1), state.past)
        return self.tokens.logits(self.motion_norm(x[:, state.given.shape[1] :, 1:]))

    def _grounded(self, content: Content) -> torch.Tensor:
        """[B, 1, motion_tokens, width], or a zero of the same rank."""
        if self.ground is None:
            return content.guidance.new_zeros(1, 1, 1, self.config.width)
        layout = self.config.layout
        sides = ((content.scene, layout.scene_side), (content.object, layout.object_side))
        maps = [
            functional.adaptive_avg_pool2d(
                x.transpose(1, 2).reshape(len(x), -1, side, side), layout.motion_side
            )
            for x, side in sides
        ]
        y: torch.Tensor = self.ground(torch.cat(maps, dim=1).flatten(2).transpose(1, 2))
        return y[:, None]

    def _motion(
        self, x: torch.Tensor, past: tuple[KeyValue, ...] | None
    ) -> tuple[torch.Tensor, tuple[KeyValue, ...]]:
        kept = []
        for i, layer in enumerate(self.motion_layers):
            x, new = cast(MotionLayer, layer).extend(x, None if past is None else past[i])
            kept.append(new)
        return x, tuple(kept)


def _behind_guidance(base: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Tokens [B, F, n, width] onto all but the first place of [B, F, 1 + n, width]."""
    return base + functional.pad(tokens, (0, 0, 1, 0))


def _published_start(net: nn.Module, std: float) -> None:
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.trunc_normal_(module.weight, std=std)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)


@torch.no_grad()
def _quieten(stack: nn.ModuleList) -> None:
    """Divide what N residual branches add by sqrt(N), as in GPT-2: a token is at first itself."""
    parts = [part for part in stack.modules() if isinstance(part, Attention | Mlp)]
    for part in parts:
        end = cast(nn.Linear, part.out if isinstance(part, Attention) else part[-1])
        end.weight.mul_(len(parts) ** -0.5)
