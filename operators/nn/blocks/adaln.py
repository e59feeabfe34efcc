"""The adaLN-zero block: shifts, scales and gates come from a condition, the gates start at zero.

Source: Peebles and Xie, DiT, ICCV 2023 (arXiv:2212.09748), section 3.2. Here one condition holds
for a group of tokens (all tokens of a frame, with that frame's timestep), and tokens in front may
be free of it, as in the method notes, AR-Diffusion 1b.
"""

from __future__ import annotations

import torch
from torch import nn

from operators.nn.blocks.attention import Attention, KeyValue
from operators.nn.blocks.rotary import Rotation
from operators.nn.blocks.transformer import Mlp


class AdaLnBlock(nn.Module):
    """Tokens [B, free + M * K, width] under M conditions, K tokens each.

    M = 1 is the plain DiT block, K = 1 a condition per token. Free tokens are neither shifted,
    scaled nor gated. `share_norm`: the normalised tokens replace the residual stream, which is how
    the published weights of AR-Diffusion were trained.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        ratio: float = 4.0,
        qk_norm: bool = False,
        share_norm: bool = False,
    ) -> None:
        super().__init__()
        self.share_norm = share_norm
        self.norm1, self.norm2 = (
            nn.LayerNorm(width, eps=1e-6, elementwise_affine=False) for _ in range(2)
        )
        self.attention = Attention(width, heads, qk_norm)
        self.mlp = Mlp(width, ratio, tanh=True)
        self.modulation = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(
        self,
        x: torch.Tensor,
        c: torch.Tensor,
        free: int = 0,
        mask: torch.Tensor | None = None,
        turned_by: Rotation | None = None,
    ) -> torch.Tensor:
        """x [B, free + M * K, width], c [B, M, width] to the shape of x."""
        return self.extend(x, c, free, None, mask, turned_by)[0]

    def extend(
        self,
        x: torch.Tensor,
        c: torch.Tensor,
        free: int,
        past: KeyValue | None,
        mask: torch.Tensor | None = None,
        turned_by: Rotation | None = None,
    ) -> tuple[torch.Tensor, KeyValue]:
        """The same behind tokens whose keys and values are kept, see `Attention.extend`."""
        m = self.modulation(nn.functional.silu(c)).chunk(6, dim=-1)
        h = self.norm1(x)
        y, new = self.attention.extend(_modulated(h, m[0], m[1], free), past, mask, turned_by)
        x = (h if self.share_norm else x) + _gated(y, m[2], free)
        h = self.norm2(x)
        y = self.mlp(_modulated(h, m[3], m[4], free))
        return (h if self.share_norm else x) + _gated(y, m[5], free), new


def _modulated(
    x: torch.Tensor, shift: torch.Tensor, scale: torch.Tensor, free: int
) -> torch.Tensor:
    groups = _groups(x, scale, free)
    y = torch.addcmul(shift[:, :, None], groups, 1 + scale[:, :, None]).flatten(1, 2)
    return torch.cat([x[:, :free], y], dim=1) if free else y


def _gated(x: torch.Tensor, gate: torch.Tensor, free: int) -> torch.Tensor:
    y = (_groups(x, gate, free) * gate[:, :, None]).flatten(1, 2)
    return torch.cat([x[:, :free], y], dim=1) if free else y


def _groups(x: torch.Tensor, per_group: torch.Tensor, free: int) -> torch.Tensor:
    """[B, M, K, width] without the free tokens."""
    batch, groups, width = per_group.shape
    return x[:, free:].reshape(batch, groups, (x.shape[1] - free) // max(groups, 1), width)
