"""First weights of a straight Vqvae, from clips: components, a codebook, and the ways between.

Inferred, ours; what they are for is told in `straight`.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import nn
from torch.nn import functional

from operators.nn.moso.preprocess import Clip, differences, orders, undone
from operators.nn.moso.straight import CLOSE, SHOW
from operators.nn.moso.vqvae import Vqvae

_MOTION_SHARE = 4  # one in so many vectors of motion goes into the codebook's first entries


@torch.no_grad()
def first_weights(vqvae: Vqvae, clip: Clip, generator: torch.Generator) -> None:
    """From some dozens of clips. ValueError for a Vqvae without a straight way, or too few clips.

    Afterwards the networks are silent, and the straight way alone gives frames.
    """
    straight, gate, share = vqvae.straight, vqvae.gate, vqvae.config.width // 3
    if straight is None or gate is None:
        raise ValueError("only a straight Vqvae has first weights that clips tell")
    seen = orders(clip.frames)[:, :2].flatten(0, 1)
    mean, axes = _components(seen, straight.cells, centred=True)
    moved = undone(differences(clip, vqvae.config), straight.group)
    _, moves = _components(moved.flatten(0, 1), straight.moves, centred=False)
    straight.cells.weight.copy_(axes.T.reshape(straight.cells.weight.shape))
    _bias(straight.cells).copy_(-mean @ axes)
    straight.moves.weight.copy_(moves.T.reshape(straight.moves.weight.shape))
    parts = straight.moves.weight.unfold(2, *2 * [straight.cells.kernel_size[0]])
    parts = parts.unfold(3, *2 * [straight.cells.kernel_size[0]]).movedim(1, 3).flatten(3)
    gate.spread.weight.copy_((parts @ axes[:, :share]).movedim(-1, 1))
    _open_ways(vqvae, axes[:, :share], mean)
    _fit_codebook(vqvae, clip, generator)


def _components(
    images: torch.Tensor, cells: nn.Conv2d, centred: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean [n] and axes [n, code_width] of cells of n numbers: colours, then rows, then columns.

    Axes that a cell does not have are zero.
    """
    size, count = cells.kernel_size[0], cells.out_channels
    rows = functional.pixel_unshuffle(images, size).movedim(1, -1).flatten(0, 2).double()
    if len(rows) < rows.shape[1]:
        raise ValueError(f"{len(rows)} cells of {rows.shape[1]} numbers: give more clips")
    mean = rows.mean(dim=0) if centred else rows.new_zeros(rows.shape[1])
    rows = rows - mean
    _, axes = torch.linalg.eigh(rows.T @ rows / len(rows))
    axes = axes.flip(1)[:, :count]
    axes = functional.pad(axes, (0, count - axes.shape[1]))
    return mean.to(images.dtype), axes.to(images.dtype)


def _open_ways(vqvae: Vqvae, axes: torch.Tensor, mean: torch.Tensor) -> None:
    """Codes to their shares of the features and on to pixels; the networks add nothing at first."""
    share = axes.shape[1]
    scene, own, rest = slice(0, share), slice(share, 2 * share), slice(2 * share, None)
    for conv in (vqvae.scene_in, vqvae.object_in, vqvae.motion_in):
        nn.init.zeros_(conv.weight)
        nn.init.zeros_(_bias(conv))
    for back, part, says in ((vqvae.scene_out, scene, 1.0), (vqvae.object_out, own, -1.0)):
        nn.init.zeros_(back.weight)
        back.weight[:share, part, 0, 0] = torch.eye(share).to(axes)
        nn.init.zeros_(_bias(back))[rest] = says
    merge = vqvae.merge
    for conv in (*merge.of_content, *merge.of_motion, *merge.logits, merge.last):
        nn.init.kaiming_normal_(cast(nn.Conv2d, conv).weight, nonlinearity="linear")
    merge.last.weight[: 2 * share] = 0
    for part, logit in ((scene, CLOSE), (own, SHOW), (rest, 0.0)):
        _bias(merge.last)[part] = logit
    pixels = cast(nn.Conv2d, vqvae.decoder.straight)
    nn.init.zeros_(pixels.weight)
    pixels.weight[:, scene, 0, 0] = pixels.weight[:, own, 0, 0] = axes
    _bias(pixels).copy_(mean)


def _fit_codebook(vqvae: Vqvae, clip: Clip, generator: torch.Generator) -> None:
    """Twice: what the object's tokens have to say depends on the scene's."""
    was_training = vqvae.training
    vqvae.eval()
    for has_object in (False, True):
        codes = vqvae.coded(clip).chosen_for
        motion = codes.motion.movedim(-3, -1).flatten(0, -2)
        some = torch.randperm(len(motion), generator=generator)[: len(motion) // _MOTION_SHARE]
        maps = [codes.scene, codes.object] if has_object else [codes.scene]
        rows = [part.movedim(-3, -1).flatten(0, -2) for part in maps]
        vqvae.codebook.fit(torch.cat([*rows, motion[some.to(motion.device)]]), generator)
    vqvae.train(was_training)


def _bias(conv: nn.Conv2d | nn.ConvTranspose2d) -> nn.Parameter:
    return cast(nn.Parameter, conv.bias)
