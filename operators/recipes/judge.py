"""A head judged on a folder of media, as the field does it and ISO/IEC 30107-3 words it.

Layout: `DOMAIN/{live,spoof/TYPE}/SUBJECT/*.{jpg,jpeg,png,mp4}`. The threshold comes from elsewhere:
from the checkpoint (`protocol=stored`), or from development people of the folder who are not in
the test (`identities`, `domains`, `attacks`; method notes, 7.1). The one that the test data itself
would choose stands beside it under the name oracle (7.2, trap 1). Written into the job's folder:
report.json, report.txt, scores.csv, ROC and histograms as PNG; per file and per frame.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from engine.recipe import Job, RecipeError
from operators.nn.pad.bootstrap import BootstrapConfig
from operators.nn.pad.errors import EvaluationError
from operators.nn.pad.listing import LAYOUT, Listing, MediaItem, read_folder
from operators.nn.pad.metrics import Presentations
from operators.nn.pad.plots import plot_histograms, plot_roc
from operators.nn.pad.protocol import (
    Shares,
    Split,
    held_out_identities,
    leave_one_domain_out,
    unseen_attack,
)
from operators.nn.pad.report import build_report, evaluate, to_json
from operators.nn.pad.scoring import ScoredItem, VideoRule, per_frame, per_video, skip_reasons
from operators.nn.pad.table import text_table
from operators.nn.pad.threshold import Threshold, ThresholdRule
from operators.nn.prompts.head import PadHead
from operators.recipes.face_scores import open_backbone, open_judge, score_all
from operators.recipes.settings import changed

FILE = "file (an image; of a video the mean over its frames)"
FRAME = "frame"
UNITS = {FILE: per_video, FRAME: per_frame}


class JudgeSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What `frameloom eval` may set with `--set`."""

    protocol: Literal["stored", "identities", "domains", "attacks"] = "stored"
    rule: Literal["bpcer", "eer", "apcer"] = "bpcer"  # on development people; unused for stored
    target: float = 0.05  # BPCER or APCER that the rule asks for
    development: float = 0.4  # share of the people that choose the threshold, where people do
    step_ms: int = 200  # frames of a video that are scored; 0: all
    at_most: int = 50  # frames of a video; 0: no limit
    draws: int = 1000  # of the bootstrap over identities
    seed: int = 0
    backbone: str = ""  # compact model or folder of a CLIP; empty: the one that comes along


@dataclass(frozen=True)
class Plan:
    """One measurement: who is tested, and where the threshold comes from."""

    name: str
    test: tuple[MediaItem, ...]
    development: tuple[MediaItem, ...]  # empty where the threshold is given
    threshold: Threshold | None


@dataclass(frozen=True)
class Run:
    """What one plan gave."""

    name: str
    reports: Mapping[str, Mapping[str, Any]]  # by unit
    tested: Mapping[str, Presentations]  # by unit


def judge_folder(job: Job, head_path: Path, settings: JudgeSettings) -> dict[str, Any]:
    """Score every file once, measure by the protocol, write all of it; the report as plain data.

    RecipeError for a folder, a checkpoint or settings from which no honest figure can be made.
    """
    if job.data is None:
        raise RecipeError(f"--data FOLDER is needed: {LAYOUT}")
    vlm = open_backbone(Path(settings.backbone) if settings.backbone else None)
    head = open_judge(head_path, vlm)
    try:
        listing = read_folder(job.data)
        rule = VideoRule(settings.step_ms, settings.at_most)
        fixed = settings_of(settings)
        plans = make_plans(listing, head, settings)
        scored = score_all(listing.items, vlm, head, rule, job)
        runs, left_out = measure(plans, scored, *fixed)
    except EvaluationError as error:
        raise RecipeError(str(error)) from error
    report = {
        "checkpoint": {"name": head.name, "sha": head.sha, "backbone": vlm.name}
        | {"backbone_sha": vlm.backbone_sha},
        "settings": msgspec.to_builtins(settings),
        "frames_of_videos": asdict(rule),
        "known_people": known_people(listing, head),
        "no_score": skip_reasons(scored),
        "left_out": left_out,
        "runs": [{"name": run.name, "by": dict(run.reports)} for run in runs],
    }
    report["text"] = _text(report)
    (job.out / "report.json").write_text(to_json(report))
    (job.out / "report.txt").write_text(report["text"])
    write_scores(job.out / "scores.csv", listing, scored)
    draw(job.out, runs)
    return report


def make_plans(listing: Listing, head: PadHead, settings: JudgeSettings) -> list[Plan]:
    """The measurements of a protocol. RecipeError or EvaluationError where it cannot be held."""
    if settings.protocol == "stored":
        return _stored_plans(listing, head)
    test = 1.0 - settings.development
    shares = Shares(0.0, settings.development, test, settings.seed)  # the head is trained already
    splits: tuple[Split, ...]
    if settings.protocol == "identities":
        splits = (held_out_identities(listing, shares),)
    elif settings.protocol == "domains":
        splits = leave_one_domain_out(listing, shares)
    else:
        splits = unseen_attack(listing, shares)
    return [Plan(split.name, split.test, split.development, None) for split in splits]


