"""Tuning: it learns what is planted, leaves what is frozen, goes on exactly; pictures changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from operators.nn.prompts.training import OptimiserConfig, RunLimits, StepTrainer
from operators.nn.vlm.augment import augmented
from operators.nn.vlm.compact import CompactConfig, CompactHeads, CompactVlm, depth_features
from operators.nn.vlm.efficientnet import EfficientNetLite0
from operators.nn.vlm.tune import TuneConfig, TuneData, Tuner

SIZES = CompactConfig(size_px=32, dim=8, hidden=0, text_width=12)
CONFIG = TuneConfig(steps=12, groups=4, captions_per_topic=2, warm_steps=2, seed=5)


def model(seed: int = 2) -> CompactVlm:
    torch.manual_seed(seed)
    return CompactVlm(EfficientNetLite0().fold(), CompactHeads(SIZES))


def planted(seed: int, groups: int = 10) -> TuneData:
    """Each group has a smooth and a striped picture of one brightness."""
    rng = np.random.default_rng(seed)
    level = rng.integers(70, 180, groups)
    images = np.empty((groups, 2, 32, 32, 3), np.uint8)
    images[:, 0] = level[:, None, None, None]
    images[:, 1] = level[:, None, None, None]
    images[:, 1, ::4] = 255
    images[:, 1, 1::4] = 0
    sentences = torch.eye(12)[:4]
    return TuneData(
        images=images.reshape(-1, 32, 32, 3),
        image_class=torch.arange(2 * groups) % 2,
        group=torch.arange(2 * groups) // 2,
        sentences=sentences,
        caption_class=torch.tensor([0, 0, 1, 1]),
        covers=torch.eye(2, dtype=torch.bool),
        topic=torch.tensor([0, 0, 1, 1]),
    )


@pytest.fixture(scope="module")
def data() -> TuneData:
    return planted(1)


def accuracy(vlm: CompactVlm, data: TuneData) -> float:
    pictures = torch.from_numpy(data.images).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        pooled = vlm.heads.pooled(depth_features(vlm.image.backbone(pictures * 2 - 1)).pooled)
        text = torch.nn.functional.normalize(vlm.heads.text(data.sentences), dim=1)
    nearest = data.caption_class[(pooled @ text.T).argmax(1)]
    return float((nearest == data.image_class).float().mean())


@pytest.mark.slow
def test_it_learns_what_is_planted_and_finds_it_in_new_pictures(data: TuneData) -> None:
    vlm = model()
    tuner = Tuner(vlm, data, replace(CONFIG, steps=30))
    assert tuner.run()
    losses = tuner.trainer.losses
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    assert accuracy(vlm, planted(9)) > 0.9
    assert not any(weight.requires_grad for weight in vlm.image.backbone.parameters())


def test_frozen_blocks_stay_and_the_others_move(data: TuneData) -> None:
    vlm = model()
    before = {name: value.clone() for name, value in vlm.image.backbone.state_dict().items()}
    Tuner(vlm, data, replace(CONFIG, steps=1, warm_steps=0)).run()
    moved = {
        name.split(".")[1] if name.startswith("blocks") else name.split(".")[0]
        for name, value in vlm.image.backbone.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert moved == {str(number) for number in range(3, 16)} | {"head"}


def test_a_run_that_was_interrupted_goes_on_exactly(data: TuneData, tmp_path: Path) -> None:
    config = replace(CONFIG, steps=3)
    whole, part = model(), model()
    assert Tuner(whole, data, config).run()
    limits = RunLimits(state_path=tmp_path / "state", every_steps=1)
    limits.progress = lambda step, _: limits.stop.set() if step == 2 else None
    assert not Tuner(part, data, config).run(limits)
    limits.stop.clear()
    again = model()
    assert Tuner(again, data, config).run(limits)
    for name, value in whole.image.backbone.state_dict().items():
        assert torch.equal(value, again.image.backbone.state_dict()[name]), name
    with pytest.raises(ValueError, match="other data or settings"):
        Tuner(model(), planted(2), config).run(limits)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"image_class": torch.zeros(3)}, "20 pictures, 3 classes"),
        ({"caption_class": torch.tensor([0, 0, 0])}, "4 captions, 3 classes"),
        ({"caption_class": torch.tensor([0, 0, 0, 0])}, "no caption is true of .* class 1"),
    ],
)
def test_data_that_does_not_fit_together_is_refused(data: TuneData, change, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        replace(data, **change)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"groups": 0}, {"tower_rate": -1.0}])
def test_settings_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"start at 1|not negative"):
        replace(CONFIG, **wrong)


def test_rates_are_shared_out_by_name() -> None:
    weights = {name: torch.nn.Parameter(torch.zeros(1)) for name in ("slow", "fast", "still")}
    trainer = StepTrainer(
        weights,
        lambda _: torch.stack(list(weights.values())).sum(),
        OptimiserConfig(steps=2, learning_rate=0.1, weight_decay=0, warm_steps=0),
        "any",
        rates={"slow": 0.1, "still": 0.0},
    )
    trainer.advance()
    moved = {name: -float(value.detach()) for name, value in weights.items()}
    assert moved == pytest.approx({"slow": 0.01, "fast": 0.1, "still": 0.0}, abs=1e-6)


def test_changed_pictures_are_pictures_and_follow_the_seed() -> None:
    image = np.random.default_rng(0).integers(0, 256, (48, 48, 3)).astype(np.uint8)
    made = [augmented(image, np.random.default_rng(seed)) for seed in range(40)]
    for one in made:
        assert one.shape == image.shape
        assert one.dtype == np.float32
        assert 0 <= one.min() < one.max() <= 1
    assert len({one.tobytes() for one in made}) == 40
    assert np.array_equal(made[3], augmented(image, np.random.default_rng(3)))
