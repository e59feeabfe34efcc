"""The sizes of AR-Diffusion: `PAPER` as published, `COMPACT` for two processor cores.

Source: Sun et al., AR-Diffusion, CVPR 2025 (arXiv:2503.07418); method notes, AR-Diffusion 1b, 1c.

Inferred, ours, in `COMPACT`: 16 tokens of 32 channels, since more channels cost the denoiser
nothing and with 8 of them all that is small was lost: rooms came back without the objects in them;
latents are scaled to unit variance, since unit vectors in R^32 have 1/32 of it and would spend most
timesteps under noise; time by rotary positions and the token's place by a learned table, so that a
stream never runs out of positions; the strict mask, since the published one is not causal; the
usual residual form. Tokens are anchored: each begins as the mean of its cell's patches, and each
patch is asked for starting from its cell's token. Free tokens have to find out first where anything
is: after 125 steps of 32 frames they reconstruct at 17 dB, anchored ones at 20. A linear way past
both networks begins at the principal components of a cell's pixels and leaves the networks what is
not linear: 31 components of 16x16 pixels alone give 26 to 28 dB, the networks alone 22 to 25 after
5,400 steps. The denoiser is small so that all shipped checkpoints together fit into 16 MiB.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

_MOST = 4096  # no file may ask for all memory


def _check(config: object, **least: int) -> None:
    for name, bound in least.items():
        value = getattr(config, name)
        if not bound <= value <= _MOST:
            raise ValueError(f"{name} must be {bound}..{_MOST}, not {value}")


@dataclass(frozen=True)
class VaeConfig:
    """A frame of size_px x size_px RGB as `tokens` unit vectors of `channels` numbers."""

    size_px: int
    patch_px: int
    tokens: int
    channels: int
    width: int  # of the encoder's and the decoder's transformer, like depth and heads
    depth: int
    heads: int
    codes: int  # entries of the soft codebook
    code_width: int  # numbers in one entry
    conv_width: int  # channels of the last level of the convolutional decoder
    conv_multipliers: tuple[int, ...]  # by level, from the finest; each level but one doubles
    conv_blocks: int  # residual blocks per level
    conv_groups: int  # of its group norms
    shuffle: int = 1  # the finest level has 1 / shuffle of the frame's side
    branch_shortcut: bool = False  # a quirk, see `conv_decoder.ResBlock`
    anchored: bool = False  # each token begins at a cell of the frame; they form a square
    centred: bool = False  # the encoder sees -1..1 in place of 0..1
    straight: bool = False  # a linear way past both networks, see `straight`; needs `anchored`

    def __post_init__(self) -> None:
        least = ("size_px patch_px tokens width depth heads codes code_width conv_width "
                 "conv_blocks conv_groups shuffle")  # fmt: skip
        _check(self, channels=2, **dict.fromkeys(least.split(), 1))
        if self.size_px % self.patch_px or self.width % self.heads:
            raise ValueError(f"patches or heads do not divide: {self}")
        if self.anchored and (self.side**2 != self.tokens or self.grid % self.side):
            raise ValueError(f"anchored tokens form no square that divides the patches': {self}")
        if self.straight and not self.anchored:
            raise ValueError(f"only anchored tokens have a cell to go straight to: {self}")
        if self.patch_px != self.shuffle * 2 ** (len(self.conv_multipliers) - 1):
            raise ValueError(f"the convolutions do not go from patches to pixels: {self}")
        widths = [self.conv_width * multiplier for multiplier in self.conv_multipliers]
        if any(width < 1 or width > _MOST or width % self.conv_groups for width in widths):
            raise ValueError(f"group norms do not divide the levels' channels: {self}")

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.size_px // self.patch_px

    @property
    def side(self) -> int:
        """Tokens along one side, where they form a square."""
        return math.isqrt(self.tokens)

    @property
    def cell_px(self) -> int:
        """Pixels along one side of a token's cell, where tokens form a square."""
        return self.size_px // self.side


Mask = Literal["strict", "published", "none"]
Positions = Literal["rotary", "table"]
Spacing = Literal["leading", "trailing"]


