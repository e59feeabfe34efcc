"""The same recipe over a large CLIP from a local folder: trained, judged and calibrated."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import CLIPConfig, CLIPModel

from engine import Batch
from engine.recipe import Job, RecipeError
from engine.testing import HarnessContext
from operators.face.antispoof import AntiSpoof
from operators.face.encode import FaceEncode, FaceEncodeConfig
from operators.face.pad_node import PadConfig
from operators.face.verdicts import HeadVerdict
from operators.nn.prompts.head import open_head
from operators.recipes.antispoof import RECIPE
from tests.nn.test_vlm_files import TEXT, VISION, save_tokenizer
from tests.operators.test_encode import frame, track
from tests.recipes.heads import judged
from tests.recipes.people import people
from tests.recipes.test_antispoof import SMALL


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Random weights in the ordinary layout, with a tokenizer that spells letters."""
    torch.manual_seed(5)
    text = {**TEXT, "max_position_embeddings": 90}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=VISION, projection_dim=24))
    folder = tmp_path / "clip"
    model.save_pretrained(folder)
    return folder


def folder(place: Path) -> Path:
    place.mkdir()
    return place


@pytest.mark.slow
def test_prompts_of_a_clip_are_trained_judged_and_calibrated(tmp_path: Path, clip: Path) -> None:
    save_tokenizer(clip)
    live, both = people(tmp_path / "live"), judged(tmp_path / "both")
    settings = {"backbone": str(clip)}
    made = RECIPE.train(Job(live, folder(tmp_path / "out"), settings=SMALL | settings))
    assert made.checkpoint is not None
    head = open_head(made.checkpoint)
    assert (head.dim, head.card["backbone"]["name"]) == (24, "clip")
    job = Job(both, folder(tmp_path / "judged"), settings=settings | {"draws": 5})
    report = RECIPE.evaluate(job, tmp_path / "out")
    assert report["checkpoint"]["sha"] == head.sha
    assert report["known_people"] == ["office/anna", "office/carl", "office/dora"]
    job = Job(live, folder(tmp_path / "calibrated"), settings=settings | {"bpcer": 0.25})
    RECIPE.calibrate(job, made.checkpoint)
    again = open_head(tmp_path / "calibrated" / "antispoof.safetensors")
    assert sorted(again.thresholds) == ["", "office"]
    features = torch.randn(3, 17, 24, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(head(features).score_real, again(features).score_real)
    streamed = stream(str(clip), str(tmp_path / "calibrated" / "antispoof.safetensors"))
    assert [verdict.status for verdict in streamed] == ["scored"] * 3
    assert {verdict.checkpoint for verdict in streamed} == {again.sha}
    assert streamed[-1].n_scored == 3


def stream(clip: str, checkpoint: str) -> list[HeadVerdict]:
    """Three frames of one face through both operators, as a graph would call them."""
    encode, judge = FaceEncode(FaceEncodeConfig(checkpoint=clip)), AntiSpoof(PadConfig(checkpoint))
    found: list[HeadVerdict] = []
    for operator in (encode, judge):
        operator.open(HarnessContext())
    for number in range(3):
        (features,) = encode.process(Batch((frame(track(7), ms=200 * number),))).frames
        (verdicts,) = judge.process(Batch((features,))).frames
        found += verdicts.of(HeadVerdict)
    return found


def test_without_a_tokenizer_no_prompt_can_be_learned(tmp_path: Path, clip: Path) -> None:
    job = Job(tmp_path, tmp_path, settings={"backbone": str(clip)})
    with pytest.raises(RecipeError, match="clip has no text tower or no tokenizer"):
        RECIPE.train(job)
