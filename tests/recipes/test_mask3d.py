"""The recipe of mask prompts, with random towers: from a folder of people to a head and card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.recipe import Job, RecipeError
from operators.nn.prompts.artifact import load_head
from operators.nn.prompts.head import open_head
from operators.nn.vlm.compact import CompactConfig
from operators.nn.vlm.interface import Vlm
from operators.recipes import mask3d
from operators.recipes.mask3d import ABLATIONS, RECIPE
from tests.recipes.people import people
from tests.recipes.test_vlm_compact import random_model

SMALL = {
    "faces_per_file": 1, "pictures": 16, "calibration": 4, "tests": 8, "bpcer": 0.2, "steps": 2,
    "context": 2, "entities": 2, "triples": 1, "key_dim": 8, "batch": 4, "draws": 10,
    "processes": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def vlm() -> Vlm:
    model = random_model(CompactConfig(size_px=64, dim=16, hidden=0), 0)
    return model.view(backbone_sha="ab" * 32, name="tiny")


@pytest.fixture(autouse=True)
def tiny_backbone(monkeypatch: pytest.MonkeyPatch, vlm: Vlm) -> None:
    monkeypatch.setattr(mask3d, "open_backbone", lambda path, with_text: vlm)
    monkeypatch.setattr(mask3d, "backbone_subjects", lambda path: {})


def job(folder: Path, **changes: Any) -> Job:
    out = folder / "out"
    out.mkdir(exist_ok=True)
    return Job(folder / "data", out, settings=SMALL | changes)


@pytest.mark.slow
def test_a_folder_of_people_becomes_a_head_with_its_card(tmp_path: Path) -> None:
    people(tmp_path / "data")
    trained = RECIPE.train(job(tmp_path, sweep=True))
    assert trained.checkpoint == tmp_path / "out" / "mask3d.safetensors"
    _, descriptor, _ = load_head(trained.checkpoint)
    card = descriptor.card
    named = [name for some in card["subjects"].values() for name in some]
    assert len(named) == len(set(named)) == 4
    assert set(card["ablations"]) == set(ABLATIONS)
    assert {"mask3d", "print+replay"} <= set(card["test"]["AUC"])
    assert trained.figures["AUC mask3d"] == card["test"]["AUC"]["mask3d"]["value"]
    head = open_head(trained.checkpoint)
    assert (head.name, head.attack) == ("mask3d", "mask")
    assert head.calibration is not None
    assert head.thresholds[""].target == 0.2


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"rho": 0.0}, "rho"),
        ({"roh": 0.5}, "did you mean 'rho'"),
        ({"knowledge": "nowhere.yaml"}, "nowhere.yaml"),
        ({"steps": 0}, "steps"),
    ],
)
def test_settings_that_make_no_sense_are_told(tmp_path: Path, settings: Any, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        RECIPE.train(job(tmp_path, **settings))


def test_who_is_asked_to_stop_stops_without_a_checkpoint(tmp_path: Path) -> None:
    people(tmp_path / "data")
    stopped = job(tmp_path)
    stopped.stop.set()
    assert RECIPE.train(stopped).checkpoint is None


def test_it_is_due_where_nothing_is_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mask3d, "SHIPPED", tmp_path / "none")
    assert RECIPE.due() == "there is no checkpoint yet"
    (tmp_path / "none").write_bytes(b"no head")
    assert "no whole safetensors" in (RECIPE.due() or "")
