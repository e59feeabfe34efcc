"""Objectives by hand, and trainers that learn and go on where they stopped."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from operators.nn.blocks.masking import DecodePlan, training_counts, training_rates
from operators.nn.blocks.stepper import StepperConfig
from operators.nn.moso.generate import chance, predict, unconditional
from operators.nn.moso.tokens import ClipTokens
from operators.nn.moso.transformer import Content, Transformer
from operators.nn.moso.transformer_training import (
    Objective,
    PredictionLoss,
    TransformerTrainer,
    UnconditionalLoss,
    replaced,
)
from tests.nn.moso_transformers import LAYOUT, OURS, PUBLISHED, clips, transformer

CONFIG = StepperConfig(steps=200, learning_rate=6e-3, warm_steps=3, average=0.9, seed=1)
MASK = LAYOUT.codes
LOSSES = [UnconditionalLoss(), PredictionLoss(), PredictionLoss(noise=0.1)]


def dice(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pair(batch: int = 4) -> tuple[ClipTokens, ClipTokens]:
    """A true clip and its pseudo clip: half of scene and object, and the given motion, agree."""
    true, pseudo = clips(batch, seed=4), clips(batch, seed=5)
    scene, own = true.scene.clone(), true.object.clone()
    scene[:, ::2], own[:, ::2] = pseudo.scene[:, ::2], pseudo.object[:, ::2]
    motion = pseudo.motion.clone()
    motion[:, :2] = true.motion[:, :2]
    return true, ClipTokens(scene, own, motion)


class Heard:
    """A transformer whose inputs are written down and whose content is sure of code 3."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.net = transformer()
        self.content: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.motion: list[torch.Tensor] = []
        self.given: list[torch.Tensor | None] = []
        net, real, begin = self.net, self.net.content, self.net.begin_motion
        go_on = net.continue_motion

        def content(scene: torch.Tensor, own: torch.Tensor, *rest: torch.Generator) -> Content:
            self.content.append((scene, own))
            return real(scene, own, *rest)

        def content_logits(content: Content) -> list[torch.Tensor]:
            sure = torch.eye(net.vocabulary.size)[3] * 50
            return [sure.expand(*part.shape[:2], -1) for part in content[:2]]

        def begin_motion(content: Content, given: torch.Tensor | None, *rest: object) -> object:
            self.given.append(given)
            return begin(content, given)

        def continue_motion(state: object, tokens: torch.Tensor, *rest: object) -> torch.Tensor:
            self.motion.append(tokens)
            return go_on(state, tokens)  # type: ignore[arg-type]

        monkeypatch.setattr(net, "content", content)
        monkeypatch.setattr(net, "content_logits", content_logits)
        monkeypatch.setattr(net, "begin_motion", begin_motion)
        monkeypatch.setattr(net, "continue_motion", continue_motion)


def test_scene_object_and_each_frame_are_hidden_on_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard, true = Heard(monkeypatch), clips(64)
    UnconditionalLoss()(heard.net, true, None, dice())
    rates = training_rates(64, dice())
    (scene, own), guide = heard.content
    assert all(torch.equal(a, b) for a, b in zip(guide, true[:2], strict=True))
    assert heard.given == [None]
    for seen, part in ((scene, true.scene), (own, true.object), (heard.motion[0], true.motion)):
        hidden = seen == MASK
        assert torch.equal(seen[~hidden], part[~hidden])
        counts = training_counts(rates, part.shape[-1])
        wanted = counts.view(-1, *[1] * (part.ndim - 2)).expand(part.shape[:-1])
        assert torch.equal(hidden.sum(-1), wanted)
    frames = heard.motion[0] == MASK
    assert not torch.equal(frames[:, 0], frames[:, 1])


