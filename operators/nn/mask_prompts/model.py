"""Explicit prompts of what is known, the class prompts, the filter, and causal prompts.

After arXiv:2505.03610, in the reading of the method notes, section 3.2:

    t_{c,e} = Text([V] a photo of a {real face | 3D mask face}, {e}.)    explicit, two banks
    w_c(x)  = unit((1 - alpha) w_c^0 + alpha g_c(x)),                    w_c^0: the plain prompt
    w_c^c   = Text([V^c] a photo of a {...}.)                            causal, for kept patches

Inferred, as there: knowledge is mixed as features, after the text tower, so that a face costs no
text pass and its weights explain the verdict (`filter_mode: tokens`, for offline study only, is
left out: it needs a text pass per face and class). One context V serves both classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from operators.nn.mask_prompts.elimination import Kept, eliminate, relevance
from operators.nn.mask_prompts.filter import KnowledgeFilter, attend
from operators.nn.mask_prompts.knowledge import BANKS, CLASSES, FaceClass, Knowledge
from operators.nn.prompts.learner import PromptLearner, contexts_from_texts, frozen
from operators.nn.spoof_prompts.model import text_side
from operators.nn.vlm.interface import Vlm

NOUNS: dict[FaceClass, str] = {"real": "real face", "mask": "3D mask face"}
START = "a close camera image of"  # the words at which contexts begin
REAL, MASK = 0, 1  # places of the classes
Removal = Literal["pool", "prune"]


@dataclass(frozen=True)
class MaskConfig:
    """Sizes and weights; a weight of 0 leaves its term out. ValueError for nonsense."""

    context: int = 8  # M
    context_noise: float = 0.02
    entities: int = 12  # per class at most
    triples: int = 16
    key_dim: int = 64  # d_k
    keep_elements: int = 8  # n_k
    filter: bool = True  # False: w_c(x) = w_c^0 (ablation)
    rho: float = 0.5  # share of patches that are kept
    temperature: float = 0.1  # T, of pooling by relevance
    removal: Removal = "pool"  # in training; a head at run time always pools
    l1: float = 1.0
    l2: float = 0.5
    l3: float = 0.2
    causal_head: bool = True  # averaged with the whole image's at inference
    fresh: int = 16  # explicit prompts that pass the text tower with a gradient, per step
    refresh_steps: int = 40  # all of them are encoded anew after so many
    batch: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        sizes = (self.context, self.entities, self.key_dim, self.keep_elements, self.fresh,
                 self.refresh_steps, self.batch)  # fmt: skip
        if min(sizes) < 1 or self.triples < 0:
            raise ValueError(f"sizes start at 1, triples at 0: {self}")
        if not (0 < self.rho <= 1 and self.temperature > 0 and self.context_noise >= 0):
            raise ValueError(f"rho, temperature or context_noise out of range: {self}")
        if min(self.l1, self.l2, self.l3) < 0 or self.removal not in ("pool", "prune"):
            raise ValueError(f"weights are not negative, removal is pool or prune: {self}")
        if self.l1 == 0 and (self.causal_head or self.l2 > 0):
            raise ValueError(
                "l1 0 leaves causal prompts unlearned: causal_head false and l2 0 go with it"
            )


COMPACT = MaskConfig()
PAPER = MaskConfig(context=16, entities=30, triples=45, key_dim=128, batch=32)


class TextFeatures(NamedTuple):
    """All that comes out of the text tower, unit."""

    t: torch.Tensor  # [E, dim]: explicit prompts
    w0: torch.Tensor  # [2, dim]: plain class prompts
    wc: torch.Tensor  # [2, dim]: causal class prompts


class Elements(NamedTuple):
    """Where explicit prompts belong."""

    face_class: torch.Tensor  # [E] int64: REAL or MASK
    bank: torch.Tensor  # [E] int64: 0 entity, 1 triple


class MaskPrompts(nn.Module):
    """All that is learned."""

    def __init__(self, vlm: Vlm, knowledge: Knowledge, config: MaskConfig) -> None:
        """Freezes both towers. ValueError if `vlm` cannot read text."""
        super().__init__()
        text, tokenizer = text_side(vlm)
        frozen(vlm.image, text)
        self.config, self.knowledge = config, knowledge
        self.elements = elements_of(knowledge)
        start = contexts_from_texts(
            text, tokenizer, [START] * 2, config.context, config.context_noise, config.seed
        )
        plain = [f"a photo of a {NOUNS[name]}." for name in CLASSES]
        explicit = [f"a photo of a {NOUNS[e.face_class]}, {e.phrase}." for e in knowledge.elements]
        count = len(explicit)
        share = [0] * (count + 2) + [1] * 2
        self.learner = PromptLearner(text, tokenizer, explicit + plain * 2, start, share)
        self.filter = KnowledgeFilter(vlm.dim, config.key_dim, config.keep_elements)
        self.alpha = nn.Parameter(torch.tensor(0.5))

    def texts(self) -> TextFeatures:
        """One text pass of everything."""
        return self.parted(self.learner())

    def parted(self, features: torch.Tensor) -> TextFeatures:
        """[E + 4, dim] in the order of the learner's prompts."""
        count = len(self.knowledge.elements)
        return TextFeatures(features[:count], features[count : count + 2], features[count + 2 :])


