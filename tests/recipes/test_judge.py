"""Judging a folder: who is tested at which threshold, what is written, what is no response."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.recipe import Job, RecipeError
from operators.nn.pad.listing import Listing
from operators.nn.pad.metrics import Presentations, auc, sweep
from operators.nn.pad.scoring import ScoredItem, VideoRule
from operators.nn.pad.threshold import ORACLE, Threshold
from operators.recipes import face_scores
from operators.recipes.face_scores import chosen_frames, file_scorer, open_backbone, open_judge
from operators.recipes.judge import (
    FILE,
    FRAME,
    JudgeSettings,
    judge_folder,
    known_people,
    make_plans,
    measure,
    settings_of,
    write_scores,
)
from tests.operators.media import write_clip
from tests.operators.models import random_compact
from tests.recipes.heads import STORED, PlainHead, item, judged, scored

BACKBONE = str(random_compact())


def folder_of(count: int, *, spoof: tuple[str, ...] = ("print", "mask")) -> Listing:
    """So many people in each of two domains, each live and as each attack."""
    items = [
        item(f"{domain}/p{number}", species)
        for domain in ("door", "office")
        for number in range(count)
        for species in ("", *spoof)
    ]
    return Listing(Path("/data"), tuple(sorted(items)))


def scores_of(listing: Listing) -> list[ScoredItem]:
    """Live people above attacks, all different; two frames each."""
    found = []
    for number, one in enumerate(listing.items):
        score = (0.6 if one.is_live else 0.4) + 0.001 * (number * 37 % len(listing.items))
        found.append(ScoredItem(one, (score, score + 0.0001)))
    return found


@pytest.fixture
def any_file_is_a_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(face_scores, "open_head", lambda path: PlainHead())


@pytest.mark.slow
@pytest.mark.usefixtures("any_file_is_a_head")
def test_a_folder_becomes_report_table_scores_and_pictures(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    told: list[tuple[int, int]] = []
    job = Job(judged(tmp_path / "data"), out, tell=lambda _, done, of: told.append((done, of)))
    settings = JudgeSettings(backbone=BACKBONE, draws=20)
    report = judge_folder(job, tmp_path / "head", settings)
    assert told[-1] == (11, 11)
    assert json.loads((out / "report.json").read_text()) == report
    assert (out / "report.txt").read_text() == report["text"]
    for name in ("roc.png", "roc-frames.png", "scores-all-domains-default-threshold.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    assert report["no_score"] == {"NO_FACE": 2, "TOO_SMALL": 1, "UNREADABLE": 1}
    ((per_file, per_frame),) = [run["by"].values() for run in report["runs"]]
    assert per_file["non_response"]["APNRR"]["print"] == {"value": 3 / 7, "n": 7, "silent": 3}
    assert per_frame["non_response"]["APNRR"]["print"]["silent"] == 4
    assert per_file["non_response"]["BPNRR"]["silent"] == 0
    with (out / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["reason"] for row in rows} == {"", "NO_FACE", "TOO_SMALL", "UNREADABLE"}
    kept = [row for row in rows if row["score"]]
    assert len(kept) == 8
    species = np.array([row["species"] for row in kept])
    data = Presentations(
        np.array([float(row["score"]) for row in kept]),
        species == "",
        species,
        np.array([row["subject"] for row in kept]),
    )
    assert per_file["threshold_free"]["AUC"]["value"] == auc(sweep(data))
    for words in ("ISO/IEC 30107-3", "not conformant", "APCER, maximum", "oracle", "BPCER100"):
        assert words in report["text"].replace("not ISO/IEC 30107-3 conformant", "not conformant")


def test_stored_thresholds_are_used_as_they_are_also_by_camera() -> None:
    listing = folder_of(3)
    own = Threshold(0.55, "bpcer", 0.01, "calibration, door", 120, 0)
    head = PlainHead(thresholds={"": STORED, "door": own, "elsewhere": own})
    plans = make_plans(listing, head, JudgeSettings())
    assert [plan.threshold for plan in plans] == [STORED, own]
    assert {one.domain for one in plans[1].test} == {"door"}
    runs, left_out = measure(plans, scores_of(listing), *settings_of(JudgeSettings(draws=5)))
    assert not left_out
    assert [run.reports[FILE]["threshold"]["value"] for run in runs] == [0.5, 0.55]
    assert runs[0].reports[FRAME]["presentations"]["bona fide"]["n"] == 12
    assert runs[0].reports[FILE]["presentations"]["bona fide"]["n"] == 6


@pytest.mark.parametrize(
    ("protocol", "names"),
    [
        ("identities", ["held-out identities"]),
        ("domains", ["without domain door", "without domain office"]),
        ("attacks", ["unseen attack mask", "unseen attack print"]),
    ],
)
def test_other_thresholds_come_from_people_who_are_not_tested(
    protocol: Any, names: list[str]
) -> None:
    listing = folder_of(8)
    settings = JudgeSettings(protocol=protocol, target=0.2, draws=5)
    plans = make_plans(listing, PlainHead(thresholds={}), settings)
    assert [plan.name for plan in plans] == names
    for plan in plans:
        people = [{one.identity for one in part} for part in (plan.development, plan.test)]
        assert people[0]
        assert not people[0] & people[1]
    runs, left_out = measure(plans, scores_of(listing), *settings_of(settings))
    assert not left_out
    for run in runs:
        report = run.reports[FILE]
        assert report["threshold"]["set_on"] == "development"
        assert report["threshold"]["n_attack"] == 0, "attacks are not looked at"
        assert report["oracle"]["label"] == ORACLE
        assert report["at_threshold"]["HTER"]["value"] < 0.2
        assert report["oracle"]["HTER"]["value"] == 0


def test_a_domain_without_attacks_is_told_and_stops_no_other() -> None:
    listing = folder_of(3)
    items = tuple(one for one in listing.items if one.is_live or one.domain == "office")
    listing = Listing(listing.root, items)
    head = PlainHead(thresholds={"": STORED, "door": STORED})
    plans = make_plans(listing, head, JudgeSettings())
    runs, left_out = measure(plans, scores_of(listing), *settings_of(JudgeSettings(draws=5)))
    assert [run.name for run in runs] == ["all domains, default threshold"]
    assert left_out["domain door, its own threshold"] == "no attack to test with"


def test_a_folder_in_which_nobody_was_seen_has_no_figure() -> None:
    listing = folder_of(2)
    blind = [ScoredItem(one, ("NO_FACE",)) for one in listing.items]
    plans = make_plans(listing, PlainHead(), JudgeSettings())
    with pytest.raises(ValueError, match=r"nothing could be measured.*no presentation gave"):
        measure(plans, blind, *settings_of(JudgeSettings(draws=5)))


def test_without_a_stored_threshold_it_says_what_can_be_done() -> None:
    with pytest.raises(RecipeError, match=r"frameloom calibrate .* protocol=identities"):
        make_plans(folder_of(2), PlainHead(thresholds={}), JudgeSettings())


def test_who_the_card_names_is_told() -> None:
    subjects = {"train": ["door/p0"], "development": ["office/p1"], "test": ["door/p1"]}
    head = PlainHead(card={"subjects": subjects})
    assert known_people(folder_of(2), head) == ["door/p0", "office/p1"]
    assert known_people(folder_of(2), PlainHead()) == []


def test_scores_are_a_row_per_frame_with_a_score_or_a_reason(tmp_path: Path) -> None:
    rows = [scored("door/anna", "", 0.25, "NO_FACE"), scored("door/bert", "print", 0.5)]
    listing = Listing(Path("/data"), tuple(row.item for row in rows))
    write_scores(tmp_path / "scores.csv", listing, rows)
    assert (tmp_path / "scores.csv").read_text().splitlines()[1:] == [
        "door/anna/2.mp4,door,,anna,0,0.25,",
        "door/anna/2.mp4,door,,anna,1,,NO_FACE",
        "door/print/bert/1.mp4,door,print,bert,0,0.5,",
    ]


def test_frames_of_a_video_are_taken_by_their_time(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "1.mp4", frames=20)
    found = list(chosen_frames(clip, VideoRule(step_ms=200, at_most=3)))
    assert [frame.stamp.pts_ns // 1_000_000 for frame in found] == [0, 200, 400]
    assert len(list(chosen_frames(clip, VideoRule(step_ms=0, at_most=0)))) == 20


@pytest.mark.slow
def test_a_video_that_breaks_off_keeps_its_frames_and_tells_the_failure(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "1.mp4", frames=20, noise=True, movflags="faststart")
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size * 3 // 5])
    vlm = open_backbone(random_compact())
    with file_scorer(vlm, PlainHead(), VideoRule(step_ms=200, at_most=0)) as scorer:
        *before, last = scorer.score(clip)
        assert last == "UNREADABLE"
        assert before
        assert set(before) == {"NO_FACE"}
        assert scorer.score(tmp_path / "nothing.mp4") == ["UNREADABLE"]


def test_a_head_of_another_backbone_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    vlm = open_backbone(random_compact())
    monkeypatch.setattr(face_scores, "open_head", lambda path: PlainHead(backbone_sha="ab" * 32))
    with pytest.raises(RecipeError, match=r"features of backbone abababababab.*backbone=PATH"):
        open_judge(Path("head"), vlm)


def test_a_backbone_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"nothing\.safetensors.*vlm-compact"):
        open_backbone(tmp_path / "nothing.safetensors")


def test_without_a_folder_it_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"--data FOLDER.*spoof/<type>"):
        judge_folder(Job(None, tmp_path), tmp_path / "head", JudgeSettings())


@pytest.mark.usefixtures("any_file_is_a_head")
def test_a_folder_of_another_layout_is_told_with_every_mistake(tmp_path: Path) -> None:
    (tmp_path / "data" / "office" / "real").mkdir(parents=True)
    job = Job(tmp_path / "data", tmp_path)
    with pytest.raises(RecipeError, match="office/real: only `live` and `spoof` are known"):
        judge_folder(job, tmp_path / "head", JudgeSettings(backbone=BACKBONE))


@pytest.mark.slow
@pytest.mark.usefixtures("any_file_is_a_head")
def test_who_is_asked_to_stop_writes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    job = Job(judged(tmp_path / "data"), out)
    job.stop.set()
    with pytest.raises(RecipeError, match="stopped after 1 of 11 files"):
        judge_folder(job, tmp_path / "head", JudgeSettings(backbone=BACKBONE))
    assert not list(out.iterdir())
