"""A BERT encoder that takes embeddings and gives one sentence feature: the compact text tower.

Source: Devlin et al., BERT, NAACL 2019 (arXiv:1810.04805), section 3, layers as in Vaswani et al.
2017 (arXiv:1706.03762) with the norm behind each sum; sizes of MiniLM-L6-H384 (Wang et al., NeurIPS
2020, arXiv:2002.10957); the sentence feature is the mean over its tokens (Reimers and Gurevych,
EMNLP 2019, arXiv:1908.10084, section 3).

Positions and token type are added inside, so that learned vectors can stand among those of words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    import tokenizers


@dataclass(frozen=True)
class MiniLmConfig:
    """Sizes. The defaults are those of all-MiniLM-L6-v2."""

    vocabulary: int = 30522
    width: int = 384
    layers: int = 6
    heads: int = 12
    inner: int = 1536  # of the two-layer net behind each attention
    positions: int = 512
    context_length: int = 256  # tokens at most; the released model was used with no more
    norm_epsilon: float = 1e-12


class EncoderLayer(nn.Module):
    """Attention over the sentence, then a two-layer net; each is added and normalised."""

    def __init__(self, config: MiniLmConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.query = nn.Linear(config.width, config.width)
        self.key = nn.Linear(config.width, config.width)
        self.value = nn.Linear(config.width, config.width)
        self.attended = nn.Linear(config.width, config.width)
        self.attended_norm = nn.LayerNorm(config.width, eps=config.norm_epsilon)
        self.widen = nn.Linear(config.width, config.inner)
        self.narrow = nn.Linear(config.inner, config.width)
        self.narrow_norm = nn.LayerNorm(config.width, eps=config.norm_epsilon)

    def forward(self, x: torch.Tensor, attends: torch.Tensor) -> torch.Tensor:
        """`x` [B, L, width]; `attends` [B, 1, 1, L] bool, the tokens that may be looked at."""
        q, k, v = (self._split(part(x)) for part in (self.query, self.key, self.value))
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=attends)
        x = self.attended_norm(x + self.attended(mixed.transpose(1, 2).flatten(2)))
        y: torch.Tensor = self.narrow_norm(x + self.narrow(functional.gelu(self.widen(x))))
        return y

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        split = x.view(batch, length, self.heads, width // self.heads)
        return split.transpose(1, 2)  # [B, heads, L, width / heads]


class MiniLm(nn.Module):
    """Token embeddings in, mean of the sentence's last states out."""

    def __init__(self, config: MiniLmConfig | None = None) -> None:
        """Random weights; `compact_weights` puts trained ones in."""
        super().__init__()
        self.config = config = config or MiniLmConfig()
        if config.width % config.heads:
            raise ValueError(f"width {config.width} is no multiple of {config.heads} heads")
        self.words = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Embedding(config.positions, config.width)
        self.token_type = nn.Parameter(torch.zeros(config.width))  # all text is of type 0
        self.input_norm = nn.LayerNorm(config.width, eps=config.norm_epsilon)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.layers))
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)  # as BERT begins

    def embed(self, tokens: torch.Tensor) -> torch.Tensor:
        """[B, L] int64 to [B, L, width], the words alone."""
        vectors: torch.Tensor = self.words(tokens)
        return vectors

    def forward(self, embeddings: torch.Tensor, end_index: torch.Tensor) -> torch.Tensor:
        """[B, L, width] and [B] int64 to [B, width], the mean over the tokens 0..end.

        What comes behind the end token is neither looked at nor averaged.
        """
        self._check(embeddings, end_index)
        length = int(end_index.max()) + 1  # nobody's tokens stand further behind
        inside = torch.arange(length, device=embeddings.device) <= end_index[:, None]  # [B, L]
        x = embeddings[:, :length].masked_fill(~inside[:, :, None], 0)  # even if it is not finite
        x = self.input_norm(x + self.positions.weight[:length] + self.token_type)
        for layer in self.layers:
            x = layer(x, inside[:, None, None, :])
        x = x.masked_fill(~inside[:, :, None], 0)
        mean: torch.Tensor = x.sum(dim=1) / (end_index[:, None] + 1)
        return mean

    def _check(self, embeddings: torch.Tensor, end_index: torch.Tensor) -> None:
        length, allowed = embeddings.shape[1], self.config.context_length
        if length > allowed:
            raise ValueError(f"a text of {length} tokens came, {allowed} are allowed")
        if int(end_index.min()) < 0 or int(end_index.max()) >= length:
            raise ValueError(f"end tokens at {end_index.tolist()} in texts of {length} tokens")


class WordPiece:
    """Words to token numbers, by a `tokenizer.json`.

    Source: Wu et al. 2016 (arXiv:1609.08144), section 4.1, as BERT uses it.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self.begin = _special(tokenizer, "[CLS]")
        self.end = _special(tokenizer, "[SEP]")
        self._tokenizer = tokenizer

    @classmethod
    def from_json(cls, text: str) -> WordPiece:
        """`text`: what a `tokenizer.json` says. ValueError if it is not one."""
        import tokenizers

        try:
            return cls(tokenizers.Tokenizer.from_str(text))
        except Exception as error:  # the library raises no narrower one
            raise ValueError(f"this is no WordPiece tokenizer: {error}") from error

    def encode(self, text: str) -> list[int]:
        """The tokens of a text, without begin and end; a text of none gives none."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)


def _special(tokenizer: tokenizers.Tokenizer, word: str) -> int:
    token = tokenizer.token_to_id(word)
    if token is None:
        raise ValueError(f"the vocabulary lacks {word}")
    return int(token)


def from_bert_state(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of a `transformers.BertModel` under this module's names.

    The pooler and the embedding of token type 1 have no place here and are left out; KeyError if a
    name is missing.
    """
    mapped = {
        "words.weight": state["embeddings.word_embeddings.weight"],
        "positions.weight": state["embeddings.position_embeddings.weight"],
        "token_type": state["embeddings.token_type_embeddings.weight"][0],
    }
    names = {"input_norm": "embeddings.LayerNorm"}
    for index in range(_layer_count(state)):
        there = f"encoder.layer.{index}"
        names |= {f"layers.{index}.{ours}": f"{there}.{theirs}" for ours, theirs in _LAYER}
    for ours, theirs in names.items():
        mapped |= {f"{ours}.{kind}": state[f"{theirs}.{kind}"] for kind in ("weight", "bias")}
    return mapped


_LAYER = (
    ("query", "attention.self.query"),
    ("key", "attention.self.key"),
    ("value", "attention.self.value"),
    ("attended", "attention.output.dense"),
    ("attended_norm", "attention.output.LayerNorm"),
    ("widen", "intermediate.dense"),
    ("narrow", "output.dense"),
    ("narrow_norm", "output.LayerNorm"),
)


def _layer_count(state: dict[str, torch.Tensor]) -> int:
    prefix = "encoder.layer."
    return len({name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix)})
