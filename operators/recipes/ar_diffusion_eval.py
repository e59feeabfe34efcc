"""`frameloom eval ar-diffusion`: what a system can do and costs, on held-out worlds and real video.

Split `validation` has the shapes, textures and rooms of training in other worlds, split `test` has
its own. Real video is what installed packages carry, or else a folder of the user's. All figures
depend on the settings alone, but for times. Written into the job's folder: report.json, report.md,
a sheet for each class, strips of long clips and of continuations, a video.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from engine.recipe import Job, RecipeError
from operators.nn.ar_diffusion.files import System
from operators.nn.quality.features import ClipFeatures
from operators.nn.quality.image import mean_psnr, psnr, ssim
from operators.nn.worlds.spec import Kind, Split
from operators.recipes.ar_diffusion_report import markdown
from operators.recipes.ar_diffusion_samples import Made, Maker
from operators.recipes.bounce_motion import Continuation, Throw, judge_alone, judge_motion, throws
from operators.recipes.clip_distances import OTHER, distance_table, real_sets
from operators.recipes.clip_pictures import sheet, write_picture, write_video
from operators.recipes.footage import Footage, Rendered, View, render
from operators.recipes.package_clips import installed, read_clips
from operators.recipes.real_clips import SEEDS, RealJudged, RealSettings, judge_real, wrong_sizes

U8 = npt.NDArray[np.uint8]
HELD_OUT: tuple[Split, Split] = ("validation", "test")
FEWEST = 6  # clips for a distance
SHOWN = 4  # clips in a sheet


class EvalSettings(RealSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How much is measured. Short clips have as many frames as the denoiser's window."""

    clips: int = 42  # short ones, generated for each lag
    real: int = 128  # rendered ones to compare with; as many again give the axes
    lags: tuple[int, ...] = ()  # none: 0, 1, the system's own, S / 2 and S
    long_clips: int = 15
    long_real: int = 48
    long_lags: tuple[int, ...] = ()  # none: 0, the system's own and S
    long_frames: int = 128
    throws: int = 24  # true clips of each split to go on from
    overlap: int = 4  # frames that stitched windows share, s = 0
    guidance: float = 1.0
    dims: int = 16  # principal axes; at most a third of the clips
    draws: int = 200  # of the bootstrap
    latest_start_s: float = 8.0  # real clips begin at any time up to this in the life of a world


QUICK = EvalSettings(
    frames=12, windows=6, clips=9, real=20, lags=(0, 2), long_clips=6, long_real=12,
    long_lags=(0, 2), long_frames=40, throws=4, dims=3, draws=50,
)  # fmt: skip


@dataclass
class Evaluation:
    """One evaluation under way. Its parts return False when the job is to stop."""

    maker: Maker
    kinds: tuple[Kind, ...]
    features: ClipFeatures
    settings: EvalSettings
    job: Job
    report: dict[str, Any] = field(default_factory=dict)
    made: dict[tuple[int, int], list[Made]] = field(default_factory=dict)  # by length and lag

    @property
    def own_lag(self) -> int:
        return self.maker.system.config.lag

    @property
    def window(self) -> int:
        return self.maker.system.config.denoiser.frames

    def label(self, number: int) -> int:
        """Classes take turns, as they do in rendered sets."""
        denoiser = self.maker.system.denoiser
        return number % len(self.kinds) if denoiser.config.classes else denoiser.null

    def real(
        self, kinds: tuple[Kind, ...], split: Split, shape: tuple[int, int], which: int
    ) -> U8 | None:
        """[clips, frames, S, S, 3] of a `shape` (clips, frames); None when the job is to stop."""
        s, side = self.settings, self.maker.system.config.vae.size_px
        worlds = Rendered(kinds, split, *shape, s.latest_start_s, s.seed * SEEDS + which)
        footage = render(View(side, s.fps), worlds, self.job)
        return None if footage is None else footage.frames.reshape(*shape, side, side, 3)

    def write(self, name: str, picture: U8) -> None:
        """A picture into the job's folder."""
        write_picture(self.job.out / name, picture)
        self.report.setdefault("pictures", []).append(name)


