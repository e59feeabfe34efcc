"""Context vectors learned in front of fixed words: [begin][ctx_1 .. ctx_M][words][end].

Source: Zhou et al., CoOp, IJCV 2022 (arXiv:2109.01134), section 3.2; facts in section 1.3 of the
method notes. Both towers stay frozen; a step costs one text pass of all prompts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from operators.nn.vlm.interface import TextTower, Tokenizer

BATCH = 32  # of sentences in one text pass without gradient


class PromptLearner(nn.Module):
    """P prompts over C contexts of M vectors each; only `contexts` is learned."""

    words: torch.Tensor
    end_index: torch.Tensor
    first: torch.Tensor
    share: torch.Tensor

    def __init__(
        self,
        text: TextTower,
        tokenizer: Tokenizer,
        words: Sequence[str],
        contexts: torch.Tensor,
        share: Sequence[int] | None = None,
    ) -> None:
        """`words` [P]: what stands behind the context, e.g. "real face."; `contexts` [C, M, width]
        float32, where learning begins; `share` [P]: which context each prompt has, by default the
        one of its own number.

        ValueError if a prompt is longer than the tower reads, or shapes do not fit.
        """
        super().__init__()
        share = list(range(len(words))) if share is None else list(share)
        if contexts.ndim != 3 or contexts.shape[2] != text.width:
            raise ValueError(f"contexts {tuple(contexts.shape)}: [C, M, {text.width}] is needed")
        if len(share) != len(words) or not all(0 <= n < len(contexts) for n in share):
            raise ValueError(f"share {share} for {len(words)} prompts, {len(contexts)} contexts")
        self.contexts = nn.Parameter(contexts.detach().clone().float())
        self._text = (text,)  # in a tuple, so that its weights are not this module's
        count = contexts.shape[1]
        rows = [[*tokenizer.encode(sentence), tokenizer.end] for sentence in words]
        ends = torch.tensor([1 + count + len(row) - 1 for row in rows])
        longest = int(ends.max()) + 1
        if longest > text.context_length:
            raise ValueError(f"a prompt has {longest} tokens, {text.context_length} are possible")
        filled = [row + [tokenizer.end] * (longest - 1 - count - len(row)) for row in rows]
        with torch.no_grad():
            self.register_buffer("first", text.embed(torch.tensor([[tokenizer.begin]])))
            self.register_buffer("words", text.embed(torch.tensor(filled)))
        self.register_buffer("end_index", ends)
        self.register_buffer("share", torch.tensor(share))

    def forward(self, rows: torch.Tensor | None = None) -> torch.Tensor:
        """[P, dim] unit features; of the prompts in `rows` [R] int64 alone, if given."""
        share = self.share if rows is None else self.share[rows]
        words = self.words if rows is None else self.words[rows]
        ends = self.end_index if rows is None else self.end_index[rows]
        first = self.first.expand(len(share), -1, -1)
        sentences = torch.cat([first, self.contexts[share], words], dim=1)
        return functional.normalize(self._text[0](sentences, ends), dim=1)


def contexts_from_texts(
    text: TextTower, tokenizer: Tokenizer, texts: Sequence[str], count: int, noise: float, seed: int
) -> torch.Tensor:
    """[len(texts), count, width]: the embeddings of each text's words, cycled, plus N(0, noise^2).

    ValueError for a text without a word.
    """
    rows = [tokenizer.encode(sentence) for sentence in texts]
    if not all(rows) or count < 1:
        raise ValueError("every text needs a word, and every context a vector")
    tokens = torch.tensor([[row[n % len(row)] for n in range(count)] for row in rows])
    drawn = np.random.default_rng(seed).standard_normal(
        (len(texts), count, text.width), dtype=np.float32
    )
    with torch.no_grad():
        return text.embed(tokens) + noise * torch.from_numpy(drawn)


def random_contexts(width: int, contexts: int, count: int, seed: int) -> torch.Tensor:
    """[contexts, count, width] of N(0, 0.02^2), as CoOp begins without words."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(0.02 * rng.standard_normal((contexts, count, width), dtype=np.float32))


@torch.no_grad()
def encode_texts(text: TextTower, tokenizer: Tokenizer, texts: Sequence[str]) -> torch.Tensor:
    """[T, dim] unit features of plain sentences. ValueError for one that is too long."""
    found = []
    for start in range(0, len(texts), BATCH):
        rows = [
            [tokenizer.begin, *tokenizer.encode(sentence), tokenizer.end]
            for sentence in texts[start : start + BATCH]
        ]
        longest = max(map(len, rows))
        if longest > text.context_length:
            raise ValueError(f"a text has {longest} tokens, {text.context_length} are possible")
        ends = torch.tensor([len(row) - 1 for row in rows])
        filled = torch.tensor([row + [tokenizer.end] * (longest - len(row)) for row in rows])
        found.append(functional.normalize(text(text.embed(filled), ends), dim=1))
    return torch.cat(found)


def frozen(*parts: Any) -> None:
    """Have no weight of these towers learn. Parts that are no torch modules have none to freeze."""
    for part in parts:
        if isinstance(part, nn.Module):
            part.requires_grad_(False).eval()


def tower_hash(*parts: Any) -> str:
    """SHA-256 over names and values of all weights and buffers: equal means untouched."""
    digest = hashlib.sha256()
    for part in parts:
        for name, value in sorted(part.state_dict().items()):
            digest.update(f"{name}|{value.dtype}|{list(value.shape)}|".encode())
            digest.update(value.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
