"""The recipe of the compact model from a folder of people to a checkpoint, with random towers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from engine.recipe import Job, RecipeError
from operators.nn.vlm.compact import CompactConfig, CompactHeads, CompactVlm
from operators.nn.vlm.compact_file import load_compact
from operators.nn.vlm.efficientnet import EfficientNetLite0
from operators.nn.vlm.minilm import MiniLm, MiniLmConfig
from operators.recipes import vlm_compact
from operators.recipes.vlm_compact import RECIPE
from tests.recipes.people import SUBJECTS, people

TEXT = MiniLmConfig(vocabulary=50, layers=1, heads=3, inner=16, positions=90, context_length=90)
SMALL = {
    "size_px": 64, "dim": 16, "hidden": 0, "pictures": 40, "faces_per_file": 1, "steps": 2,
    "groups": 2, "processes": 1,
}  # fmt: skip


class Letters:
    """A tokenizer of one token per letter."""

    begin, end = 1, 2

    def encode(self, text: str) -> list[int]:
        return [3 + ord(letter) % 40 for letter in text]


def random_model(config: CompactConfig, seed: int) -> CompactVlm:
    torch.manual_seed(seed)
    text = MiniLm(TEXT).eval(), Letters()
    return CompactVlm(EfficientNetLite0().eval(), CompactHeads(config), text)


@pytest.fixture(autouse=True)
def random_towers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vlm_compact, "build_compact", random_model)


def job(folder: Path, **fields: Any) -> Job:
    out = folder / "out"
    out.mkdir(exist_ok=True)
    return Job(folder / "data", out, settings=SMALL, **fields)


@pytest.mark.slow
def test_a_folder_becomes_a_checkpoint_that_says_what_it_was_trained_on(tmp_path: Path) -> None:
    people(tmp_path / "data")
    told: list[str] = []
    first = RECIPE.train(job(tmp_path, time_limit_s=0.0, tell=lambda what, *_: told.append(what)))
    assert first.checkpoint is None, "no time: the next call goes on"
    trained = RECIPE.train(job(tmp_path))
    assert trained.checkpoint is not None
    _, descriptor, _ = load_compact(trained.checkpoint)
    card = descriptor.card
    assert card["settings"]["steps"] == 2
    assert not set(card["cells"]["train"]) & set(card["cells"]["test"])
    named = [subject for subjects in card["subjects"].values() for subject in subjects]
    assert sorted(named) == [f"office/{name}" for name in SUBJECTS]
    assert card["development"] == trained.figures
    assert 0 <= trained.figures["class_accuracy"] <= 1
    assert {"find faces", "render train", "render development"} <= set(told)


@pytest.mark.parametrize(
    ("settings", "told"),
    [({"stepz": 5}, "did you mean 'steps'"), ({"steps": "many"}, "steps")],
)
def test_settings_that_make_no_sense_are_told(tmp_path: Path, settings: dict, told: str) -> None:
    people(tmp_path / "data")
    with pytest.raises(RecipeError, match=told):
        RECIPE.train(Job(tmp_path / "data", tmp_path, settings=settings))


def test_without_a_folder_it_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="--data FOLDER"):
        RECIPE.train(Job(None, tmp_path))


def test_a_checkpoint_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"nothing\.safetensors"):
        RECIPE.evaluate(job(tmp_path), tmp_path / "nothing.safetensors")


def test_who_is_asked_to_stop_stops_without_a_checkpoint(tmp_path: Path) -> None:
    people(tmp_path / "data")
    stopped = job(tmp_path)
    stopped.stop.set()
    assert RECIPE.train(stopped).checkpoint is None