def measure(
    plans: Sequence[Plan],
    scored: Sequence[ScoredItem],
    rule: ThresholdRule,
    bootstrap: BootstrapConfig,
) -> tuple[list[Run], dict[str, str]]:
    """Each plan's reports per file and per frame, and which plans could not be measured, and why.

    EvaluationError if none could.
    """
    by_item = {one.item: one for one in scored}
    runs: list[Run] = []
    left_out: dict[str, str] = {}
    for plan in plans:
        try:
            runs.append(_run(plan, by_item, rule, bootstrap))
        except EvaluationError as error:
            left_out[plan.name] = str(error)
    if not runs:
        told = "; ".join(f"{name}: {why}" for name, why in left_out.items())
        raise EvaluationError(f"nothing could be measured: {told}")
    return runs, left_out


def write_scores(path: Path, listing: Listing, scored: Sequence[ScoredItem]) -> None:
    """One row per scored frame or non-response, for whoever wants to compute other figures."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("file", "domain", "species", "subject", "frame", "score", "reason"))
        for one in scored:
            item = one.item
            about = (item.path.relative_to(listing.root), item.domain, item.species, item.subject)
            for number, frame in enumerate(one.frames):
                found = (frame, "") if isinstance(frame, float) else ("", frame)
                rows.writerow((*about, number, *found))


def draw(folder: Path, runs: Sequence[Run]) -> None:
    """`roc.png` of all runs per file, `roc-frames.png` per frame, `scores-RUN.png` of each."""
    plot_roc({run.name: run.tested[FILE] for run in runs}, folder / "roc.png")
    plot_roc({run.name: run.tested[FRAME] for run in runs}, folder / "roc-frames.png")
    for run in runs:
        report = run.reports[FILE]
        lines = {
            "threshold": report["threshold"]["value"],
            "oracle": report["oracle"]["threshold"],
        }
        slug = re.sub(r"[^a-zA-Z0-9]+", "-", run.name).strip("-").lower()
        plot_histograms(run.tested[FILE], lines, folder / f"scores-{slug}.png")


def known_people(listing: Listing, head: PadHead) -> list[str]:
    """Who of the folder bears a name that the card gives to training or development people."""
    subjects = head.card.get("subjects", {})
    known = {name for part in ("train", "development") for name in subjects.get(part, ())}
    return sorted({item.identity for item in listing.items} & known)


def _stored_plans(listing: Listing, head: PadHead) -> list[Plan]:
    if "" not in head.thresholds:
        raise RecipeError(
            "the checkpoint holds no threshold: run frameloom calibrate on live media that are not "
            "in this folder, or choose one here with --set protocol=identities"
        )
    plans = [Plan("all domains, default threshold", listing.items, (), head.thresholds[""])]
    for domain in listing.domains:
        if domain in head.thresholds:
            own = tuple(item for item in listing.items if item.domain == domain)
            plans.append(
                Plan(f"domain {domain}, its own threshold", own, (), head.thresholds[domain])
            )
    return plans


def _run(
    plan: Plan,
    by_item: Mapping[MediaItem, ScoredItem],
    rule: ThresholdRule,
    bootstrap: BootstrapConfig,
) -> Run:
    for live, what in ((True, "bona fide presentation"), (False, "attack")):
        if not any(item.is_live is live for item in plan.test):
            raise EvaluationError(f"no {what} to test with")
    reports: dict[str, Mapping[str, Any]] = {}
    tested: dict[str, Presentations] = {}
    for unit, rows_of in UNITS.items():
        test = tested[unit] = rows_of([by_item[item] for item in plan.test])
        if plan.threshold is not None:
            reports[unit] = build_report(test, plan.threshold, bootstrap, unit)
        else:
            development = rows_of([by_item[item] for item in plan.development])
            reports[unit] = evaluate(development, test, rule, bootstrap, unit)
    return Run(plan.name, reports, tested)


def settings_of(settings: JudgeSettings) -> tuple[ThresholdRule, BootstrapConfig]:
    """The rule for thresholds and the bootstrap; EvaluationError for what cannot be."""
    rule = ThresholdRule(settings.rule, 0.0 if settings.rule == "eer" else settings.target)
    return rule, BootstrapConfig(draws=settings.draws, seed=settings.seed)


def _text(report: Mapping[str, Any]) -> str:
    head = report["checkpoint"]
    lines = [f"{head['name']} {head['sha'][:12]} on {head['backbone']} {head['backbone_sha'][:12]}"]
    lines += [f"  no score: {why}, {count} frames" for why, count in report["no_score"].items()]
    if report["known_people"]:
        names = ", ".join(report["known_people"])
        lines.append(f"  Note: named as training or development people in the card: {names}")
    for run in report["runs"]:
        for made in run["by"].values():
            lines += ["", f"== {run['name']}", text_table(made)]
    lines += [f"left out: {name}: {why}" for name, why in report["left_out"].items()]
    return "\n".join(lines) + "\n"


def judge_settings(job: Job) -> JudgeSettings:
    """The job's settings, checked."""
    return changed(JudgeSettings(), job.settings)
