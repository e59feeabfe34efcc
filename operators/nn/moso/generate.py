"""Clips out of MOSO-Transformer: prediction, long prediction, from nothing, between, recomposed.

Source: method notes, MOSO 2c and 2e (arXiv:2303.03684). Prediction: the K given frames and the last
one repeated up to T are the pseudo clip; one content pass on its tokens draws scene and object of
the true one, a second one on these gives the guidance, and S passes of the motion stack fill in the
motion of frames K+1..T, each frame on its own count. Beyond T the published code keeps scene,
object and the last K frames' motion, and their reference frame while the clip moves on. Here the
last K decoded frames, with the one before them for reference, are encoded again, as the notes
advise: these K+1 frames are all that has to be kept between two segments.

Inferred, ours: frames between known ones are asked for on a clip in which each known frame stays
until the next. Chance is named by seed and segment alone, so a stream gives the frames of a batch.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Protocol

import torch

from operators.nn.blocks.masking import DecodePlan, Parts, decode, pick, uniform
from operators.nn.blocks.noise import keyed_generator
from operators.nn.moso.config import ClipLayout, SystemConfig
from operators.nn.moso.preprocess import pseudo_clip
from operators.nn.moso.tokens import ClipTokens
from operators.nn.moso.transformer import Content, Transformer

Chance = Sequence[torch.Generator]  # on the CPU, one for each clip of a batch


class TokenCodec(Protocol):
    """Frames to tokens and back: MOSO-VQVAE, or what a test puts in its place."""

    @property
    def layout(self) -> ClipLayout:
        """Of its clips."""

    def encode(
        self, frames: torch.Tensor, before: torch.Tensor, after: torch.Tensor | None = None
    ) -> ClipTokens:
        """Clips [B, T, 3, H, W] float in [0, 1], and the frames [B, 3, H, W] around them.

        `after` None: nothing is known of it.
        """

    def decode(self, tokens: ClipTokens) -> torch.Tensor:
        """[B, T, 3, H, W] float in [0, 1]."""


def plan_of(system: SystemConfig) -> DecodePlan:
    """The system's own way to fill in what is hidden."""
    return DecodePlan(system.steps, system.temperature, system.sharpness)


def chance(seeds: Sequence[int], segment: int) -> list[torch.Generator]:
    """One generator for each clip."""
    return [keyed_generator(seed, segment) for seed in seeds]


@torch.inference_mode()
def predict(
    transformer: Transformer, pseudo: ClipTokens, plan: DecodePlan, generators: Chance
) -> ClipTokens:
    """Tokens of the whole clip from those of the pseudo clip; K is the layout's.

    The given frames keep their motion tokens. ValueError if K is 0.
    """
    known = transformer.config.layout.condition
    if known < 1:
        raise ValueError("this layout has no given frames to predict from")
    content = transformer.content(pseudo.scene, pseudo.object)
    scene, own = (
        pick(_codes(transformer, logits), uniform(logits.shape[:2], generators), plan.sharpness)
        for logits in transformer.content_logits(content)
    )
    given = pseudo.motion[:, :known]
    hidden = torch.full_like(pseudo.motion[:, known:], transformer.vocabulary.mask)
    content = transformer.content(scene, own)
    motion = _moved(transformer, content, hidden, plan, generators, given)
    return ClipTokens(scene, own, torch.cat([given, motion], dim=1))


@torch.inference_mode()
def unconditional(transformer: Transformer, plan: DecodePlan, generators: Chance) -> ClipTokens:
    """Clips from nothing: S calls for scene and object together, one for guidance, S for motion."""
    layout, mask = transformer.config.layout, transformer.vocabulary.mask
    device = transformer.content_norm.weight.device

    def guess(parts: Parts) -> Parts:
        content = transformer.content(parts[0], parts[1])
        return [_codes(transformer, part) for part in transformer.content_logits(content)]

    sizes = (layout.scene_tokens, layout.object_tokens)
    empty = [torch.full((len(generators), size), mask, device=device) for size in sizes]
    scene, own = decode(empty, mask, guess, plan, generators)
    shape = (len(generators), layout.frames, layout.motion_tokens)
    hidden = torch.full(shape, mask, device=device)
    content = transformer.content(scene, own)
    return ClipTokens(scene, own, _moved(transformer, content, hidden, plan, generators))


@torch.inference_mode()
def interpolate(
    transformer: Transformer,
    tokens: ClipTokens,
    known: torch.Tensor,
    plan: DecodePlan,
    generators: Chance,
) -> ClipTokens:
    """The motion of the frames that are not `known` (bool [T]) anew; all other tokens stay."""
    if known.shape != (transformer.config.layout.frames,):
        raise ValueError(f"known is {tuple(known.shape)}, not one claim for each frame")
    mask = transformer.vocabulary.mask
    hidden = tokens.motion.masked_fill(~known.to(tokens.motion.device)[:, None], mask)
    content = transformer.content(tokens.scene, tokens.object)
    return tokens._replace(motion=_moved(transformer, content, hidden, plan, generators))


