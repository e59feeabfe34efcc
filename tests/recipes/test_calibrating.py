"""Thresholds from live media: how many faces they need, per camera, never from an attack."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.recipe import Job, RecipeError
from operators.nn.pad.calibration import RealOnlyCalibration, calibration_from_dict
from operators.nn.pad.errors import EvaluationError
from operators.nn.pad.listing import Listing
from operators.nn.prompts.artifact import HeadDescriptor, load_head, save_head
from operators.recipes import face_scores
from operators.recipes.calibrating import (
    CalibrateSettings,
    RealScores,
    calibrate_folder,
    calibrate_settings,
    fit,
    live_only,
    real_scores,
)
from tests.operators.models import DIM, random_compact
from tests.recipes.heads import STORED, PlainHead, item, judged, scored
from tests.recipes.people import people

BACKBONE = str(random_compact())


def scores(**count: int) -> RealScores:
    """So many faces of each camera, five people each; every camera higher than the one before."""
    rng = np.random.default_rng(3)
    camera = tuple(name for name, many in count.items() for _ in range(many))
    level = np.array([list(count).index(name) for name in camera], float)
    person = tuple(f"{name}/p{number % 5}" for number, name in enumerate(camera))
    return RealScores(level + rng.random(len(camera)), camera, person)


@pytest.mark.parametrize("bpcer", [0.01, 0.03, 0.2])
def test_the_threshold_rejects_what_was_asked_for_within_one_face(bpcer: float) -> None:
    real = scores(door=150, gate=200)
    _, thresholds = fit(real, CalibrateSettings(bpcer=bpcer))
    assert sorted(thresholds) == ["", "door", "gate"]
    for name, made in thresholds.items():
        rows = np.array([name in ("", camera) for camera in real.camera])
        assert abs(np.mean(real.score[rows] < made.value) - bpcer) <= 1 / rows.sum()
        assert (made.rule, made.target, made.n_attack) == ("bpcer", bpcer, 0)
        assert made.n_live == rows.sum()
    assert thresholds["gate"].value > 1 > thresholds["door"].value, "each camera has its own"


def test_a_camera_with_too_few_faces_is_named_with_what_is_needed() -> None:
    real = scores(door=98, gate=300, hall=4)
    with pytest.raises(EvaluationError, match=r"at least 99 .*door has 98, hall has 4.*per_camera"):
        fit(real, CalibrateSettings(bpcer=0.01))
    _, thresholds = fit(real, CalibrateSettings(bpcer=0.01, per_camera=False))
    assert list(thresholds) == [""]
    with pytest.raises(EvaluationError, match="needs at least 999 real faces, got 402"):
        fit(real, CalibrateSettings(bpcer=0.001, per_camera=False))


def test_an_attack_is_refused_not_skipped() -> None:
    live = Listing(Path("/data"), (item("door/anna"), item("door/bert")))
    assert live_only(live) is live
    mixed = Listing(Path("/data"), (*live.items, item("door/anna", "print")))
    with pytest.raises(RecipeError, match=r"spoof|/door/print/anna/1.png: an attack \(print\)"):
        live_only(mixed)


def test_only_what_was_scored_calibrates() -> None:
    rows = [scored("door/anna", "", 0.25, "NO_FACE", 0.5), scored("gate/bert", "", "TOO_SMALL")]
    real = real_scores(rows)
    assert real.score.tolist() == [0.25, 0.5]
    assert real.camera == ("door", "door")
    assert real.person == ("door/anna", "door/anna")
    with pytest.raises(EvaluationError, match=r"no real face could be scored .TOO_SMALL 1."):
        real_scores(rows[1:])


@pytest.fixture
def head_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with a head in it, opened as the plain one."""
    monkeypatch.setattr(face_scores, "open_head", lambda path: PlainHead())
    descriptor = HeadDescriptor(
        method="unknown-spoof-prompts", backbone_sha=PlainHead().backbone_sha, backbone="tiny",
        dim=DIM, logit_scale=20.0, elements=("a printed face",), prompt_sha="00", config={},
        card={}, thresholds={"": STORED.to_dict()},
    )  # fmt: skip
    path = tmp_path / "antispoof.safetensors"
    save_head(path, {"real": torch.arange(16.0)}, descriptor)
    return path


@pytest.mark.slow
def test_the_same_head_comes_out_with_thresholds_of_its_own(
    tmp_path: Path, head_file: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    settings = CalibrateSettings(bpcer=0.25, backbone=BACKBONE)
    report = calibrate_folder(Job(people(tmp_path / "data"), out), head_file, settings)
    assert json.loads((out / "calibration.json").read_text()) == report
    tensors, descriptor, sha = load_head(out / "antispoof.safetensors")
    assert sha == report["sha"]
    torch.testing.assert_close(tensors["real"], torch.arange(16.0))
    assert sorted(descriptor.thresholds) == ["", "office"]
    assert descriptor.calibration is not None
    kept = calibration_from_dict(descriptor.calibration)
    assert isinstance(kept, RealOnlyCalibration)
    assert len(kept.live_score) == 4
    default, office = report["cameras"]
    assert (default["faces"], default["people"], default["BPCER here"]) == (4, 4, 0.25)
    assert office["threshold"] == default["threshold"]
    assert "people like these 4" in report["text"]
    assert "BPCER 0.25 asked for; it needs 3 faces" in report["text"]


@pytest.mark.slow
def test_four_faces_do_not_carry_one_percent(tmp_path: Path, head_file: Path) -> None:
    job = Job(people(tmp_path / "data"), tmp_path)
    with pytest.raises(RecipeError, match=r"BPCER 0.01 needs at least 99 real faces, got 4"):
        calibrate_folder(job, head_file, CalibrateSettings(backbone=BACKBONE))
    assert load_head(head_file)[1].thresholds == {"": STORED.to_dict()}, "left as it was"


def test_a_folder_with_attacks_is_refused_before_anything_is_scored(
    tmp_path: Path, head_file: Path
) -> None:
    job = Job(judged(tmp_path / "data"), tmp_path)
    (tmp_path / "data" / "office" / "spoof" / "print" / "anna" / "broken.png").unlink()
    with pytest.raises(RecipeError, match="thresholds are set on real faces alone"):
        calibrate_folder(job, head_file, CalibrateSettings(backbone=BACKBONE))


def test_settings_and_folder_are_asked_for(tmp_path: Path) -> None:
    assert calibrate_settings(Job(None, tmp_path, settings={"bpcer": 0.05})).bpcer == 0.05
    with pytest.raises(RecipeError, match="did you mean 'bpcer'"):
        calibrate_settings(Job(None, tmp_path, settings={"bpcr": 0.05}))
    with pytest.raises(RecipeError, match="CAMERA/live/SUBJECT"):
        calibrate_folder(Job(None, tmp_path), tmp_path / "head", CalibrateSettings())
