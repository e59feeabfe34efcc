"""Can a generator go on with a body that moves? Held-out `bounce` clips, continued and measured.

Whatever continues clips can be judged: it gets the first true frames and gives the next ones. Where
the body is in a made frame, the tracker of `operators.nn.quality` finds; where it should be, the
renderer's mask says. The background is the empty room: rendered for true frames, and as the
generator itself draws it for made ones, so that its blur is not taken for a body.

Inferred, ours: clips with one body that moves at least `LEAST_PATH_PX` while it is foretold, since
what rests is foretold by a copy. A body that the tracker loses counts as where it was last seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from operators.nn.quality.physics import Room, averages, measure
from operators.nn.quality.tracking import Track, temporal_background, track
from operators.nn.worlds.clip import make_clip, make_world
from operators.nn.worlds.rooms import BELOW_M, SIDE_M, VIEW_M
from operators.nn.worlds.spec import ClipSpec, Split

U8 = npt.NDArray[np.uint8]
F64 = npt.NDArray[np.float64]

HORIZONS = (1, 2, 4, 8, 12)  # frames behind the last true one
LEAST_PATH_PX = 6.0  # at 64 px; in proportion at other sizes
ROOM_FRAMES = 64  # from which the empty room is taken


@dataclass(frozen=True)
class Throw:
    """A true clip: `past` frames to go on from, and what then happens."""

    frames: U8  # [past + ahead, S, S, 3]
    past: int
    empty: U8  # [S, S, 3], the room without the body
    centre_px: F64  # [past + ahead, 2], of the pixels that show the body

    @property
    def known(self) -> U8:
        """[past, S, S, 3]"""
        return self.frames[: self.past]

    @property
    def ahead(self) -> U8:
        """[ahead, S, S, 3]"""
        return self.frames[self.past :]


@dataclass(frozen=True)
class Continuation:
    """What a generator made of a throw: [ahead, S, S, 3], and its own view of the empty room."""

    frames: U8
    empty: U8


def room_of(size_px: int, fps: float) -> Room:
    """The room of every square `bounce` clip of this size."""
    px = size_px / VIEW_M
    return Room(
        SIDE_M * px - 0.5, (VIEW_M - SIDE_M) * px - 0.5, -0.5, (VIEW_M - BELOW_M) * px - 0.5,
        px, fps, near_px=3 * size_px / 64,
    )  # fmt: skip


def throws(split: Split, size_px: int, fps: float, length: tuple[int, int]) -> Iterator[Throw]:
    """Without end, in the order of the worlds' seeds; `length`: frames known, frames ahead."""
    past, ahead = length
    seed = 0
    while True:
        spec = ClipSpec(
            "bounce", seed, split, size_px, size_px, fps, max(ROOM_FRAMES, past + ahead)
        )
        seed += 1
        if not _moves_alone(spec, past, past + ahead):
            continue
        clip = make_clip(spec, masks=True)
        assert clip.masks is not None
        bodies = clip.masks[: past + ahead] > 0
        if not bodies.any(axis=(1, 2)).all():
            continue
        empty = temporal_background(clip.frames, clip.masks)
        centre = np.array([np.argwhere(body).mean(axis=0)[::-1] for body in bodies])
        yield Throw(clip.frames[: past + ahead], past, empty, centre)


def judge_motion(
    given: Sequence[Throw], made: Mapping[str, Sequence[Continuation]], fps: float
) -> dict[str, Any]:
    """Position errors by horizon and physics, of each generator in `made` and of its rivals.

    Errors are in px. `spread_px` is how far the true positions lie from their own mean: what one
    gets who knows where the body will be on average, and no more.
    """
    room = room_of(given[0].frames.shape[1], fps)
    ahead = {name: [_track(one) for one in found] for name, found in made.items()}
    ahead["truth"] = [_track(Continuation(throw.ahead, throw.empty)) for throw in given]
    copies = [np.repeat(throw.known[-1:], len(throw.ahead), axis=0) for throw in given]
    ahead["copy of the last frame"] = [
        _track(Continuation(copy, throw.empty)) for copy, throw in zip(copies, given, strict=True)
    ]
    told = {
        name: [_held(track.centre_px, throw) for track, throw in zip(found, given, strict=True)]
        for name, found in ahead.items()
    }
    told["linear extrapolation"] = [_extrapolated(throw, room, falls=False) for throw in given]
    told["free fall"] = [_extrapolated(throw, room, falls=True) for throw in given]
    true = np.stack([throw.centre_px[throw.past :] for throw in given])
    spread = np.linalg.norm(true - true.mean(axis=1, keepdims=True), axis=2)
    return {
        "clips": len(given),
        "position_error_px": {
            name: _by_horizon(np.linalg.norm(np.stack(found) - true, axis=2))
            for name, found in told.items()
        },
        "spread_px": float(spread.mean()),
        "physics": {
            name: averages([measure(track, room) for track in found])
            for name, found in ahead.items()
        },
    }


def judge_alone(clips: Sequence[U8], fps: float) -> dict[str, dict[str, float]]:
    """Physics of whole clips [T, S, S, 3] of which nothing is known: the room is their median."""
    room = room_of(clips[0].shape[1], fps)
    return averages([measure(track(clip), room) for clip in clips])


def _moves_alone(spec: ClipSpec, first: int, end: int) -> bool:
    truth = make_world(spec).truth(spec.times_s()[:end], end / spec.fps)
    if len(truth.objects) != 1:
        return False
    steps = np.diff(truth.centre_px[first - 1 :, 0], axis=0)
    path = np.linalg.norm(steps, axis=1).sum()
    return bool(path >= LEAST_PATH_PX * spec.height / 64)


def _track(made: Continuation) -> Track:
    return track(made.frames, made.empty)


def _held(centre_px: F64, throw: Throw) -> F64:
    """[ahead, 2] with unknown positions replaced by the last known one."""
    held, last = centre_px.copy(), throw.centre_px[throw.past - 1]
    for t, place in enumerate(held):
        if np.isnan(place).any():
            held[t] = last
        last = held[t]
    return held


def _extrapolated(throw: Throw, room: Room, *, falls: bool) -> F64:
    """[ahead, 2] from the last two true positions, inside the room."""
    before, last = throw.centre_px[throw.past - 2 : throw.past]
    t = np.arange(1, len(throw.ahead) + 1)[:, None]
    places = last + t * (last - before)
    if falls:
        # The last velocity is that of half a frame ago.
        places = places + np.array([0, room.gravity_px]) * t * (t + 1) / 2
    low = (room.left_px, room.ceiling_px)
    inside: F64 = np.clip(places, low, (room.right_px, room.floor_px))
    return inside


def _by_horizon(errors: F64) -> dict[str, dict[str, float]]:
    """[N, ahead] by horizon, as far as it reaches."""
    return {
        str(h): {
            "mean": float(errors[:, h - 1].mean()),
            "median": float(np.median(errors[:, h - 1])),
        }
        for h in HORIZONS
        if h <= errors.shape[1]
    }
