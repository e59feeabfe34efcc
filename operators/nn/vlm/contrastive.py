"""The contrastive loss that aligns images with captions, of which each image has several.

Source: Radford et al., CLIP, ICML 2021 (arXiv:2103.00020), figure 3: softmax over the other side,
in both directions. CLIP takes every other pair of a batch for a negative; here many captions say
the same of many images, so a negative is only a caption that does not fit.

Inferred, ours: each fitting caption stands alone against those that do not fit,

    L_i = -1/|P(i)| sum_{j in P(i)} log( e^{z_ij} / (e^{z_ij} + sum_{n not in P(i)} e^{z_in}) ),

z = s x.t, and not against its fellows as in Khosla et al. 2020 (arXiv:2004.11362, eq. 2): there two
wordings of one thing push each other away, and the loss cannot reach 0.
"""

from __future__ import annotations

import torch
from torch.nn import functional


def contrastive_loss(
    images: torch.Tensor, captions: torch.Tensor, fits: torch.Tensor, scale: torch.Tensor | float
) -> torch.Tensor:
    """Mean of both directions, a scalar >= 0.

    `images` [B, dim] and `captions` [M, dim] are normalised here; `fits` [B, M] bool says which
    caption is true of which image; `scale` is s. A caption that fits no image of the batch is a
    negative for all and has no term of its own. ValueError if an image has no caption.
    """
    if fits.shape != (len(images), len(captions)) or fits.dtype != torch.bool:
        raise ValueError(
            f"fits {tuple(fits.shape)} {fits.dtype} for {len(images)} images and "
            f"{len(captions)} captions; a bool matrix of images by captions is needed"
        )
    if not bool(fits.any(dim=1).all()):
        raise ValueError(f"no caption fits image {int((~fits.any(dim=1)).nonzero()[0])}")
    z = scale * functional.normalize(images, dim=1) @ functional.normalize(captions, dim=1).T
    told = fits.any(dim=0)
    return (_one_way(z, fits).mean() + _one_way(z.T, fits.T)[told].mean()) / 2


def _one_way(z: torch.Tensor, fits: torch.Tensor) -> torch.Tensor:
    """L_i of each row; 0 for a row that nothing fits."""
    others = z.masked_fill(fits, -torch.inf).logsumexp(dim=1, keepdim=True)
    # -log(e^z / (e^z + e^others)) = softplus(others - z), 0 where there are no others
    terms = functional.softplus(others - z).masked_fill(~fits, 0)
    return terms.sum(dim=1) / fits.sum(dim=1).clamp(min=1)


def fitting(
    image_class: torch.Tensor, caption_class: torch.Tensor, covers: torch.Tensor | None = None
) -> torch.Tensor:
    """[B, M] bool: which captions fit, from class numbers [B] and [M] int64.

    `covers` [caption classes, image classes] bool tells which images a caption class is true of,
    as "a spoof" is of prints and of screens; without it a class fits itself alone.
    """
    if covers is None:
        return image_class[:, None] == caption_class[None, :]
    return covers[caption_class][:, image_class].T