def elements_of(knowledge: Knowledge) -> Elements:
    """Classes and banks of a knowledge's elements, as numbers."""
    return Elements(
        torch.tensor([CLASSES.index(e.face_class) for e in knowledge.elements]),
        torch.tensor([BANKS.index(e.bank) for e in knowledge.elements]),
    )


@dataclass(frozen=True)
class Vectors:
    """All that scoring needs: what a checkpoint holds, or what is being learned."""

    texts: TextFeatures
    elements: Elements
    learned: tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # W_q, W_k, sigma
    alpha: torch.Tensor
    s: float
    config: MaskConfig


class Seen(NamedTuple):
    """What B images look like by what is known."""

    g: torch.Tensor  # [B, 2, dim] unit: knowledge that matters, per class
    logits: torch.Tensor  # [B, 2]: s x.w_c(x)
    attention: torch.Tensor  # [B, E]; of each class sums to 1


def look(x: torch.Tensor, v: Vectors) -> Seen:
    """The whole image: `x` [B, dim] unit."""
    g = []
    attention = torch.zeros(len(x), len(v.texts.t), dtype=x.dtype)
    for number in (REAL, MASK):
        own = (v.elements.face_class == number).nonzero()[:, 0]
        found = attend(x, v.texts.t[own], v.elements.bank[own], v.learned, v.config.keep_elements)
        attention = attention.index_copy(1, own, found.weights)
        g.append(found.g)
    both = torch.stack(g, dim=1)
    w = v.texts.w0.expand(len(x), -1, -1)
    if v.config.filter:
        w = functional.normalize((1 - v.alpha) * v.texts.w0 + v.alpha * both, dim=2)
    return Seen(both, v.s * torch.einsum("bd,bcd->bc", x, w), attention)


def keep_patches(z: torch.Tensor, g: torch.Tensor, label: torch.Tensor, config: MaskConfig) -> Kept:
    """The patches that speak for `label` [B] (REAL or MASK): z [B, N, dim] unit, g [B, 2, dim]."""
    rows = torch.arange(len(z))
    r = relevance(z, g[rows, label], g[rows, 1 - label])
    return eliminate(z, r, config.rho, config.temperature)


def causal_logits(x_c: torch.Tensor, v: Vectors) -> torch.Tensor:
    """[B, 2] or [B, N, 2]: s x_c.w^c of unit vectors [..., dim]."""
    return v.s * x_c @ v.texts.wc.T


def p_real(x: torch.Tensor, z: torch.Tensor, v: Vectors) -> tuple[torch.Tensor, Seen]:
    """[B] mean of both heads; the causal one keeps what speaks for the class predicted."""
    seen = look(x, v)
    p = torch.softmax(seen.logits, dim=1)
    if v.config.causal_head and z.shape[1]:
        kept = keep_patches(z, seen.g, p.argmax(dim=1), v.config)
        p = (p + torch.softmax(causal_logits(kept.x_c, v), dim=1)) / 2
    return p[:, REAL], seen