def evaluate_system(
    system: System,
    kinds: tuple[Kind, ...],
    features: ClipFeatures,
    settings: EvalSettings,
    job: Job,
) -> dict[str, Any]:
    """The report as plain data; with `complete` False it is what there was when the job stopped.

    `kinds`: the worlds of the classes, in the order of the labels. RecipeError for settings that do
    not go with the system.
    """
    begin_s = time.monotonic()
    maker = Maker(system, settings.guidance, settings.overlap)
    work = Evaluation(maker, kinds, features, settings, job)
    short, long = choose_lags(work)
    work.report |= {**_about(maker, settings, {"kinds": kinds}), "features": features.name}
    sizes = settings.clips, work.window, settings.real
    long_sizes = settings.long_clips, settings.long_frames, settings.long_real
    parts: tuple[Callable[[], bool], ...] = (
        lambda: _reconstruct(work),
        lambda: _distances(work, short, sizes),
        lambda: _continue(work),
        lambda: _package_clips(work),
        lambda: _alone(work),
        lambda: _distances(work, long, long_sizes),
        lambda: _show(work),
    )
    complete = all(part() for part in parts)
    return _written(work.report, complete, begin_s, job)


def evaluate_videos(
    system: System,
    held_out: Footage,
    figures: Mapping[str, float],
    settings: EvalSettings,
    job: Job,
) -> dict[str, Any]:
    """The report on the user's own videos, by pixels alone.

    `figures`: of the same footage, by name, told with the rest. Of the settings only `guidance` and
    those of `RealSettings` count, which must go with the system (`wrong_sizes`).
    """
    begin_s = time.monotonic()
    maker = Maker(system, settings.guidance, settings.overlap)
    about = _about(maker, settings, {"classes": held_out.classes})
    report = {**about, "figures": dict(figures)}
    found = judge_real(maker, held_out, settings, job)
    if found is not None:
        report |= {"real": found.figures, "pictures": _real_picture(found, job)}
    return _written(report, found is not None, begin_s, job)


def _about(
    maker: Maker, settings: EvalSettings, data: Mapping[str, tuple[str, ...]]
) -> dict[str, Any]:
    """What is judged, how, and on the worlds (`kinds`) or videos (`classes`) of which names."""
    system = maker.system
    return {
        "system": {"name": system.config.name, "sha": system.sha, "steps": maker.steps,
                   "lag": system.config.lag, **data},
        "settings": msgspec.to_builtins(settings),
    }  # fmt: skip


def _real_picture(found: RealJudged, job: Job) -> list[str]:
    """Written into the job's folder; its name, if there is one."""
    if found.picture is None:
        return []
    write_picture(job.out / "real.png", found.picture)
    return ["real.png"]


def _written(report: dict[str, Any], complete: bool, begin_s: float, job: Job) -> dict[str, Any]:
    """The report, which then is in the job's folder, too."""
    report |= {"complete": complete, "seconds": round(time.monotonic() - begin_s, 1)}
    report["text"] = markdown(report)
    (job.out / "report.json").write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    (job.out / "report.md").write_text(report["text"])
    return report


