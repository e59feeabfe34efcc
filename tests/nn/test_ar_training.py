"""Losses by hand, and trainers that learn, drop labels, and go on where they stopped."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from operators.nn.ar_diffusion.denoiser import Denoiser
from operators.nn.ar_diffusion.losses import (
    PatchDiscriminator,
    VaeLoss,
    VaeLossConfig,
    adaptive_weight,
    denoising_loss,
    edge_distance,
    hinge_loss,
    kl_loss,
)
from operators.nn.ar_diffusion.training import (
    Adversary,
    DenoiserLoss,
    DenoiserTrainer,
    DenoiserTraining,
    VaeTrainer,
)
from operators.nn.ar_diffusion.vae import Posterior, Vae
from operators.nn.blocks.stepper import StepperConfig
from tests.nn.ar_models import DENOISER, DIFFUSION, VAE, unit

CONFIG = StepperConfig(steps=40, learning_rate=2e-3, warm_steps=3, average=0.9, seed=1)
LABELS = torch.tensor([0, 1, 2, 0])


def test_losses_by_hand() -> None:
    a, b = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 4.0]])
    assert denoising_loss(a, b).item() == pytest.approx(2.0)
    standard = Posterior(torch.zeros(2, 3, 4), torch.zeros(2, 3, 4))
    assert kl_loss(standard).item() == 0
    moved = Posterior(torch.ones(2, 3, 4), torch.zeros(2, 3, 4))
    assert kl_loss(moved).item() == pytest.approx(6.0)
    real, made = torch.tensor([2.0, 0.0]), torch.tensor([-3.0, 1.0])
    assert hinge_loss(real, made).item() == pytest.approx(0.5 * (0.5 + 1.0))


def test_the_edge_distance_ignores_brightness_and_sees_blur() -> None:
    frames = torch.zeros(1, 3, 16, 16)
    frames[..., 8:] = 1
    assert edge_distance(frames, frames).item() == 0
    assert edge_distance(frames + 0.2, frames).item() == pytest.approx(0, abs=1e-6)
    blurred = torch.nn.functional.avg_pool2d(frames, 3, 1, 1, count_include_pad=False)
    assert edge_distance(blurred, frames).item() > 0.02
    one = edge_distance(torch.zeros_like(frames), frames, scales=1).item()
    assert one == pytest.approx(1 / 15)  # one of 15 differences along each row


def test_the_vae_loss_weighs_its_parts() -> None:
    ours, real = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    posterior = Posterior(torch.ones(2, 3, 4), torch.zeros(2, 3, 4))
    l1 = (ours - real).abs().mean()
    plain, parts = VaeLoss(VaeLossConfig(distance=0.5), lambda a, b: torch.tensor(7.0))(
        ours, real, posterior
    )
    assert plain.item() == pytest.approx(l1.item() + 3.5)
    assert parts["l1"].item() == pytest.approx(l1.item())
    assert "kl" not in parts
    learned = VaeLoss(VaeLossConfig(kl=2.0, learn_variance=True), lambda a, b: torch.tensor(0.0))
    learned.log_variance.data.fill_(0.3)
    total, _ = learned(ours, real, posterior)
    wanted = l1 * torch.exp(torch.tensor(-0.3)) + 0.3 + 2 * 6
    assert total.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_the_adaptive_weight_is_the_ratio_of_gradients() -> None:
    last = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    weight = adaptive_weight((3 * last).sum(), (0.5 * last).sum(), last)
    assert weight.item() == pytest.approx(6, rel=1e-3)
    assert not weight.requires_grad
    assert adaptive_weight((9 * last).sum(), (0 * last).sum(), last).item() == 1e4


def test_the_published_discriminator_judges_patches() -> None:
    assert PatchDiscriminator()(torch.rand(1, 3, 64, 64)).shape == (1, 1, 6, 6)


def vae_trainer(noise: float = 0.1) -> VaeTrainer:
    torch.manual_seed(3)
    vae = Vae(dataclasses.replace(VAE, anchored=True, centred=True))
    return VaeTrainer(vae, VaeLoss(VaeLossConfig()), CONFIG, noise, "vae")


def frames() -> torch.Tensor:
    """Soft pictures of four colours each."""
    colours = torch.rand(4, 3, 2, 2, generator=torch.Generator().manual_seed(8))
    return torch.nn.functional.interpolate(colours, size=16, mode="bilinear")


def denoiser_trainer(drop: float = 0.1) -> DenoiserTrainer:
    torch.manual_seed(3)
    return DenoiserTrainer(
        Denoiser(DENOISER), DIFFUSION, CONFIG, DenoiserTraining(drop), "denoiser"
    )


@pytest.mark.slow
def test_a_vae_learns_one_batch() -> None:
    trainer = vae_trainer()
    told = [trainer.step(frames()) for _ in range(120)]
    assert told[-1]["l1"] < 0.3 * told[0]["l1"]
    assert set(told[0]) == {"l1", "distance", "loss", "gradient"}
    shown = trainer.averaged.decode(trainer.averaged.encode(frames()))
    assert (shown - frames()).abs().mean() < 0.3 * told[0]["l1"]


@pytest.mark.slow
def test_a_denoiser_learns_one_batch() -> None:
    trainer = denoiser_trainer()
    tokens = unit(4, 6, 4, 3)
    told = [trainer.step(tokens, LABELS)["loss"] for _ in range(120)]
    assert told[0] == pytest.approx(1, abs=1e-3)  # latents have variance 1, the guess is 0
    assert sum(told[-10:]) / 10 < 0.6


def test_a_resumed_vae_run_is_the_run_that_was_never_interrupted(tmp_path: Path) -> None:
    whole, first, second = vae_trainer(), vae_trainer(), vae_trainer()
    told = [whole.step(frames()) for _ in range(4)]
    for _ in range(2):
        first.step(frames())
    first.save(tmp_path / "state")
    second.resume(tmp_path / "state")
    assert [second.step(frames()) for _ in range(2)] == told[2:]


def test_a_resumed_denoiser_run_is_the_run_that_was_never_interrupted(tmp_path: Path) -> None:
    whole, first, second = denoiser_trainer(), denoiser_trainer(), denoiser_trainer()
    tokens = unit(4, 6, 4, 3)
    told = [whole.step(tokens, LABELS) for _ in range(4)]
    for _ in range(2):
        first.step(tokens, LABELS)
    first.save(tmp_path / "state")
    second.resume(tmp_path / "state")
    assert [second.step(tokens, LABELS) for _ in range(2)] == told[2:]
    for ours, theirs in zip(second.averaged.parameters(), whole.averaged.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_every_training_sample_is_non_decreasing_and_corrupted_frame_by_frame(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainer = denoiser_trainer(drop=0.5)
    tokens = unit(256, 6, 4, 3)
    seen: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    def recorded(z: torch.Tensor, t: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        seen.append((z, t, labels))
        return torch.zeros_like(z)

    monkeypatch.setattr(trainer.denoiser, "forward", recorded)
    labels = torch.arange(256) % 3
    loss = trainer.loss(trainer.denoiser, tokens, labels, torch.Generator().manual_seed(1))
    ((z, t, given),) = seen
    assert loss.item() == pytest.approx(1)
    assert bool((t.diff(dim=1) >= 0).all())
    abar = trainer.loss.diffusion.alpha_bar[t][..., None, None]
    eps = (z - abar.sqrt() * trainer.loss.diffusion.scaled(tokens)) / (1 - abar).sqrt()
    assert eps.std().item() == pytest.approx(1, abs=0.02)
    assert abs(eps.mean().item()) < 0.02
    dropped = given == trainer.denoiser.null
    assert 0.4 < dropped.float().mean().item() < 0.6
    assert torch.equal(given[~dropped], labels[~dropped])


def test_an_adversary_joins_at_its_step_and_both_learn(tmp_path: Path) -> None:
    def made() -> VaeTrainer:
        trainer = vae_trainer()
        torch.manual_seed(6)
        trainer.adversary = Adversary(PatchDiscriminator(width=4, layers=1), CONFIG, start=1)
        return trainer

    trainer = made()
    assert trainer.adversary is not None
    before = [weight.clone() for weight in trainer.adversary.stepper.model.parameters()]
    assert "adversary" not in trainer.step(frames())
    assert trainer.step(frames())["adversary"] == pytest.approx(1, abs=0.3)
    after = list(trainer.adversary.stepper.model.parameters())
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    trainer.save(tmp_path / "state")
    again = made()
    again.resume(tmp_path / "state")
    assert again.step(frames()) == trainer.step(frames())


@pytest.mark.parametrize("name", ["drop_label", "rolling", "history_noise", "own_past"])
def test_a_share_out_of_range_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be"):
        DenoiserTraining(**{name: 1.5})


def test_done_frames_are_seen_shaken_and_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = denoiser_trainer()
    loss = DenoiserLoss(6, DIFFUSION, DenoiserTraining(rolling=1, history_noise=0.5))
    tokens, (t, done) = unit(64, 6, 4, 3), loss.timesteps(64, torch.Generator().manual_seed(1))
    assert bool(done.any())
    assert not bool(done[:, -1].any())
    assert bool((t[done] == 1).all())
    seen: list[torch.Tensor] = []

    def recorded(z: torch.Tensor, t: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        seen.append(z)
        return loss.diffusion.scaled(tokens) + 5 * done[..., None, None]

    monkeypatch.setattr(trainer.denoiser, "forward", recorded)
    labels = torch.zeros(64, dtype=torch.int64)
    assert loss(trainer.denoiser, tokens, labels, torch.Generator().manual_seed(1)).item() == 0
    past = seen[0][done] / DIFFUSION.latent_scale
    torch.testing.assert_close(past.norm(dim=-1), torch.ones(past.shape[:-1]))
    off = (past - tokens[done]).norm(dim=-1).mean().item()
    assert 0.1 < off < 0.6  # up to 0.5 on each of 3 channels, half of that on average


def test_the_past_may_be_the_denoisers_own_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, tokens = denoiser_trainer(), unit(64, 6, 4, 3)
    loss = DenoiserLoss(6, DIFFUSION, DenoiserTraining(rolling=1, own_past=0.5))
    guess = unit(64, 6, 4, 3)
    calls: list[tuple[torch.Tensor, torch.Tensor, bool]] = []

    def recorded(z: torch.Tensor, t: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        calls.append((z, t, torch.is_grad_enabled()))
        return loss.diffusion.scaled(guess)

    monkeypatch.setattr(trainer.denoiser, "forward", recorded)
    labels = torch.zeros(64, dtype=torch.int64)
    loss(trainer.denoiser, tokens, labels, torch.Generator().manual_seed(1))
    (_, before, gradient), (seen, _, _) = calls
    assert not gradient  # of the guess
    assert bool((before == before[:, :1]).all())
    assert 1 <= int(before.min()) < int(before.max()) < DIFFUSION.timesteps // 2
    done = loss.timesteps(64, torch.Generator().manual_seed(1))[1]  # the first thing drawn
    past = seen / DIFFUSION.latent_scale
    own = (past - guess).abs().amax(dim=(2, 3)) < 1e-5
    given = (past - tokens).abs().amax(dim=(2, 3)) < 1e-5
    assert bool((own | given)[done].all())
    assert 0.2 < float(own[done[:, 0], 0].float().mean()) < 0.8
    assert bool((own == own[:, :1])[done].all())  # all of a clip's past or none