@dataclass(frozen=True)
class DenoiserConfig:
    """A transformer over `context_tokens` and up to `frames` times `tokens`."""

    frames: int  # F in training, the window W of a stream
    tokens: int
    channels: int
    width: int
    depth: int
    heads: int
    context_tokens: int
    context_width: int
    classes: int = 0  # 0: unconditional; the context of no class is one more, always
    fixed_context: bool = False  # random and never trained, as published for no classes
    mask: Mask = "strict"
    positions: Positions = "rotary"
    qk_norm: bool = False
    share_norm: bool = False

    def __post_init__(self) -> None:
        least = "frames tokens channels width depth heads context_tokens context_width"
        _check(self, classes=0, **dict.fromkeys(least.split(), 1))
        if self.width % (2 * self.heads):
            raise ValueError(f"a head must have an even width: {self}")
        if self.mask not in ("strict", "published", "none"):
            raise ValueError(f"mask must be strict, published or none, not {self.mask}")
        if self.positions not in ("rotary", "table"):
            raise ValueError(f"positions must be rotary or table, not {self.positions}")


@dataclass(frozen=True)
class DiffusionConfig:
    """N timesteps, and how latents enter."""

    timesteps: int = 1000
    first_beta: float = 1e-4
    last_beta: float = 2e-2
    latent_scale: float = 1.0  # unit tokens are multiplied by it before noise is added
    spacing: Spacing = "leading"  # of the timesteps that inference visits, see `diffusion`

    def __post_init__(self) -> None:
        if not 2 <= self.timesteps <= 100_000:
            raise ValueError(f"timesteps must be 2..100000, not {self.timesteps}")
        if self.spacing not in ("leading", "trailing"):
            raise ValueError(f"spacing must be leading or trailing, not {self.spacing}")
        if not (0 < self.first_beta <= self.last_beta < 1 and 0 < self.latent_scale < 1e3):
            raise ValueError(f"betas or scale out of range: {self}")


@dataclass(frozen=True)
class SystemConfig:
    """All of it, and the sampler's defaults: S steps per frame, s steps between frames."""

    name: str
    vae: VaeConfig
    denoiser: DenoiserConfig
    diffusion: DiffusionConfig
    steps: int
    lag: int

    def __post_init__(self) -> None:
        ours, theirs = self.vae, self.denoiser
        if (ours.tokens, ours.channels) != (theirs.tokens, theirs.channels):
            raise ValueError(f"latents differ: {ours} and {theirs}")
        if not 0 <= self.lag <= self.steps < self.diffusion.timesteps:
            raise ValueError(f"steps or lag out of range: {self.steps}, {self.lag}")


PAPER = SystemConfig(
    name="paper",
    vae=VaeConfig(
        size_px=256, patch_px=16, tokens=32, channels=4, width=1024, depth=24, heads=16,
        codes=1024, code_width=256, conv_width=128, conv_multipliers=(1, 1, 2, 2, 4),
        conv_blocks=2, conv_groups=32, branch_shortcut=True,
    ),
    denoiser=DenoiserConfig(
        frames=16, tokens=32, channels=4, width=1152, depth=28, heads=16, context_tokens=77,
        context_width=768, fixed_context=True, mask="published", positions="table",
        share_norm=True,
    ),
    diffusion=DiffusionConfig(),
    steps=50,
    lag=5,
)  # fmt: skip

COMPACT = SystemConfig(
    name="compact",
    vae=VaeConfig(
        size_px=64, patch_px=8, tokens=16, channels=32, width=128, depth=2, heads=4,
        codes=256, code_width=64, conv_width=16, conv_multipliers=(2, 3, 4),
        conv_blocks=1, conv_groups=8, shuffle=2, anchored=True, centred=True,
        straight=True,
    ),
    denoiser=DenoiserConfig(
        frames=16, tokens=16, channels=32, width=128, depth=5, heads=4, context_tokens=1,
        context_width=128,
    ),
    diffusion=DiffusionConfig(latent_scale=32**0.5, spacing="trailing"),
    steps=10,
    lag=2,
)  # fmt: skip