def choose_lags(work: Evaluation) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Of short and of long clips. RecipeError if one cannot be, or for other wrong settings."""
    s, own, steps = work.settings, work.own_lag, work.maker.steps
    classes = work.maker.system.config.denoiser.classes
    wrong = [
        (min(s.clips, s.long_clips, s.real, s.long_real) < FEWEST, f"fewer than {FEWEST} clips"),
        (min(s.throws, s.dims, s.past - 1) < 1, "a size is too small"),
        (s.long_frames <= work.window, f"long_frames: more than the window of {work.window}"),
        (classes not in (0, len(work.kinds)), f"{classes} classes, {len(work.kinds)} kinds"),
    ]
    wrong += [
        (not work.maker.allows(lag), f"a lag of {lag} cannot stream with {steps} steps")
        for lag in (*s.lags, *s.long_lags)
    ]
    problems = wrong_sizes(s, work.window) + [told for is_wrong, told in wrong if is_wrong]
    if problems:
        raise RecipeError("; ".join(problems))
    usual = tuple(lag for lag in sorted({0, 1, own, steps // 2, steps}) if work.maker.allows(lag))
    return s.lags or usual, s.long_lags or tuple(sorted({0, own, steps}))


def _reconstruct(work: Evaluation) -> bool:
    """PSNR and SSIM of the auto-encoder, by split and kind."""
    found: dict[str, Any] = {}
    count = work.settings.frames
    for split in HELD_OUT:
        found[split] = {}
        for kind in work.kinds:
            frames = work.real((kind,), split, (count, 1), OTHER)
            if frames is None:
                return False
            pair = work.maker.through(frames[:, 0]), frames[:, 0]
            decibel, alike = mean_psnr(psnr(*pair)), float(ssim(*pair).mean())
            found[split][kind] = {"psnr_db": decibel, "ssim": alike, "frames": count}
    work.report["reconstruction"] = found
    return True


def _distances(work: Evaluation, lags: tuple[int, ...], sizes: tuple[int, int, int]) -> bool:
    """Distance to held-out clips and cost, by lag; `sizes`: generated clips, frames, real clips."""
    s, (count, length, real) = work.settings, sizes
    work.job.tell(f"real clips of {length} frames", 0, 1)
    sets = real_sets(
        lambda split, many, which: work.real(work.kinds, split, (many, length), which),
        work.features, real, count, s.seed,
    )  # fmt: skip
    if sets is None:
        return False
    seen, costs = {}, {}
    for lag in lags:
        clips: list[Made] = []
        for number in range(count):
            if work.job.stop.is_set():
                return False
            made = work.maker.clip(lag, work.label(number), s.seed * SEEDS + number, length)
            clips.append(made)
            work.job.tell(f"{length} frames, s = {lag}", number + 1, count)
        seen[f"s = {lag}"] = work.features.of_clips([made.frames for made in clips])
        costs[f"s = {lag}"] = _cost(clips)
        work.made[length, lag] = clips
    table = distance_table(sets, seen, s.dims, s.draws, s.seed)
    for name, cost in costs.items():
        table["rows"][name] |= cost
    work.report.setdefault("distances", {})[str(length)] = table
    return True


def _cost(clips: list[Made]) -> dict[str, float]:
    """Of the median clip; times are this machine's, decoding included."""
    length = len(clips[0].frames)
    return {
        "calls_first": clips[0].calls_first,
        "calls_per_frame": clips[0].calls / length,
        "first_frame_ms": float(np.median([1e3 * made.first_s for made in clips])),
        "frame_ms": float(np.median([1e3 * made.total_s / length for made in clips])),
    }


def _continue(work: Evaluation) -> bool:
    """Held-out bounces, gone on with after their first frames."""
    if "bounce" not in work.kinds:
        return True
    for split in HELD_OUT:
        given: list[Throw] = []
        generated: list[Continuation] = []
        coded: list[Continuation] = []
        side = work.maker.system.config.vae.size_px
        for throw in throws(
            split, side, work.settings.fps, (work.settings.past, work.settings.ahead)
        ):
            if work.job.stop.is_set():
                return False
            given.append(throw)
            generated.append(_gone_on(work, throw, len(given)))
            through = work.maker.through(throw.ahead)
            coded.append(Continuation(through, generated[-1].empty))
            work.job.tell(f"go on, {split}", len(given), work.settings.throws)
            if len(given) == work.settings.throws:
                break
        made = {"generated": generated, "truth, auto-encoded": coded}
        found = judge_motion(given, made, work.settings.fps)
        work.report.setdefault("continuation", {})[split] = found
        _show_continued(work, split, given, generated)
    return True


