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
ALONE = (
    "The room is a clip's own median: bodies that rest are part of it, and there may be several. "
    "What is generated is to be read against what is rendered. "
)


def markdown(report: Mapping[str, Any]) -> str:
    """Tables with a sentence above each; figures that are not defined are a dash."""
    system = report["system"]
    parts = [
        f"# AR-Diffusion {system['name']}, S = {system['steps']}, s = {system['lag']}",
        f"Checkpoint {system['sha'][:12]}, worlds: {', '.join(system['kinds'])}.",
    ]
    if not report["complete"]:
        parts.append("**Stopped early: some tables are missing.**")
    parts += _reconstruction(report.get("reconstruction", {}))
    for length, table in report.get("distances", {}).items():
        parts += _distances(length, table, report["features"], (system["lag"], system["steps"]))
    for split, found in report.get("continuation", {}).items():
        parts += _continuation(split, found, report["settings"])
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
