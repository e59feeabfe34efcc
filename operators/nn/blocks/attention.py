"""Multi-head attention over tokens, whole or continued from keys and values kept.

Source: Vaswani et al., NeurIPS 2017 (arXiv:1706.03762), section 3.2.2; LayerNorm of queries and
keys as in Dehghani et al., ICML 2023 (arXiv:2302.05442).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from operators.nn.blocks.rotary import Rotation, rotate


class KeyValue(NamedTuple):
    """What later tokens need of earlier ones: [B, heads, N, head_width] each, keys unturned."""

    k: torch.Tensor
    v: torch.Tensor

    def then(self, later: KeyValue) -> KeyValue:
        """These tokens followed by `later`."""
        return KeyValue(torch.cat([self.k, later.k], 2), torch.cat([self.v, later.v], 2))

    def without(self, first: int, count: int) -> KeyValue:
        """All but `count` tokens from `first` on."""
        parts = (slice(0, first), slice(first + count, None))
        return KeyValue(*(torch.cat([x[:, :, part] for part in parts], 2) for x in self))

    def head(self, count: int) -> KeyValue:
        """The first `count` tokens."""
        return KeyValue(self.k[:, :, :count], self.v[:, :, :count])


class Attention(nn.Module):
    """Queries, keys and values come out of one matrix with bias."""

    def __init__(self, width: int, heads: int, qk_norm: bool = False) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"a width of {width} cannot be split into {heads} heads")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)  # rows: queries, then keys, then values
        self.out = nn.Linear(width, width)
        self.q_norm = nn.LayerNorm(width // heads) if qk_norm else nn.Identity()
        self.k_norm = nn.LayerNorm(width // heads) if qk_norm else nn.Identity()

    def forward(
        self,
        x: torch.Tensor,
        mask: torch.Tensor | None = None,
        turned_by: Rotation | None = None,
    ) -> torch.Tensor:
        """[B, N, width] to the same; `mask` [N, N] bool, True where a query (row) may look."""
        return self.extend(x, None, mask, turned_by)[0]

    def extend(
        self,
        x: torch.Tensor,
        past: KeyValue | None,
        mask: torch.Tensor | None = None,
        turned_by: Rotation | None = None,
    ) -> tuple[torch.Tensor, KeyValue]:
        """[B, N, width] of new tokens to the same, and their keys and values.

        `past` holds P tokens in front of them; `mask` [N, P + N] bool; `turned_by` covers all
        P + N positions.
        """
        batch, length, width = x.shape
        split = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4).unbind(0)
        q, new = self.q_norm(q), KeyValue(self.k_norm(k), v)
        seen = new if past is None else past.then(new)
        k = seen.k
        if turned_by is not None:
            q, k = rotate(q, turned_by.last(length)), rotate(k, turned_by)
        mixed = functional.scaled_dot_product_attention(q, k, seen.v, attn_mask=mask)
        y: torch.Tensor = self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        return y, new


class CrossAttention(nn.Module):
    """Queries from one sequence, keys and values from another."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"a width of {width} cannot be split into {heads} heads")
        self.heads = heads
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(
        self,
        x: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """x [B, N, width], keys and values [B, M, width], mask [N, M] bool, to [B, N, width]."""
        return self.extend(x, keys, values, None, mask)[0]

    def extend(
        self,
        x: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        past: KeyValue | None,
        mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, KeyValue]:
        """`forward`, and the M new keys and values as they are kept.

        `past` holds P tokens in front of them; `mask` [N, P + M] bool.
        """
        new = KeyValue(self._split(self.k(keys)), self._split(self.v(values)))
        k, v = new if past is None else past.then(new)
        mixed = functional.scaled_dot_product_attention(self._split(self.q(x)), k, v, mask)
        y: torch.Tensor = self.out(mixed.transpose(1, 2).reshape(x.shape))
        return y, new

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        return x.view(batch, length, self.heads, width // self.heads).transpose(1, 2)
