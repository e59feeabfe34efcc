"""Small MOSO-VQVAEs and clips whose content is known."""

from __future__ import annotations

import dataclasses

import torch

from operators.nn.moso.config import ClipLayout, VqvaeConfig
from operators.nn.moso.preprocess import Clip
from operators.nn.moso.vqvae import Vqvae

PLAIN = VqvaeConfig(
    ClipLayout(frames=6, condition=2, scene_side=4, object_side=4, motion_side=2, codes=16),
    size_px=16, time_head=2, width=8, residual_width=4, residual_units=1, code_width=6, heads=2,
    decoder_units=1, last_width=4, closed=True,
)  # fmt: skip
STRAIGHT = dataclasses.replace(
    PLAIN,
    width=18,
    code_width=12,
    patch_px=4,
    stacking="order",
    straight=True,
    dropout=0.0,
    is_normed=False,
)


def vqvae(config: VqvaeConfig = PLAIN, seed: int = 1) -> Vqvae:
    """Fresh, learning; its entries lie as wide as what is quantised."""
    torch.manual_seed(seed)
    made = Vqvae(config)
    made.codebook.entries.normal_(std=0.3)
    return made


def clip(count: int = 2, frames: int = 6, size_px: int = 16, seed: int = 5) -> Clip:
    """Soft colours that move by one place from frame to frame, under a soft scene at rest."""
    chance = torch.Generator().manual_seed(seed)
    colours = torch.rand(2, count, 3, 4, 4, generator=chance)
    scene, own = (
        torch.nn.functional.interpolate(c, size=size_px, mode="bilinear") for c in colours
    )
    images = [0.8 * scene]
    for t in range(frames + 1):
        image = images[0].clone()
        image[..., 4:9, t : t + 5] = own[..., 4:9, 3:8]
        images.append(image)
    return Clip(images[0], torch.stack(images[1:-1], dim=1), images[-1])
