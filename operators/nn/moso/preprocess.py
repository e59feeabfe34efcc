"""A clip parted: differences tell what moves, and with them each frame is object and scene.

Source: method notes, MOSO 2b (arXiv:2303.03684). The difference d_t = 2 x_t - r - x_{t+1} sets
a frame against the frame after it and a reference r, which stays the frame before the clip. With
`fixed_reference` off, r is the frame before x_t, as in the published ablation.

d_t looks one frame ahead. Where nothing is to be known of later frames, x_{t+1} := x_t: at the last
given frame and at the end of the clip, with `closed`. Then the differences of given frames are the
same in the true clip, in the pseudo clip, and in a stream that has seen nothing else.

Inferred, ours: `orders`, with which compact encoders see a clip at the cost of four frames.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from operators.nn.moso.config import VqvaeConfig

MOVED = 0.08  # of 0 to 1: beyond noise and flicker
ORDERS = 4  # frames that `orders` makes


class Clip(NamedTuple):
    """T frames, and what they are set against. Float in [0, 1]."""

    before: torch.Tensor  # [B, 3, H, W]
    frames: torch.Tensor  # [B, T, 3, H, W]
    after: torch.Tensor | None = None  # [B, 3, H, W]; None: the last frame stays

    def check(self, config: VqvaeConfig) -> None:
        """ValueError for shapes that are not of this config."""
        picture = (len(self.frames), 3, config.size_px, config.size_px)
        wanted = (picture[0], config.layout.frames, *picture[1:])
        if self.frames.shape != wanted or self.before.shape != picture:
            told = tuple(self.frames.shape), tuple(self.before.shape)
            raise ValueError(f"frames and the one before are {told}, not {(wanted, picture)}")
        if self.after is not None and self.after.shape != picture:
            raise ValueError(f"the frame after is {tuple(self.after.shape)}, not {picture}")
        if not config.closed and self.after is None:
            raise ValueError("this config looks one frame ahead, and none came after the clip")


class Parts(NamedTuple):
    """[B, T, 3, H, W] each. object + scene are the frames, and one of them is 0 at every pixel."""

    object: torch.Tensor
    scene: torch.Tensor
    motion: torch.Tensor  # differences, in [-2, 2]


def clip_of(images: torch.Tensor, length: int) -> Clip:
    """[B, length + 1 or + 2, 3, H, W]: the frame before, the clip, and if it is there one after.

    ValueError for another number of images.
    """
    if images.shape[1] not in (length + 1, length + 2):
        raise ValueError(f"{images.shape[1]} images, not {length + 1} or {length + 2}")
    after = images[:, length + 1] if images.shape[1] == length + 2 else None
    return Clip(images[:, 0], images[:, 1 : length + 1], after)


def pseudo_clip(images: torch.Tensor, length: int) -> Clip:
    """The frame before and K given ones, [B, 1 + K, 3, H, W], and then the last one again."""
    given = images[:, 1:]
    if not 1 <= given.shape[1] <= length:
        raise ValueError(f"{given.shape[1]} given frames do not begin a clip of {length}")
    still = given[:, -1:].expand(-1, length - given.shape[1], -1, -1, -1)
    return Clip(images[:, 0], torch.cat([given, still], dim=1), given[:, -1])


def differences(clip: Clip, config: VqvaeConfig) -> torch.Tensor:
    """d_1..d_n of a clip of n frames, [B, n, 3, H, W] in [-2, 2].

    Shorter clips than T will do: the given frames alone have the differences of the whole clip.
    """
    frames = clip.frames
    last = frames[:, -1] if clip.after is None or config.closed else clip.after
    following = torch.cat([frames[:, 1:], last[:, None]], dim=1)
    known = config.layout.condition
    if config.closed and 0 < known < frames.shape[1]:
        following[:, known - 1] = frames[:, known - 1]
    if config.fixed_reference:
        reference = clip.before[:, None]
    else:
        reference = torch.cat([clip.before[:, None], frames[:, :-1]], dim=1)
    return 2 * frames - reference - following


def object_mask(motion: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Differences [..., 3, H, W] to bool [..., 1, H, W]: object where low <= max |d| <= high.

    What differs by more than `high` flickers, and is scene.
    """
    most = motion.abs().amax(dim=-3, keepdim=True)
    return (low <= most) & (most <= high)


def parted(clip: Clip, config: VqvaeConfig) -> Parts:
    """See `Parts`."""
    motion = differences(clip, config)
    is_object = object_mask(motion, config.low, config.high)
    own = clip.frames * is_object
    return Parts(own, clip.frames - own, motion)


def orders(frames: torch.Tensor) -> torch.Tensor:
    """[B, T, 3, H, W] to [B, ORDERS, 3, H, W]: still, moved, first and last.

    Still: the median over time of each pixel's colours. Moved: each pixel of that frame in which it
    is farthest from still, if that is farther than `MOVED`. Under a camera at rest that is the
    scene without what moves, and the trail of what moves.
    """
    still = frames.median(dim=1).values
    far, place = (frames - still[:, None]).abs().amax(dim=2).max(dim=1)
    index = place[:, None, None].expand(-1, 1, 3, -1, -1)
    moved = torch.where((far > MOVED)[:, None], frames.gather(1, index)[:, 0], still)
    return torch.stack([still, moved, frames[:, 0], frames[:, -1]], dim=1)


def undone(motion: torch.Tensor, group: int) -> torch.Tensor:
    """x_t - r again from closed differences [B, T, ...], each group of frames by itself.

    d_t = 2 y_t - y_{t+1} with y_t = x_t - r, so y_t = (d_t + y_{t+1}) / 2 from the group's end
    backwards, where y_{t+1} is taken to be y_t. That is exact at a closed end; elsewhere the error
    is one step of the motion at the end, and halves with each frame before it.
    """
    parts = motion.reshape(len(motion), -1, group, *motion.shape[2:]).unbind(dim=2)
    found = [parts[-1]]
    for d in reversed(parts[:-1]):
        found.append((d + found[-1]) / 2)
    return torch.stack(found[::-1], dim=2).flatten(1, 2)
