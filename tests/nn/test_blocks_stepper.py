"""A run that was interrupted goes on exactly, and no other state is accepted."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from operators.nn.blocks.stepper import Stepper, StepperConfig

CONFIG = StepperConfig(steps=20, learning_rate=0.05, warm_steps=2, average=0.9, seed=4)


def made(fingerprint: str = "a", config: StepperConfig = CONFIG) -> Stepper[nn.Linear]:
    torch.manual_seed(2)
    return Stepper(nn.Linear(3, 2), config, fingerprint)


def go(stepper: Stepper[nn.Linear], steps: int) -> list[float]:
    losses = []
    for _ in range(steps):
        x = torch.randn(8, 3, generator=stepper.generator())
        loss = (stepper.model(x) - x[:, :2]).square().mean()
        losses.append(float(loss.detach()))
        stepper.update(loss)
    return losses


def test_it_learns_and_its_average_follows() -> None:
    stepper = made()
    losses = go(stepper, 60)
    assert losses[-1] < 0.2 * losses[0]
    apart = (stepper.averaged.weight - stepper.model.weight).abs().max()
    assert 0 < apart < 0.2
    assert not stepper.averaged.weight.requires_grad


def test_a_resumed_run_is_the_run_that_was_never_interrupted(tmp_path: Path) -> None:
    whole, first = made(), made()
    go(whole, 9)
    go(first, 4)
    first.save(tmp_path / "state.safetensors")
    second = made()
    go(second, 1)  # what it was before does not matter
    second.resume(tmp_path / "state.safetensors")
    assert second.step == 4
    go(second, 5)
    for ours, theirs in ((second.model, whole.model), (second.averaged, whole.averaged)):
        assert torch.equal(ours.weight, theirs.weight)
        assert torch.equal(ours.bias, theirs.bias)


def test_a_state_of_no_step_can_be_resumed(tmp_path: Path) -> None:
    first, second = made(), made()
    go(second, 2)
    first.save(tmp_path / "state.safetensors")
    second.resume(tmp_path / "state.safetensors")
    assert go(first, 3) == go(second, 3)


def test_the_average_has_the_statistics_of_its_model() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    stepper = Stepper(model, CONFIG)
    for _ in range(3):
        stepper.update(model(torch.randn(8, 3, generator=stepper.generator()) + 5).square().sum())
    assert torch.equal(stepper.averaged[1].running_mean, model[1].running_mean)
    assert model[1].running_mean.abs().max() > 0.1


def test_states_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    stepper = made()
    go(stepper, 1)
    stepper.save(path)
    with pytest.raises(ValueError, match="belongs to other data or settings"):
        made("b").resume(path)
    with pytest.raises(ValueError, match="belongs to another model"):
        Stepper(nn.Linear(3, 3), CONFIG, "a").resume(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="is no whole training state"):
        made().resume(path)
    safetensors.torch.save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="is no whole training state"):
        made().resume(path)


def test_the_rate_rises_and_then_stays_or_falls() -> None:
    stepper = made()
    rates = []
    for stepper.step in range(20):
        rates.append(stepper.rate())
    assert rates[:3] == pytest.approx([0.025, 0.05, 0.05])
    assert rates[-1] == pytest.approx(0.05)
    falling = made(config=dataclasses.replace(CONFIG, cosine=True))
    falling.step = 19
    assert falling.rate() < 0.001


def test_a_loss_that_is_not_finite_stops_the_run_and_changes_nothing() -> None:
    stepper = made()
    before = stepper.model.weight.clone()
    with pytest.raises(FloatingPointError, match="at step 0"):
        stepper.update(stepper.model.weight.sum() * torch.nan)
    assert torch.equal(before, stepper.model.weight)


def test_gradients_are_clipped() -> None:
    stepper = made(config=dataclasses.replace(CONFIG, gradient_norm=1e-3))
    assert stepper.update(1e6 * stepper.model.weight.sum()) > 1e6
    grad = stepper.model.weight.grad
    assert grad is not None
    assert float(grad.norm()) <= 1.001e-3


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"warm_steps": 21},
        {"gradient_norm": 0.0},
        {"learning_rate": 0.0},
        {"weight_decay": 1.0},
        {"average": 1.0},
        {"betas": (0.9, 1.0)},
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="out of range"):
        dataclasses.replace(CONFIG, **wrong)