def test_drawn_scene_and_object_give_the_guidance_and_given_frames_are_the_pseudo_clips(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard, (true, pseudo) = Heard(monkeypatch), pair()
    PredictionLoss()(heard.net, true, pseudo, dice())
    first, second = heard.content
    assert all(torch.equal(a, b) for a, b in zip(first, pseudo[:2], strict=True))
    assert all(bool((part == 3).all()) for part in second)
    assert heard.given[0] is not None
    assert torch.equal(heard.given[0], pseudo.motion[:, :2])
    hidden = heard.motion[0] == MASK
    assert hidden.shape == (4, 3, 4)
    assert torch.equal(heard.motion[0][~hidden], true.motion[:, 2:][~hidden])
    assert bool(((hidden.sum(-1) >= 1) & (hidden.sum(-1) <= 3)).all())


def test_tokens_that_differ_weigh_five_times_on_their_own_mean() -> None:
    net, (true, pseudo) = transformer(), pair()
    told = PredictionLoss()(net, true, pseudo, dice())
    logits = net.content_logits(net.content(pseudo.scene, pseudo.object))
    for ours, name in zip(logits, ("scene", "object"), strict=True):
        part, was = getattr(true, name), getattr(pseudo, name)
        each = functional.cross_entropy(ours.flatten(0, 1), part.flatten(), reduction="none")
        differs = (part != was).flatten()
        wanted = 5 * each[differs].mean() + each[~differs].mean()
        torch.testing.assert_close(told[name], wanted)


def test_without_sets_every_token_has_its_own_weight() -> None:
    net, (true, pseudo) = transformer(), pair()
    logits, _ = net.content_logits(net.content(pseudo.scene, pseudo.object))
    each = functional.cross_entropy(logits.flatten(0, 1), true.scene.flatten(), reduction="none")
    differs = (true.scene != pseudo.scene).flatten()
    alike = PredictionLoss(changed=1, same=1, apart=False)(net, true, pseudo, dice())
    torch.testing.assert_close(alike["scene"], each.mean())
    weighed = PredictionLoss(changed=3, same=1, apart=False)(net, true, pseudo, dice())
    wanted = (each * (1 + 2 * differs)).sum() / (1 + 2 * differs).sum()
    torch.testing.assert_close(weighed["scene"], wanted)


def test_a_set_without_members_counts_nothing() -> None:
    net, (true, _) = transformer(), pair()
    told = PredictionLoss()(net, true, true, dice())
    scene, _ = net.content_logits(net.content(true.scene, true.object))
    each = functional.cross_entropy(scene.flatten(0, 1), true.scene.flatten())
    torch.testing.assert_close(told["scene"], each)
    unlike = true._replace(scene=(true.scene + 1) % LAYOUT.codes)
    told = PredictionLoss()(net, true, unlike, dice())
    scene, _ = net.content_logits(net.content(unlike.scene, true.object))
    each = functional.cross_entropy(scene.flatten(0, 1), true.scene.flatten())
    torch.testing.assert_close(told["scene"], 5 * each)


def test_noise_replaces_its_share_of_what_goes_in(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = torch.full((100, 100), 2)
    other = replaced(tokens, 0.1, 12, dice())
    assert (other != tokens).float().mean().item() == pytest.approx(0.1 * 11 / 12, abs=0.01)
    assert other.unique().tolist() == list(range(12))
    assert replaced(tokens, 0, 12, dice()) is tokens
    heard, (true, pseudo) = Heard(monkeypatch), pair(64)
    PredictionLoss(noise=0.1)(heard.net, true, pseudo, dice())
    share = (heard.content[0][0] != pseudo.scene).float().mean().item()
    assert 0.06 < share < 0.12
    assert heard.given[0] is not None
    assert torch.equal(heard.given[0], pseudo.motion[:, :2])


@pytest.mark.parametrize("config", [PUBLISHED, OURS], ids=["published", "ours"])
@pytest.mark.parametrize("objective", LOSSES)
def test_one_step_on_a_batch_reaches_every_parameter(objective: Objective, config: object) -> None:
    """The published form cut down, and ours."""
    net = transformer(config, dropout=0.1).requires_grad_(True)  # type: ignore[arg-type]
    told = TransformerTrainer(net, objective, CONFIG).step(*pair())
    assert set(told) == {"scene", "object", "motion", "loss", "gradient"}
    assert told["loss"] == pytest.approx((told["scene"] + told["object"] + told["motion"]) / 3)
    for name, weight in net.named_parameters():
        assert weight.grad is not None, name
        assert bool(weight.grad.any()), name


def trainer(objective: Objective, **changes: object) -> TransformerTrainer:
    net = transformer(**changes).requires_grad_(True)  # type: ignore[arg-type]
    return TransformerTrainer(net, objective, CONFIG, "tokens")


@pytest.mark.parametrize("objective", LOSSES)
def test_a_resumed_run_is_the_run_that_was_never_interrupted(
    objective: Objective, tmp_path: Path
) -> None:
    whole, first, second = (trainer(objective, dropout=0.2) for _ in range(3))
    batch = pair()
    told = [whole.step(*batch) for _ in range(4)]
    for _ in range(2):
        first.step(*batch)
    first.save(tmp_path / "state")
    second.resume(tmp_path / "state")
    assert [second.step(*batch) for _ in range(2)] == told[2:]
    for ours, theirs in zip(second.averaged.parameters(), whole.averaged.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("config", [PUBLISHED, OURS], ids=["published", "ours"])
def test_a_handful_of_clips_is_learned_by_heart_and_predicted(config: object) -> None:
    learning = trainer(PredictionLoss(), config=config, width=32)
    true, pseudo = pair()
    told = [learning.step(true, pseudo) for _ in range(140)]
    assert told[-1]["scene"] < 0.2 * told[0]["scene"]
    assert told[-1]["motion"] < 0.5 * told[0]["motion"]
    plan = DecodePlan(steps=4, sharpness=float("inf"))
    made = predict(learning.averaged, pseudo, plan, chance(range(4), 0))
    for ours, theirs in zip(made, true, strict=True):
        assert (ours == theirs).float().mean() > 0.9


@pytest.mark.slow
def test_clips_from_nothing_are_like_the_clip_that_was_learned() -> None:
    learning = trainer(UnconditionalLoss(), width=32)
    one = clips(1)
    batch = ClipTokens(*(part.expand(4, *part.shape[1:]) for part in one))
    told = [learning.step(batch) for _ in range(60)]
    assert told[-1]["loss"] < 0.3 * told[0]["loss"]
    made = unconditional(learning.averaged, DecodePlan(4, sharpness=4.0), chance([1, 2], 0))
    for ours, theirs in zip(made, one, strict=True):
        assert (ours == theirs).float().mean() > 0.9


def test_prediction_needs_given_frames_and_their_pseudo_clip() -> None:
    true, pseudo = pair()
    with pytest.raises(ValueError, match="no pseudo clip"):
        PredictionLoss()(transformer(), true, None, dice())
    config = dataclasses.replace(OURS, layout=dataclasses.replace(LAYOUT, condition=0))
    with pytest.raises(ValueError, match="no given frames"):
        PredictionLoss()(Transformer(config), true, pseudo, dice())


@pytest.mark.parametrize("wrong", [{"noise": 1.5}, {"changed": 0.0}, {"same": -1.0}])
def test_shares_and_weights_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="out of range"):
        PredictionLoss(**wrong)
