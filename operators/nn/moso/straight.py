"""A linear way past the networks, and first weights with which a clip comes back at once.

Inferred, ours; for compact configs, which have no time to find what is linear. Pixels of a cell go
to its token by their principal components and back the same way, as far as possible in units of
pixels, so that the nearest entry of the codebook is the one with the least error.

Scene: the clip's still frame (see `orders`). Object: its moved frame, less what the scene's token
already says. Motion: x_t - r again out of differences (see `undone`). Channels of the features are
in three shares: the scene's components, the object's, and the rest, which is the networks' own:
there the scene says 1 and the object -1, so the weight itself, and with it the motion, reaches the
decoder.

In the object's share the weight begins as a matched filter. With o the object's components at a
place and y the motion's, o explains y if |y - o|^2 < |y|^2, so if 2 y o > |o|^2: it is shown.
Where |o|^2 is small it is no object but detail of the scene, and is always shown.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from operators.nn.moso.config import VqvaeConfig
from operators.nn.moso.preprocess import undone

CLOSE = 6.0  # logit that leaves a share to scene alone
SHOW = -2.5  # logit where there is nothing to decide
STEEPNESS = 4.0  # of the decision, per square of a cell's pixels


class StraightIn(nn.Module):
    """Frames to codes; in float32, also under autocast. Fixed: networks add to it what they learn,
    and entries of the codebook go on to mean what they meant.
    """

    def __init__(self, config: VqvaeConfig) -> None:
        super().__init__()
        cell_px, wide_px = config.patch_px, config.size_px // config.layout.motion_side
        self.group = config.time_head
        self.cells = nn.Conv2d(3, config.code_width, cell_px, cell_px)
        self.moves = nn.Conv2d(3, config.code_width, wide_px, wide_px, bias=False)
        self.requires_grad_(False)

    def content(self, image: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W] to [B, code_width, scene_side, scene_side]."""
        with torch.autocast(image.device.type, enabled=False):
            codes: torch.Tensor = self.cells(image)
        return codes

    def motion(self, motion: torch.Tensor) -> torch.Tensor:
        """Differences [B, T, 3, H, W] to [B, T, code_width, motion_side, motion_side]."""
        with torch.autocast(motion.device.type, enabled=False):
            codes: torch.Tensor = self.moves(undone(motion, self.group).flatten(0, 1))
        return codes.view(*motion.shape[:2], *codes.shape[1:])


class Gate(nn.Module):
    """What the matched filter adds to the logits of the merge."""

    def __init__(self, config: VqvaeConfig) -> None:
        super().__init__()
        share, ratio = config.width // 3, config.layout.scene_side // config.layout.motion_side
        self.share, self.rest = share, config.width - 2 * share
        self.spread = nn.ConvTranspose2d(config.code_width, share, ratio, ratio, bias=False)
        self.steepness = nn.Parameter(torch.tensor(STEEPNESS))

    def forward(self, features: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Object features [B, width, side, side] and motion codes [B, n, code_width, ..] to
        [B, n, width, side, side], zero but for the object's share.
        """
        own = features[:, None, self.share : 2 * self.share]
        y = self.spread(codes.flatten(0, 1)).unflatten(0, codes.shape[:2])
        logits = self.steepness * (own * (own - 2 * y)).sum(dim=2, keepdim=True)
        logits = logits.expand(-1, -1, self.share, -1, -1)
        return functional.pad(logits, (0, 0, 0, 0, self.share, self.rest))
