"""`conceal`: a feed that stalls and loses frames, kept on time; and how well gaps are foretold."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from bench.common import quantile, say, significant
from bench.faults import (
    ARRIVAL,
    BACK,
    CAPTURED,
    CHANGE,
    KIND,
    MADE,
    PTS,
    FaultyFeed,
    FaultyFeedConfig,
    ShownNotes,
    ShownNotesConfig,
    to_and_fro,
)
from bench.media import small_clip
from bench.result import Bar, at_least, at_most, exactly
from bench.runs import running, unbalanced
from engine import Frame
from engine.graph import Graph
from engine.spec import GraphSpec
from operators.nn.quality.image import psnr, ssim
from operators.predict.bridge import picture_of
from operators.predict.conceal import Conceal, ConcealConfig
from operators.predict.course import GRID, KEPT, Course
from operators.predict.detail import corrected, correction, small_course
from operators.predict.flow import fitted
from operators.predict.moving import apart, move
from operators.recipes.media import decoded
from operators.recipes.package_clips import installed
from operators.sinks.null import NullSink
from operators.video.mark import Mark
from operators.video.yuv import frame_size, planes_of, small_rgb

U8 = npt.NDArray[np.uint8]
F64 = npt.NDArray[np.float64]
SIZE = (640, 360)
FPS = 25
NOTES = "shown.npy"
FLOW_SIZE = (320, 180)
HORIZONS = (1, 2, 5, 10, 25)
WAYS = ("frozen", "constant", "fitted", "told", "told_enlarged")
SMALL = 64  # px: the size that a network foretells at
CUT = 28.0  # of 255: more change than that is another shot
SECONDS, QUICK_SECONDS = 60.0, 8.0
WINDOWS, QUICK_WINDOWS = 8, 1  # of each clip
NEAR = 25  # frames around a seam whose mean change is the usual one
UNSEEN = 0.5  # levels of 255: rounding alone makes as much
BEST_DB = 60.0


def run(quick: bool) -> tuple[dict[str, float], tuple[Bar, ...]]:
    """640x360 at 25 fps: 400 ms of stall every 2 s, 2 % lost in bursts; then clips of packages."""
    seconds = QUICK_SECONDS if quick else SECONDS
    say(f"conceal: {seconds:g} s of a feed with faults")
    figures, loose = held(seconds)
    say("conceal: what gaps of real clips are foretold like")
    figures |= foretold(QUICK_WINDOWS if quick else WINDOWS)
    bars = [
        exactly("moments_missed", 0, figures["moments_missed"]),
        at_most("late_max_ms", 20, figures["late_max_ms"]),
        at_most("handback_jump_p95", 1.3, figures["handback_jump_p95"]),
        at_most("busy_p99_ms", 1000 / FPS, figures["busy_p99_ms"]),
        at_least("fitted_10_gain_db", 0, gain(figures, 10)),
        exactly("unbalanced_edges", 0, loose),
    ]
    return figures, tuple(bars)


# ---- on time


def held(seconds: float) -> tuple[dict[str, float], int]:
    """Figures of a run, and the number of unbalanced edges."""
    clip = str(small_clip(*SIZE, FPS))
    with running(graph(clip)) as active:
        time.sleep(seconds)
        snapshot = active.finish().snapshot
        notes = active.ages(NOTES)
    busy = snapshot.nodes["conceal"].busy
    figures = judged(notes, filmed(clip, len(notes) * 2)) | {
        f"busy_p{percent}_ms": significant(busy.percentile_ms(percent)) for percent in (50, 99)
    }
    return figures, len(unbalanced(snapshot))


def graph(clip: str) -> GraphSpec:
    """The feed, `Conceal`, who takes notes, and the mark that has to be."""
    g = Graph("conceal", mode="live")
    camera = g.add("camera", FaultyFeed, FaultyFeedConfig(path=clip, fps=FPS))
    edge = camera.edge("frames", queue=16, full="drop_oldest")
    conceal = g.add("conceal", Conceal, ConcealConfig(), inputs={"frames": edge})
    edge = conceal.edge(queue=8, full="block")
    notes = g.add("notes", ShownNotes, ShownNotesConfig(path=NOTES), inputs={"frames": edge})
    mark = g.add("mark", Mark, inputs={"frames": notes.edge(queue=8, full="block")})
    g.add("sink", NullSink, inputs={"frames": mark.edge(queue=8, full="block")})
    return g.spec()


def judged(notes: F64, filmed: F64) -> dict[str, float]:
    """What was shown when, by `ShownNotes`. `filmed`: the change that leads to each frame of the
    feed, lost ones too.
    """
    period_ns = 1e9 / FPS
    delay_ns = notes[:, ARRIVAL] - notes[:, PTS]
    usual_ns = quantile(delay_ns[notes[:, KIND] == CAPTURED], 25)
    late_ms = (delay_ns - usual_ns) / 1e6
    missed = np.diff(notes[:, PTS]) / period_ns - 1
    jumps = seams(notes, filmed)
    return {
        "frames": len(notes),
        "frames_made": int((notes[:, KIND] == MADE).sum()),
        "frames_handed_back": int((notes[:, KIND] == BACK).sum()),
        "moments_missed": int(np.rint(missed).sum()),
        "late_p99_ms": round(quantile(late_ms, 99), 2),
        "late_max_ms": round(float(late_ms.max()), 2),
        "seams": len(jumps),
        "handback_jump_p50": round(quantile(jumps, 50), 3),
        "handback_jump_p95": round(quantile(jumps, 95), 3),
        "handback_jump_max": round(max(jumps), 3),
    }


def seams(notes: F64, filmed: F64) -> list[float]:
    """Of each way back from made to captured frames the largest change from frame to frame, by what
    was filmed: at that very frame, or in the mean around, whichever is more.
    """
    kinds = notes[:, KIND]
    number = np.rint(notes[:, PTS] * FPS / 1e9).astype(int)
    usual = np.convolve(filmed, np.ones(2 * NEAR + 1) / (2 * NEAR + 1), "same")
    ratio = notes[:, CHANGE] / np.maximum(np.maximum(filmed, usual)[number], UNSEEN)
    found = []
    for first in np.flatnonzero((kinds[1:] != MADE) & (kinds[:-1] == MADE)) + 1:
        last = first
        while last < len(notes) - 1 and kinds[last] == BACK:
            last += 1
        found.append(float(ratio[first : last + 1].max()))
    return found


# ---- as it would have been


def foretold(windows: int) -> dict[str, float]:
    """PSNR and SSIM of lumas at `HORIZONS`, mean over the clips of installed packages, each the
    mean of its stretches. `told` is `fitted` corrected by the truth at 64x64, the most that a
    network of that size can add; `told_enlarged` is nothing but that truth, enlarged.
    """
    clips = []
    for clip, path in installed()[0]:
        say(f"conceal: {clip.name}")
        stretches = chosen(shown(path), windows)
        if stretches:
            clips.append(np.nanmean([judge(past, true) for past, true in stretches], axis=0))
    mean = np.nanmean(clips, axis=0)
    return {
        f"{way}_{horizon}_{unit}": round(float(mean[column, row, kind]), 3)
        for row, way in enumerate(WAYS)
        for column, horizon in enumerate(HORIZONS)
        for kind, unit in enumerate(("psnr_db", "ssim"))
    }


def gain(figures: dict[str, float], horizon: int) -> float:
    """dB of `fitted` over the last picture."""
    return figures[f"fitted_{horizon}_psnr_db"] - figures[f"frozen_{horizon}_psnr_db"]


def shown(path: Path) -> list[Frame]:
    """The clip, stretched to `SIZE`."""
    width, height = SIZE
    frames = []
    for frame in decoded(path):
        data = np.empty((height * 3 // 2, width), np.uint8)
        for target, plane in zip(
            planes_of(data, *SIZE), planes_of(frame.data, *frame_size(frame)), strict=True
        ):
            target[:] = fitted(plane, (target.shape[1], target.shape[0]))
        frames.append(frame.with_data(data, replace(frame.caps, width=width, height=height)))
    return frames


def chosen(frames: list[Frame], most: int) -> list[tuple[list[Frame], list[Frame]]]:
    """At most so many stretches without a cut, evenly over the clip: known and later frames."""
    length = KEPT + HORIZONS[-1]
    lumas = [fitted(picture_of(frame).luma, (160, 90)) for frame in frames]
    cuts = [n for n in range(1, len(lumas)) if cv2.absdiff(lumas[n], lumas[n - 1]).mean() > CUT]
    firsts = [
        first
        for first in range(len(frames) - length + 1)
        if not any(first < cut < first + length for cut in cuts)
    ]
    index = np.linspace(0, len(firsts) - 1, min(most, len(firsts))).astype(int)
    found = [frames[firsts[n] : firsts[n] + length] for n in index]
    return [(stretch[:KEPT], stretch[KEPT:]) for stretch in found]


def filmed(clip: str, count: int) -> F64:
    """[count] the change that leads to each frame of `FaultyFeed` with its defaults."""
    config = FaultyFeedConfig(path=clip)
    pictures = [picture_of(frame) for frame in islice(decoded(Path(clip)), config.pictures)]
    shown = [pictures[to_and_fro(n, len(pictures))] for n in range(count)]
    return np.array([0.0, *(apart(after, before) for before, after in pairwise(shown))])


def judge(past: list[Frame], true: list[Frame]) -> F64:
    """[horizons, ways, 2]: PSNR and SSIM."""
    lumas = [fitted(picture_of(frame).luma, FLOW_SIZE) for frame in past]
    courses = [Course(lumas, damping) for damping in (0.0, 1.0, None)]
    return np.array([
        [quality(one, true[n - 1]) for one in ways(past[-1], courses, n, true[n - 1])]
        for n in HORIZONS
    ])  # fmt: skip


def ways(last: Frame, courses: list[Course], ahead: int, truth: Frame) -> Iterator[U8]:
    """The luma of the picture so far ahead, by `WAYS`."""
    picture = picture_of(last)
    for course in courses:
        way = course.way(ahead)
        moved = move(picture, way.field, np.empty_like(picture.data))
        yield moved.luma
    known, wanted = (small_rgb(frame, (SMALL, SMALL)) for frame in (last, truth))
    sure = np.ones((GRID, GRID), np.float32)
    fix = correction(small_course(known, way.field), wanted, sure)
    yield corrected(moved, fix, last.caps, np.empty_like(picture.data)).luma
    small = fitted(picture_of(truth).luma, (SMALL, SMALL))
    yield np.asarray(cv2.resize(small, SIZE, interpolation=cv2.INTER_CUBIC), np.uint8)


def quality(luma: U8, truth: Frame) -> tuple[float, float]:
    """PSNR in dB, at most `BEST_DB`, and SSIM."""
    one, other = (np.dstack([plane] * 3) for plane in (luma, picture_of(truth).luma))
    return min(float(psnr(one, other)), BEST_DB), float(ssim(one, other))
