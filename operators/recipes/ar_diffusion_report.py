"""The report of an evaluation as Markdown: what the card and the README show."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

MOTION = {
    "area_variation": "area, deviation / mean",
    "colour_drift": "colour drift (0..441)",
    "surprise_px": "next position foretold, error px",
    "flight_surprise_px": "the same in free flight",
    "fall": "fall / gravity",
    "energy_rises": "energy gained in flight, share",
    "energy_change": "energy, end / begin - 1",
    "path_px": "path px",
    "seen": "seen, share of frames",
}
PHYSICS = "Physics: medians over clips, with the number of those that have a figure if not all do."
REAL = (
    "PSNR dB (SSIM) against what was filmed, so many frames ahead of {past} known ones. The "
    "auto-encoded truth is what the auto-encoder leaves of a perfect guess. Both figures favour "
    "blur and rest over motion that lies elsewhere."
)
MOST_VIDEOS = 8  # that get rows of their own
ALONE = (
    "The room is a clip's own median: bodies that rest are part of it, and there may be several. "
    "What is generated is to be read against what is rendered. "
)


def markdown(report: Mapping[str, Any]) -> str:
    """Tables with a sentence above each; figures that are not defined are a dash."""
    system = report["system"]
    names = system["kinds"] if "kinds" in system else system["classes"]
    on = "worlds" if "kinds" in system else "videos"
    parts = [
        f"# AR-Diffusion {system['name']}, S = {system['steps']}, s = {system['lag']}",
        f"Checkpoint {system['sha'][:12]}, {on}: {', '.join(names)}.",
    ]
    if not report["complete"]:
        parts.append("**Stopped early: some tables are missing.**")
    if "figures" in report:
        told = [[name, f"{value:.4f}"] for name, value in report["figures"].items()]
        parts.append(_table(["figure", "value"], told))
    parts += _reconstruction(report.get("reconstruction", {}))
    for length, table in report.get("distances", {}).items():
        parts += _distances(length, table, report["features"], (system["lag"], system["steps"]))
    for split, found in report.get("continuation", {}).items():
        parts += _continuation(split, found, report["settings"])
    if "real" in report:
        parts += _real(report["real"], report["settings"])
    if "bounces" in report:
        parts += ["## Bounces from nothing", ALONE + PHYSICS,
                  _physics(report["bounces"])]  # fmt: skip
    parts.append(f"Took {report['seconds']:.0f} s.")
    return "\n\n".join(parts) + "\n"


def ends_beaten(table: Mapping[str, Any], own_lag: int, steps: int) -> str:
    """Whether the system's lag has a lower distance than s = 0 and s = S, in one sentence."""
    rows, ends = table["rows"], (0, steps)
    if own_lag in ends or any(f"s = {lag}" not in rows for lag in (own_lag, *ends)):
        return "The system's own lag and both ends were not all measured."
    own = rows[f"s = {own_lag}"]["distance"]
    lost = [lag for lag in ends if rows[f"s = {lag}"]["distance"] <= own]
    if lost:
        names = " and ".join(f"s = {lag}" for lag in lost)
        return f"s = {own_lag} does not beat both ends: {names} is as near or nearer."
    apart = all(rows[f"s = {lag}"]["low"] > rows[f"s = {own_lag}"]["high"] for lag in ends)
    sure = "intervals apart" if apart else "but intervals overlap"
    return f"s = {own_lag} beats both ends, s = {ends[0]} and s = {ends[1]}; {sure}."


def _reconstruction(found: Mapping[str, Any]) -> list[str]:
    if not found:
        return []
    rows = [
        [split, kind, f"{one['psnr_db']:.2f}", f"{one['ssim']:.4f}", str(one["frames"])]
        for split, kinds in found.items()
        for kind, one in kinds.items()
    ]
    head = ["split", "world", "PSNR dB", "SSIM", "frames"]
    return ["## Auto-encoder", _table(head, rows)]