def recomposed(scene_of: ClipTokens, rest_of: ClipTokens) -> ClipTokens:
    """The object and motion of one clip in the scene of another."""
    return rest_of._replace(scene=scene_of.scene)


def _codes(transformer: Transformer, logits: torch.Tensor) -> torch.Tensor:
    return logits[..., : transformer.vocabulary.codes]


def _moved(
    transformer: Transformer,
    content: Content,
    hidden: torch.Tensor,
    plan: DecodePlan,
    generators: Chance,
    given: torch.Tensor | None = None,
) -> torch.Tensor:
    """`hidden` with its MASK tokens filled in, behind the `given` frames."""
    state = transformer.begin_motion(content, given)

    def guess(parts: Parts) -> Parts:
        return [_codes(transformer, transformer.continue_motion(state, parts[0]))]

    (motion,) = decode([hidden], transformer.vocabulary.mask, guess, plan, generators)
    return motion


@torch.inference_mode()
def predict_segment(
    codec: TokenCodec,
    transformer: Transformer,
    recent: torch.Tensor,
    plan: DecodePlan,
    generators: Chance,
) -> torch.Tensor:
    """The T - K frames [B, T - K, 3, H, W] that follow `recent` [B, K + 1, 3, H, W].

    The first of these is the reference alone. ValueError for another number of frames.
    """
    layout = codec.layout
    if recent.shape[1] != layout.condition + 1:
        raise ValueError(f"{recent.shape[1]} frames, not one more than {layout.condition} given")
    pseudo = _encoded(codec, recent)
    return codec.decode(predict(transformer, pseudo, plan, generators))[:, layout.condition :]


def _encoded(codec: TokenCodec, images: torch.Tensor) -> ClipTokens:
    """A reference and the frames of a clip behind it, whose last one stays to the end."""
    clip = pseudo_clip(images, codec.layout.frames)
    return codec.encode(clip.frames, clip.before, clip.after)


def predict_segments(
    codec: TokenCodec,
    transformer: Transformer,
    recent: torch.Tensor,
    plan: DecodePlan,
    seeds: Sequence[int],
    first: int = 0,
) -> Iterator[torch.Tensor]:
    """Segment after segment, without end, beginning with number `first` behind `recent`.

    A stream may stop at any segment and go on later from its last K + 1 frames and the number of
    the next. One seed for each clip of the batch.
    """
    for segment in itertools.count(first):
        frames = predict_segment(codec, transformer, recent, plan, chance(seeds, segment))
        yield frames
        recent = torch.cat([recent, frames], dim=1)[:, -recent.shape[1] :]


def predict_frames(
    codec: TokenCodec,
    transformer: Transformer,
    recent: torch.Tensor,
    count: int,
    plan: DecodePlan,
    seeds: Sequence[int],
) -> torch.Tensor:
    """The `count` frames that follow, [B, count, 3, H, W]."""
    made, parts = 0, []
    for frames in predict_segments(codec, transformer, recent, plan, seeds):
        parts.append(frames)
        made += frames.shape[1]
        if made >= count:
            break
    return torch.cat(parts, dim=1)[:, :count]


@torch.inference_mode()
def between(
    codec: TokenCodec,
    transformer: Transformer,
    frames: torch.Tensor,
    before: torch.Tensor,
    plan: DecodePlan,
    generators: Chance,
) -> torch.Tensor:
    """Frames between known ones [B, n, 3, H, W], n >= 2, as many as fit into a clip evenly.

    [B, (n - 1) r + 1, 3, H, W] with r = floor((T - 1) / (n - 1)), each r-th a known frame as it
    came; `before` [B, 3, H, W] is the reference. ValueError if r is below 2.
    """
    length, count = codec.layout.frames, frames.shape[1]
    rate = (length - 1) // (count - 1) if count > 1 else 0
    if rate < 2:
        raise ValueError(f"{count} known frames leave no room between them in {length}")
    shown = frames.repeat_interleave(rate, dim=1)[:, :length]
    tokens = _encoded(codec, torch.cat([before[:, None], shown], dim=1))
    index = torch.arange(length)
    known = (index % rate == 0) & (index < count * rate)
    made = codec.decode(interpolate(transformer, tokens, known, plan, generators))
    made = made[:, : (count - 1) * rate + 1].clone()
    made[:, ::rate] = frames
    return made
