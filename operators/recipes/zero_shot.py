"""What a backbone tells without any learning: hand-written prompts, the baseline of the card.

Three ways, all common: one sentence each for real and attack; the mean of several (prompt ensemble,
Radford et al. 2021, arXiv:2103.00020, 3.1.4); every sentence of the priors against those of genuine
faces. Scores are log-odds, which order faces as the probability does and do not saturate. The
sentences are ours, written before any figure was seen.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.nn import functional

from operators.nn.prompts.learner import encode_texts
from operators.nn.spoof_prompts.model import text_side
from operators.nn.spoof_prompts.priors import Priors
from operators.nn.vlm.interface import Vlm
from operators.recipes.face_scores import F64

PAIR = ("a photo of a real face.", "a photo of a spoof face.")
REAL = (
    "a photo of a real face.",
    "a photo of a live person.",
    "a genuine human face in front of the camera.",
    "this is a bona fide face.",
    "a picture of a living person's face.",
)
ATTACK = (
    "a photo of a spoof face.",
    "a photo of a fake face.",
    "a face shown on a screen.",
    "a face printed on paper.",
    "a person wearing a mask of a face.",
)


def zero_shot(vlm: Vlm, x: torch.Tensor, priors: Priors) -> Mapping[str, F64]:
    """By the name of the way, [n] scores of unit features x [n, dim]: higher = more bona fide."""
    text, tokenizer = text_side(vlm)

    def of(texts: tuple[str, ...]) -> torch.Tensor:
        return encode_texts(text, tokenizer, texts)

    def mean(texts: tuple[str, ...]) -> torch.Tensor:
        return functional.normalize(of(texts).mean(0, keepdim=True), dim=1)

    ways = {
        "one sentence each": (of(PAIR[:1]), of(PAIR[1:])),
        "mean of five": (mean(REAL), mean(ATTACK)),
        "all priors": (of(priors.genuine), of(priors.texts)),
    }
    return {name: _log_odds(x, *banks, vlm.logit_scale) for name, banks in ways.items()}


def _log_odds(x: torch.Tensor, real: torch.Tensor, attack: torch.Tensor, s: float) -> F64:
    """log p_real / (1 - p_real) with p from the softmax over all texts of both banks."""
    z_real, z_attack = ((s * x.double() @ bank.double().T).logsumexp(1) for bank in (real, attack))
    odds: F64 = (z_real - z_attack).numpy()
    return odds