def _gone_on(work: Evaluation, throw: Throw, number: int) -> Continuation:
    seed = work.settings.seed * SEEDS + number
    label = work.label(work.kinds.index("bounce"))
    frames = work.maker.go_on(work.own_lag, label, seed, throw.known, len(throw.ahead))
    return Continuation(frames, work.maker.through(throw.empty[None])[0])


def _package_clips(work: Evaluation) -> bool:
    """Real video that happens to be installed, and what is not."""
    s, (clips, missing) = work.settings, installed()
    figures: dict[str, Any] = {"missing": list(missing)}
    if clips:
        view = View(work.maker.system.config.vae.size_px, s.fps)
        footage = read_clips(clips, view, s.most_frames, work.job)
        found = None if footage is None else judge_real(work.maker, footage, s, work.job)
        if found is None:
            return False
        figures |= found.figures
        work.report.setdefault("pictures", []).extend(_real_picture(found, work.job))
    work.report["real"] = figures
    return True


def _alone(work: Evaluation) -> bool:
    """Physics of bounces from nothing, and of rendered ones of which no more is known."""
    made = work.made.get((work.window, work.own_lag), [])
    if "bounce" not in work.kinds or not made or not work.maker.system.denoiser.config.classes:
        return True
    bounces = [clip.frames for clip in made[work.kinds.index("bounce") :: len(work.kinds)]]
    rendered = work.real(("bounce",), "validation", (len(bounces), work.window), OTHER)
    if rendered is None:
        return False
    coded = [work.maker.through(clip) for clip in rendered]
    fps = work.settings.fps
    work.report["bounces"] = {
        "generated": judge_alone(bounces, fps),
        "rendered": judge_alone(list(rendered), fps),
        "rendered, auto-encoded": judge_alone(coded, fps),
    }
    return True


def _show_continued(
    work: Evaluation, split: Split, given: list[Throw], made: list[Continuation]
) -> None:
    rows: list[tuple[str, U8]] = []
    for throw, ahead in list(zip(given, made, strict=True))[:SHOWN]:
        rows.append((f"rendered, {throw.past} frames known", throw.frames))
        told = f"the same {throw.past} frames, then synthetic"
        rows.append((told, np.concatenate((throw.known, ahead.frames))))
    columns = work.settings.past + work.settings.ahead
    work.write(f"continued-{split}.png", sheet(rows, columns))


def _show(work: Evaluation) -> bool:
    """A sheet per class, long clips of each lag, and a video of them."""
    s, classes = work.settings, len(work.kinds)
    short, long = (_by_lag(work, length) for length in (work.window, s.long_frames))
    own = work.own_lag if work.own_lag in long else min(long)
    strips: list[tuple[str, U8]] = []
    for number, kind in enumerate(work.kinds):
        real = work.real((kind,), "validation", (SHOWN, s.long_frames), OTHER)
        if real is None:
            return False
        made = short.get(own, short[min(short)])[number::classes][:SHOWN]
        rows = _named("synthetic", made) + _named("rendered", list(real[:, : work.window]))
        work.write(f"{kind}.png", sheet(rows, 8))
        strips.append((f"{kind}: rendered, {s.long_frames} frames", real[0]))
        strips += [(f"synthetic, s = {lag}", clips[number]) for lag, clips in long.items()]
    work.write("long.png", sheet(strips, 16))
    text = f"synthetic: AR-Diffusion {work.maker.system.config.name}, s = {own}"
    write_video(work.job.out / "long.mp4", long[own], s.fps, text)
    work.report["pictures"].append("long.mp4")
    return True


def _by_lag(work: Evaluation, length: int) -> dict[int, list[U8]]:
    return {
        lag: [clip.frames for clip in made]
        for (frames, lag), made in work.made.items()
        if frames == length
    }


def _named(name: str, clips: list[U8]) -> list[tuple[str, U8]]:
    """Rows of a sheet, the name above the first."""
    return [(name * (n == 0), clip) for n, clip in enumerate(clips)]