def _distances(
    length: str, table: Mapping[str, Any], features: str, lag_of: tuple[int, int]
) -> list[str]:
    about = (
        f"Frechet distance to {table['real_clips']} held-out clips, of {table['clips']} clips in "
        f"each row, with a 95 % bootstrap interval; {features}; {table['dims']} principal axes "
        f"({100 * table['axes_keep']:.0f} % of the variance). 1 = the total variance of real clips."
    )
    rows = []
    for name, row in table["rows"].items():
        interval = f"{row['low']:.3f} - {row['high']:.3f}"
        cost = ["", "", "", ""]
        if "frame_ms" in row:
            cost = [f"{row['calls_first']:.0f}", f"{row['first_frame_ms']:.0f}",
                    f"{row['calls_per_frame']:.2f}", f"{row['frame_ms']:.1f}"]  # fmt: skip
        rows.append([name, f"{row['distance']:.3f}", interval, *cost])
    head = [
        "",
        "distance",
        "95 %",
        "calls to first",
        "first frame ms",
        "calls / frame",
        "ms / frame",
    ]
    return [f"## {length} frames", about, _table(head, rows), ends_beaten(table, *lag_of)]


def _continuation(split: str, found: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    errors = found["position_error_px"]
    horizons = list(next(iter(errors.values())))
    rows = [
        [name, *(f"{by[h]['mean']:.2f} ({by[h]['median']:.2f})" for h in horizons)]
        for name, by in errors.items()
    ]
    about = (
        f"{found['clips']} clips of split {split}, {settings['past']} frames known. Position error "
        f"px, mean (median), so many frames ahead. True positions lie {found['spread_px']:.2f} px "
        "from their own mean."
    )
    return [f"## Going on, {split}", about, _table(["", *horizons], rows),
            PHYSICS, _physics(found["physics"])]  # fmt: skip


def _real(found: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    parts = ["## Real video"]
    if found.get("missing"):
        parts.append(f"Not there, not measured: {'; '.join(found['missing'])}.")
    if "reconstruction" not in found:
        return parts
    parts += [f"Clips: {found['origin']}.", _there_and_back(found["reconstruction"])]
    if "together" not in found:
        needed = settings["past"] + settings["ahead"]
        return [*parts, f"No clip has {needed} frames without a cut: none was gone on with."]
    videos = found["continuation"]
    rows = _ahead_rows(f"all, {found['windows']} times", found["together"])
    if len(videos) <= MOST_VIDEOS:
        for name, one in videos.items():
            ways = {way: by for way, by in one.items() if way != "windows"}
            rows += _ahead_rows(f"{name}, {one['windows']} times", ways)
    head = ["", "", *next(iter(found["together"].values()))]
    return [*parts, REAL.format(past=settings["past"]), _table(head, rows)]


def _there_and_back(by_video: Mapping[str, Mapping[str, float]]) -> str:
    """What comes back out of the auto-encoder; of many videos their mean."""
    rows = [
        [name, f"{one['psnr_db']:.2f}", f"{one['ssim']:.4f}", str(one["frames"])]
        for name, one in by_video.items()
    ]
    if len(rows) > MOST_VIDEOS:
        decibel, alike = (
            sum(one[key] for one in by_video.values()) / len(rows) for key in ("psnr_db", "ssim")
        )
        frames = sum(one["frames"] for one in by_video.values())
        told = f"mean of {len(rows)}, each in report.json"
        rows = [[told, f"{decibel:.2f}", f"{alike:.4f}", f"{frames:.0f}"]]
    return _table(["auto-encoder, video", "PSNR dB", "SSIM", "frames"], rows)


def _ahead_rows(
    name: str, by_way: Mapping[str, Mapping[str, Mapping[str, float]]]
) -> list[list[str]]:
    return [
        [
            name * (n == 0),
            way,
            *(f"{one['psnr_db']:.2f} ({one['ssim']:.3f})" for one in by.values()),
        ]
        for n, (way, by) in enumerate(by_way.items())
    ]


def _physics(by_name: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        [told, *(_figure(found[key], found["seen"]["n"]) for found in by_name.values())]
        for key, told in MOTION.items()
    ]
    return _table(["", *by_name], rows)


def _figure(found: Mapping[str, float], clips: float) -> str:
    """A median, and of how many clips where not all have it."""
    few = f" ({found['n']:.0f})" if found["n"] < clips else ""
    return "-" if math.isnan(found["median"]) else f"{found['median']:.3f}{few}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
