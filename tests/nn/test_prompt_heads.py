"""Files of heads: read as written, refused when damaged; contexts that stand before words."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import numpy as np
import pytest
import safetensors.torch
import torch

from operators.nn.pad.calibration import fit_real_only
from operators.nn.pad.threshold import Threshold
from operators.nn.prompts.artifact import HeadDescriptor, load_head, recalibrated, save_head
from operators.nn.prompts.head import SPOOF_METHOD, open_head
from operators.nn.prompts.learner import (
    PromptLearner,
    contexts_from_texts,
    encode_texts,
    random_contexts,
)
from operators.nn.vlm.interface import Vlm
from operators.nn.vlm.loading import random_clip

DIM = 6
DESCRIPTOR = HeadDescriptor(
    method=SPOOF_METHOD,
    backbone_sha="f" * 64,
    backbone="any",
    dim=DIM,
    logit_scale=20.0,
    elements=("1: print", "2: screen"),
    prompt_sha="e" * 64,
    config={},
    card={"note": "a test"},
)
TENSORS = {"w_r": torch.ones(DIM), "w_k": torch.eye(DIM)[:2]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "head.safetensors"
    save_head(path, TENSORS, DESCRIPTOR)
    return path


def test_a_head_is_read_as_it_was_written(path: Path) -> None:
    tensors, descriptor, sha = load_head(path)
    assert sha == hashlib.sha256(path.read_bytes()).hexdigest()
    assert all(torch.equal(tensors[name], value) for name, value in TENSORS.items())
    assert msgspec.structs.replace(descriptor, digest="") == DESCRIPTOR
    assert list(path.parent.iterdir()) == [path]


def test_a_calibration_is_kept_by_camera(path: Path, tmp_path: Path) -> None:
    calibration = fit_real_only(np.linspace(0.1, 0.9, 50))
    thresholds = {
        name: Threshold(value, "bpcer", 0.05, "dev", 50, 0)
        for name, value in (("", 0.2), ("door", 0.3))
    }
    out = tmp_path / "mine.safetensors"
    sha = recalibrated(path, out, calibration, thresholds)
    head = open_head(out)
    assert (head.sha, head.calibration, head.thresholds) == (sha, calibration, thresholds)
    features = torch.randn(3, 2, DIM)
    assert torch.equal(head(features).score_real, open_head(path)(features).score_real)
    recalibrated(out, out, None, {})
    assert open_head(out).calibration is None


@pytest.mark.parametrize("at", [0, 40, 400, -1])
def test_a_byte_that_changed_is_noticed(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"head\.safetensors"):
        open_head(path)


@pytest.mark.parametrize("kept", [0, 7, 100, -1])
def test_half_a_file_is_refused(path: Path, kept: int) -> None:
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match="no whole safetensors file"):
        open_head(path)


@pytest.mark.parametrize(
    ("tensors", "changes", "told"),
    [
        ({"w_r": torch.ones(DIM)}, {}, "w_k missing or too many"),
        (TENSORS | {"more": torch.ones(1)}, {}, "more missing or too many"),
        (TENSORS | {"w_r": torch.ones(5)}, {}, "w_r is torch.float32 "),
        (TENSORS | {"w_r": torch.ones(DIM).half()}, {}, "w_r is torch.float16"),
        (TENSORS, {"dim": 8}, "is needed"),
        (TENSORS, {"method": "guess"}, "method 'guess' is unknown"),
        (TENSORS, {"version": 2}, "version 2"),
        (TENSORS, {"logit_scale": 0.0}, "out of range"),
        (TENSORS, {"calibration": {"kind": "none"}}, "calibration kind"),
        (TENSORS, {"thresholds": {"": {"value": 1}}}, "threshold has"),
        ({"w_r": torch.ones(DIM), "w_k": torch.ones(0, DIM)}, {"elements": ()}, "no spoof prompt"),
    ],
)
def test_a_head_of_another_shape_is_refused(tmp_path: Path, tensors, changes, told) -> None:
    path = tmp_path / "head.safetensors"
    save_head(path, tensors, msgspec.structs.replace(DESCRIPTOR, **changes))
    with pytest.raises(ValueError, match=told):
        open_head(path)


def test_values_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="w_r cannot be saved"):
        save_head(tmp_path / "a", TENSORS | {"w_r": torch.full((DIM,), torch.nan)}, DESCRIPTOR)
    assert not list(tmp_path.iterdir())


def test_other_files_are_no_heads(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(TENSORS, path)
    with pytest.raises(ValueError, match="no trained head"):
        open_head(path)
    safetensors.torch.save_file(TENSORS, path, {"frameloom.head": "{}"})
    with pytest.raises(ValueError, match="descriptor is wrong"):
        open_head(path)
    with pytest.raises(FileNotFoundError):
        open_head(tmp_path / "none")
    path.write_bytes(bytes(17 * 2**20))
    with pytest.raises(ValueError, match="at most"):
        open_head(path)


@pytest.fixture(scope="module")
def vlm() -> Vlm:
    return random_clip("clip-tiny-test", seed=3)


def test_contexts_of_words_read_like_those_words(vlm: Vlm) -> None:
    assert vlm.text is not None
    assert vlm.tokenizer is not None
    contexts = contexts_from_texts(vlm.text, vlm.tokenizer, ["a photo of"], 3, 0.0, 0)
    learner = PromptLearner(vlm.text, vlm.tokenizer, ["a real face.", "spoof."], contexts, [0, 0])
    plain = encode_texts(vlm.text, vlm.tokenizer, ["a photo of a real face.", "a photo of spoof."])
    assert torch.allclose(learner(), plain, atol=1e-6)
    assert torch.allclose(learner(torch.tensor([1])), plain[1:], atol=1e-6)
    assert [name for name, _ in learner.named_parameters()] == ["contexts"]


def test_gradients_reach_the_contexts_that_a_prompt_uses(vlm: Vlm) -> None:
    assert vlm.text is not None
    assert vlm.tokenizer is not None
    contexts = random_contexts(vlm.text.width, 3, 2, seed=1)
    assert float(contexts.std()) == pytest.approx(0.02, rel=0.1)
    learner = PromptLearner(vlm.text, vlm.tokenizer, ["one.", "two."], contexts, [2, 0])
    learner()[0, 0].backward()
    grad = learner.contexts.grad
    assert grad is not None
    assert grad[2].any()
    assert not grad[:2].any()


def test_prompts_that_cannot_be_are_refused(vlm: Vlm) -> None:
    text, tokenizer = vlm.text, vlm.tokenizer
    assert text is not None
    assert tokenizer is not None
    contexts = random_contexts(text.width, 1, 2, seed=1)
    with pytest.raises(ValueError, match="tokens"):
        PromptLearner(text, tokenizer, ["word " * 100], contexts)
    with pytest.raises(ValueError, match="share"):
        PromptLearner(text, tokenizer, ["word"], contexts, [1])
    with pytest.raises(ValueError, match=r"\[C, M, "):
        PromptLearner(text, tokenizer, ["word"], contexts[..., :3])
    with pytest.raises(ValueError, match="needs a word"):
        contexts_from_texts(text, tokenizer, [""], 2, 0.0, 0)
    with pytest.raises(ValueError, match="tokens"):
        encode_texts(text, tokenizer, ["word " * 100])
