"""One prompt for real faces and K for unknown spoofs, over frozen towers.

After arXiv:2505.03611; section 2.2 (1) of the method notes. Inferred, as there: contexts are
class-specific, spoof contexts begin at the words of K different prior texts plus noise (random
ones collapse before the independence term bites), and the class words stay fixed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import nn

from operators.nn.prompts.learner import PromptLearner, contexts_from_texts, encode_texts, frozen
from operators.nn.spoof_prompts.losses import Independence
from operators.nn.spoof_prompts.priors import Priors
from operators.nn.vlm.interface import TextTower, Tokenizer, Vlm

Suffix = Literal["class", "none"]
REAL_START = "a photo of a"  # the words at which the real context begins


@dataclass(frozen=True)
class SpoofConfig:
    """Sizes, weights and margins; a weight of 0 leaves its term out. ValueError for nonsense."""

    spoof_prompts: int = 6  # K
    context: int = 8  # M
    context_noise: float = 0.02
    suffix: Suffix = "class"  # "none": prompts end in a full stop alone
    con: float = 1.0  # weight of L_con
    mar: float = 1.0  # of L_mar
    pri: float = 1.0  # of L_pri
    div: float = 1.0  # of L_div
    oc: float = 0.5  # of L_oc
    views: float = 0.0  # of the agreement of two views, where data has views
    margin: float = 0.05  # m
    tau: float = 0.8
    independence: Independence = "centred"
    batch: int = 0  # real faces per step; 0: all
    seed: int = 0

    def __post_init__(self) -> None:
        if self.spoof_prompts < 1 or self.context < 1 or self.batch < 0:
            raise ValueError(f"spoof_prompts, context start at 1, batch at 0: {self}")
        if min(self.con, self.mar, self.pri, self.div, self.oc, self.views) < 0:
            raise ValueError(f"weights are not negative: {self}")
        if not (0 <= self.margin < 2 and -1 <= self.tau <= 1 and self.context_noise >= 0):
            raise ValueError(f"margin, tau or context_noise out of range: {self}")
        if self.independence not in ("centred", "raw") or self.suffix not in ("class", "none"):
            raise ValueError(f"independence is centred or raw, suffix class or none: {self}")


COMPACT = SpoofConfig()
PAPER = SpoofConfig(spoof_prompts=8, context=16, batch=32)


class Bank(NamedTuple):
    """Features of all prompts, unit."""

    w_r: torch.Tensor  # [dim]
    w_k: torch.Tensor  # [K, dim]


class SpoofPrompts(nn.Module):
    """The contexts that are learned, and the features of the texts that hold them."""

    priors: torch.Tensor
    genuine: torch.Tensor

    def __init__(self, vlm: Vlm, priors: Priors, config: SpoofConfig) -> None:
        """Freezes both towers. ValueError if `vlm` has no text tower or tokenizer."""
        super().__init__()
        text, tokenizer = text_side(vlm)
        frozen(vlm.image, text)
        self.config = config
        starts = [REAL_START] + [
            priors.texts[number] for number in priors.first_of_each(config.spoof_prompts)
        ]
        contexts = contexts_from_texts(
            text, tokenizer, starts, config.context, config.context_noise, config.seed
        )
        named = config.suffix == "class"
        words = ["real face." if named else "."]
        words += ["spoof face." if named else "."] * config.spoof_prompts
        self.learner = PromptLearner(text, tokenizer, words, contexts)
        self.register_buffer("priors", encode_texts(text, tokenizer, priors.texts))
        self.register_buffer("genuine", encode_texts(text, tokenizer, priors.genuine))

    def forward(self) -> Bank:
        """One text pass of K + 1 prompts."""
        features = self.learner()
        return Bank(features[0], features[1:])


def text_side(vlm: Vlm) -> tuple[TextTower, Tokenizer]:
    """Text tower and tokenizer; ValueError if the model was loaded without."""
    if vlm.text is None or vlm.tokenizer is None:
        raise ValueError(f"{vlm.name} has no text tower or no tokenizer: no prompt can be learned")
    return vlm.text, vlm.tokenizer


def p_real(x: torch.Tensor, w_r: torch.Tensor, w_k: torch.Tensor, s: float) -> torch.Tensor:
    """[n] softmax(s x.[w_r; w_1..w_K])_0 of unit features x [n, dim]."""
    return torch.softmax(s * x @ torch.cat([w_r[None], w_k]).T, dim=1)[:, 0]
