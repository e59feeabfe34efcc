"""Stage 1b: only what looks back learns, from the losses of stage 1, and goes on exactly."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from operators.nn.ar_diffusion.losses import VaeLoss, VaeLossConfig
from operators.nn.ar_diffusion.temporal_training import TemporalTrainer
from operators.nn.ar_diffusion.training import VaeTrainer
from operators.nn.ar_diffusion.vae import Vae
from operators.nn.blocks.stepper import StepperConfig
from tests.nn.ar_models import VAE

CONFIG = StepperConfig(steps=90, learning_rate=1e-2, warm_steps=3, average=0.9, seed=1)


def vae() -> Vae:
    torch.manual_seed(3)
    made = Vae(dataclasses.replace(VAE, anchored=True, centred=True))
    torch.nn.init.normal_(made.decoder.pixels.rgb.weight, std=0.3)
    return made


def trainer(noise: float = 0.1, fingerprint: str = "temporal") -> TemporalTrainer:
    frozen = vae()
    torch.manual_seed(5)
    return TemporalTrainer(frozen, VaeLoss(VaeLossConfig()), CONFIG, noise, fingerprint)


def clips() -> torch.Tensor:
    """[1, 6, 3, 16, 16]: a square that moves in front of four soft colours."""
    colours = torch.rand(1, 3, 2, 2, generator=torch.Generator().manual_seed(8))
    frames = torch.nn.functional.interpolate(colours, size=16, mode="bilinear").repeat(6, 1, 1, 1)
    for t, frame in enumerate(frames):
        frame[:, 4:8, t : t + 4] = 1 - frame[:, 4:8, t : t + 4]
    return frames[None]


def test_at_first_the_loss_is_that_of_stage_1_over_the_same_frames() -> None:
    told = trainer(noise=0.0).step(clips())
    stage_1 = VaeTrainer(vae(), VaeLoss(VaeLossConfig()), CONFIG).step(clips()[0])
    assert set(told) == set(stage_1) == {"l1", "distance", "loss", "gradient"}
    assert told["loss"] == pytest.approx(stage_1["loss"], rel=1e-5)
    assert told["gradient"] > 0


def test_a_weight_and_noise_count_as_in_stage_1() -> None:
    weight = torch.zeros(1, 6, 1, 16, 16)
    weight[:, :, :, 4:8] = 4
    error = (vae().decode(vae().encode(clips()[0])) - clips()[0])[:, :, 4:8].abs().mean().item()
    assert trainer(noise=0.0).step(clips(), weight)["l1"] == pytest.approx(error, rel=1e-4)
    assert trainer(noise=0.1).step(clips())["l1"] != trainer(noise=0.0).step(clips())["l1"]


def test_only_the_layers_learn() -> None:
    stage, before = trainer(), vae().state_dict()
    first = {name: value.clone() for name, value in stage.decoder.layers.state_dict().items()}
    for _ in range(3):  # with a zeroed last matrix the others have no gradient at the first step
        stage.step(clips())
    for name, value in stage.vae.state_dict().items():
        assert torch.equal(value, before[name]), name
    for name, value in stage.decoder.layers.state_dict().items():
        assert not torch.equal(value, first[name]), name
    averaged = stage.averaged
    assert averaged.decoder is stage.vae.decoder
    assert not any(weight.requires_grad for weight in averaged.parameters())
    ours, now = averaged.layers.state_dict(), stage.decoder.layers.state_dict()
    assert not torch.equal(ours["0.fine.out.weight"], now["0.fine.out.weight"])


@pytest.mark.slow
def test_the_layers_alone_learn_one_clip() -> None:
    """A decoder that shows nothing right gets nearer to the clip through them."""
    stage = trainer(noise=0.0)
    told = [stage.step(clips())["l1"] for _ in range(90)]
    assert told[-1] < 0.8 * told[0]
    z = stage.vae.encode(clips()[0])
    with torch.inference_mode():
        error = (stage.averaged(z[None])[0] - clips()[0]).abs().mean()
    assert error < 0.8 * (stage.vae.decode(z) - clips()[0]).abs().mean()


def test_a_resumed_run_is_the_run_that_was_never_interrupted(tmp_path: Path) -> None:
    whole, first, second = trainer(), trainer(), trainer()
    told = [whole.step(clips()) for _ in range(4)]
    for _ in range(2):
        first.step(clips())
    first.save(tmp_path / "state")
    second.resume(tmp_path / "state")
    assert [second.step(clips()) for _ in range(2)] == told[2:]
    theirs = whole.averaged.state_dict()
    for name, value in second.averaged.state_dict().items():
        assert torch.equal(value, theirs[name])


def test_a_state_of_another_run_is_refused(tmp_path: Path) -> None:
    trainer().save(tmp_path / "state")
    with pytest.raises(ValueError, match="belongs to other data or settings"):
        trainer(fingerprint="other").resume(tmp_path / "state")
