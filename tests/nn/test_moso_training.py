"""Losses by hand, first weights, turns of an adversary, and runs that go on where they stopped."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from operators.nn.blocks.adversary import PatchDiscriminator
from operators.nn.blocks.distance import mean_ssim
from operators.nn.blocks.stepper import StepperConfig
from operators.nn.moso.config import VqvaeConfig
from operators.nn.moso.first_weights import first_weights
from operators.nn.moso.losses import (
    VqvaeLoss,
    VqvaeLossConfig,
    as_one_image,
    fooling_loss,
    judging_loss,
    motion_weight,
)
from operators.nn.moso.preprocess import Clip
from operators.nn.moso.training import VqvaeTrainer, VqvaeTraining
from tests.nn.moso_models import PLAIN, STRAIGHT, clip, vqvae

CONFIG = StepperConfig(steps=200, learning_rate=4e-3, weight_decay=0.0, average=0.9, seed=1)


def trainer(
    config: VqvaeConfig = PLAIN, training: VqvaeTraining | None = None, **weights: float
) -> VqvaeTrainer:
    made = vqvae(config, seed=3)
    judge = None
    if training is not None and training.adversary_from >= 0:
        judge = PatchDiscriminator(width=4, layers=1, channels=18)
    loss = VqvaeLoss(VqvaeLossConfig(**weights))
    return VqvaeTrainer(made, loss, CONFIG, training, judge, "vqvae")


def test_the_loss_weighs_its_parts() -> None:
    ours, real = torch.rand(2, 3, 3, 12, 12), torch.rand(2, 3, 3, 12, 12)
    commitment = torch.tensor([1.0, 2.0, 3.0])
    l1, square = (ours - real).abs().mean().item(), (ours - real).square().mean().item()
    plain = VqvaeLoss(VqvaeLossConfig(), lambda a, b: torch.tensor(7.0))
    total, parts = plain(ours, real, commitment)
    assert total.item() == pytest.approx(l1 + 7 + 0.25 * 6)
    assert {name: part.item() for name, part in parts.items()} == pytest.approx(
        {"l1": l1, "distance": 7, "commitment": 6}
    )
    config = VqvaeLossConfig(distance=0.5, square=2.0, ssim=3.0, commitment=0.0)
    total, parts = VqvaeLoss(config, lambda a, b: torch.tensor(7.0))(ours, real, commitment)
    alike = mean_ssim(ours.flatten(0, 1), real.flatten(0, 1)).item()
    assert total.item() == pytest.approx(l1 + 3.5 + 2 * square - 3 * alike, rel=1e-5)
    assert parts["ssim"].item() == pytest.approx(alike)
    with pytest.raises(ValueError, match="must not be negative"):
        VqvaeLossConfig(ssim=-1.0)


def test_pixels_that_move_weigh_more_and_each_clip_the_same() -> None:
    seen = clip(frames=11)
    weight = motion_weight(seen.frames, 8.0)
    assert weight.shape == (2, 11, 1, 16, 16)
    torch.testing.assert_close(weight.mean(dim=(1, 2, 3, 4)), torch.ones(2))
    off = (seen.frames - seen.before[:, None]).abs().amax(dim=2, keepdim=True)
    for each, moved in zip(weight, off > 0.08, strict=True):
        assert each[moved].min().item() == pytest.approx(9 * each[~moved].max().item())
        assert each[moved].min() == each[moved].max()
    constant = VqvaeLoss(VqvaeLossConfig(square=1.0))
    one = torch.full_like(weight, 2.0)
    told = [constant(seen.frames, seen.frames * 0.5, torch.zeros(3), w)[0] for w in (None, one)]
    assert told[1].item() == pytest.approx(2 * told[0].item(), rel=1e-5)


def test_a_discriminator_sees_a_clip_as_one_image_and_hinges() -> None:
    frames = torch.rand(2, 6, 3, 16, 16)
    image = as_one_image(frames)
    assert torch.equal(image[:, 4], frames[:, 1, 1])
    assert PatchDiscriminator(width=4, layers=1, channels=18)(image).shape == (2, 1, 6, 6)
    real, made = torch.tensor([2.0, 0.0]), torch.tensor([-3.0, 1.0])
    assert judging_loss(real, made).item() == pytest.approx(0.5 * (0.5 + 1.0))
    assert fooling_loss(made).item() == pytest.approx(1)


@pytest.mark.slow
def test_it_learns_one_batch() -> None:
    made = trainer()
    seen = clip()
    told = [made.step(seen) for _ in range(120)]
    assert told[-1]["l1"] < 0.5 * told[0]["l1"]
    assert set(told[0]) == {"l1", "distance", "commitment", "loss", "gradient"}
    shown = made.averaged.decode(made.averaged.encode(seen.frames, seen.before))
    assert (shown - seen.frames).abs().mean() < 0.6 * told[0]["l1"]


def test_in_bfloat16_it_steps_as_in_float32_and_finds_the_same_codes() -> None:
    plain, fast = (
        trainer(STRAIGHT, VqvaeTraining(has_bf16=has_bf16)) for has_bf16 in (False, True)
    )
    told, other = plain.step(clip()), fast.step(clip())
    assert other["loss"] == pytest.approx(told["loss"], rel=0.02)
    assert other["l1"] != told["l1"]
    entries = plain.vqvae.codebook.entries
    torch.testing.assert_close(fast.vqvae.codebook.entries, entries, atol=0.02, rtol=0.02)
    assert all(w.dtype == torch.float32 for w in fast.vqvae.parameters())


def test_the_codebook_follows_and_the_average_has_its_entries() -> None:
    made, seen = trainer(), clip()
    before = made.vqvae.codebook.entries.clone()
    made.step(seen)
    used = made.vqvae.codebook.count > 0
    assert bool(used.any())
    assert not torch.equal(before[used], made.vqvae.codebook.entries[used])
    after_one = made.vqvae.codebook.entries.clone()
    made.step(seen)
    assert torch.equal(made.averaged.codebook.entries, after_one)
    assert made.vqvae.codebook.updates == 2


def test_encoders_see_masked_frames_until_they_see_full_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, seen = trainer(training=VqvaeTraining(full_from=2)), clip()
    told: list[bool] = []
    forward = made.vqvae.forward

    def recorded(given: Clip, is_masked: bool, generator: torch.Generator) -> object:
        told.append(is_masked)
        return forward(given, is_masked, generator)

    monkeypatch.setattr(made.vqvae, "forward", recorded)
    for _ in range(4):
        made.step(seen)
    assert told == [True, True, False, False]


def test_an_adversary_takes_turns_and_each_step_moves_one_of_the_two(tmp_path: Path) -> None:
    made, seen = trainer(training=VqvaeTraining(adversary_from=1)), clip()
    assert made.discriminator is not None
    parts = {"vqvae": made.vqvae, "judge": made.discriminator}
    moved, told = [], []
    made.save(tmp_path / "first")
    for number in range(5):
        before = {name: [w.clone() for w in part.parameters()] for name, part in parts.items()}
        told.append(made.step(seen))
        moved.append(
            [name for name, part in parts.items()
             if any(not torch.equal(a, b)
                    for a, b in zip(before[name], part.parameters(), strict=True))]
        )  # fmt: skip
        made.save(tmp_path / f"state{number}")
    assert moved == [["vqvae"], ["vqvae"], ["judge"], ["vqvae"], ["judge"]]
    assert ["judging" in each for each in told] == [False, False, True, False, True]
    assert "fooling" not in told[0]
    assert "fooling" in told[1]
    for begin in (0, 1, 3):  # before it began, and after
        again = trainer(training=VqvaeTraining(adversary_from=1))
        again.resume(tmp_path / f"state{begin}")
        assert [again.step(seen) for _ in range(begin + 1, 5)] == told[begin + 1 :]


def test_what_fools_the_adversary_is_part_of_the_loss() -> None:
    plain, heard = (
        trainer(training=VqvaeTraining(adversary_from=0), adversary=weight) for weight in (0.0, 5.0)
    )
    first, other = plain.step(clip()), heard.step(clip())
    assert other["fooling"] == pytest.approx(first["fooling"])
    assert other["loss"] == pytest.approx(first["loss"] + 5 * first["fooling"], abs=1e-5)


@pytest.mark.parametrize("config", [PLAIN, STRAIGHT])
def test_a_resumed_run_is_the_run_that_was_never_interrupted(
    tmp_path: Path, config: VqvaeConfig
) -> None:
    whole, first, second = trainer(config), trainer(config), trainer(config)
    seen = clip()
    told = [whole.step(seen) for _ in range(4)]
    for _ in range(2):
        first.step(seen)
    first.save(tmp_path / "state")
    second.resume(tmp_path / "state")
    assert [second.step(seen) for _ in range(2)] == told[2:]
    ours, theirs = second.averaged.state_dict(), whole.averaged.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_first_weights_give_the_clip_at_once() -> None:
    layout = dataclasses.replace(STRAIGHT.layout, codes=256)
    made, seen = vqvae(dataclasses.replace(STRAIGHT, layout=layout)), clip(count=24)
    first_weights(made, seen, torch.Generator().manual_seed(1))
    made.eval()
    with torch.no_grad():
        frames, coded = made(seen)
        networks = made.decoder.rgb(made.decoder.layers(torch.randn(1, 18, 4, 4)))
    assert not bool(networks.any())
    error = (frames - seen.frames).square().mean()
    mean = seen.frames.mean(dim=(0, 1, 3, 4), keepdim=True)
    assert error < 0.3 * (seen.frames - mean).square().mean()
    assert error < (seen.before[:, None] - seen.frames).square().mean()  # motion is seen
    scene = made.codebook.lookup(coded.tokens.scene)
    cells = made.straight.content(seen.before).flatten(2).transpose(1, 2)
    assert (scene - cells).square().mean() < 0.3 * cells.square().mean()


def test_first_weights_are_the_same_for_the_same_seed_and_need_a_straight_way() -> None:
    seen = clip(count=24)
    made = [vqvae(STRAIGHT) for _ in range(2)]
    for each in made:
        torch.manual_seed(2)
        first_weights(each, seen, torch.Generator().manual_seed(1))
    ours, theirs = (each.state_dict() for each in made)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    with pytest.raises(ValueError, match="only a straight"):
        first_weights(vqvae(), seen, torch.Generator())
    with pytest.raises(ValueError, match="give more clips"):
        first_weights(vqvae(STRAIGHT), clip(count=1), torch.Generator())


def test_the_matched_filter_shows_an_object_where_motion_tells_of_it() -> None:
    made = vqvae(STRAIGHT)
    first_weights(made, clip(count=24), torch.Generator().manual_seed(1))
    gate, share = made.gate, 6
    own = torch.zeros(1, 18, 4, 4)
    own[:, share : 2 * share] = torch.randn(1, share, 4, 4)
    with torch.no_grad():
        gate.spread.weight.zero_()
        gate.spread.weight[:share] = torch.eye(share).view(share, share, 1, 1)
        y = torch.zeros(1, 3, 12, 2, 2)
        told = own[:, share : 2 * share, ::2, ::2]
        own = own.clone()
        own[:, share : 2 * share] = torch.nn.functional.interpolate(told, scale_factor=2.0)
        y[:, 0, :share], y[:, 1, :share] = told, -told
        logits = gate(own, y)
    energy = own.square().sum(dim=1)[0] * gate.steepness.detach()
    assert not bool(logits[:, :, :share].any() or logits[:, :, 2 * share :].any())
    for frame, factor in enumerate((-1, 3, 1)):  # there, its ghost, neither
        torch.testing.assert_close(logits[0, frame, share], factor * energy)


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="steps must be"):
        VqvaeTraining(full_from=-1)
    with pytest.raises(ValueError, match="go together"):
        VqvaeTrainer(vqvae(), VqvaeLoss(VqvaeLossConfig()), CONFIG, VqvaeTraining(0, 5))
    with pytest.raises(ValueError, match="go together"):
        VqvaeTrainer(
            vqvae(), VqvaeLoss(VqvaeLossConfig()), CONFIG, None, PatchDiscriminator(4, 1, 18)
        )
    assert dataclasses.replace(PLAIN, dropout=0.2).dropout == 0.2
