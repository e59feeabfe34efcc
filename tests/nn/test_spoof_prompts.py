"""Unknown-spoof prompts: the properties that section 2.3 of the method notes asks for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from operators.nn.prompts.head import open_head
from operators.nn.prompts.learner import tower_hash
from operators.nn.prompts.training import OptimiserConfig, RunLimits
from operators.nn.spoof_prompts import losses
from operators.nn.spoof_prompts.data import LeakError, RealFaces
from operators.nn.spoof_prompts.head import SpoofHead, save_spoof_head
from operators.nn.spoof_prompts.model import PAPER, SpoofConfig, SpoofPrompts, p_real
from operators.nn.spoof_prompts.priors import PriorError, Priors, read_priors
from operators.nn.spoof_prompts.properties import PromptProperties, prompt_properties
from operators.nn.spoof_prompts.trainer import TrainedPrompts, train_spoof_prompts
from operators.nn.vlm.interface import Vlm
from operators.nn.vlm.loading import random_clip

CONFIG = SpoofConfig(spoof_prompts=3, context=4)
STEPS = OptimiserConfig(steps=60, learning_rate=0.02, warm_steps=5)


@pytest.fixture(scope="module")
def priors() -> Priors:
    return read_priors()


@pytest.fixture(scope="module")
def vlm() -> Vlm:
    return random_clip("clip-tiny-test", seed=3)


def faces(vlm: Vlm, seed: int, count: int = 40) -> RealFaces:
    """Features around one direction that no prior text points to."""
    middle = torch.randn(vlm.dim, generator=torch.Generator().manual_seed(99))
    noise = torch.randn(count, vlm.dim, generator=torch.Generator().manual_seed(seed))
    features = functional.normalize(middle, dim=0) * 3 + 0.3 * noise
    return RealFaces.of(features, ["bonafide"] * count, ["office"] * count)


def learn(vlm: Vlm, priors: Priors, config: SpoofConfig = CONFIG) -> TrainedPrompts:
    trained = train_spoof_prompts(vlm, faces(vlm, 1), priors, config, STEPS)
    assert trained is not None
    return trained


def properties(vlm: Vlm, trained: TrainedPrompts) -> PromptProperties:
    held_out = faces(vlm, 2).x
    return prompt_properties(
        trained.bank, trained.prior_features, trained.priors.families, held_out, CONFIG.margin
    )


@pytest.fixture(scope="module")
def trained(vlm: Vlm, priors: Priors) -> TrainedPrompts:
    return learn(vlm, priors)


def test_prompts_are_independent_near_priors_and_apart_from_real_faces(
    vlm: Vlm, trained: TrainedPrompts
) -> None:
    found = properties(vlm, trained)
    assert found.centred_cosine <= 0.2
    assert found.rank == CONFIG.spoof_prompts
    assert found.prior_cosine >= CONFIG.tau - 0.02
    assert len(set(found.families)) >= 3
    assert found.margin >= CONFIG.margin
    assert found.violations <= 0.05


def test_only_contexts_are_learned_and_the_towers_stay_as_they_are(priors: Priors) -> None:
    vlm = random_clip("clip-tiny-test", seed=4)
    before = tower_hash(vlm.image, vlm.text)
    prompts = SpoofPrompts(vlm, priors, CONFIG)
    count = sum(p.numel() for p in prompts.parameters() if p.requires_grad)
    assert vlm.text is not None
    assert count == (CONFIG.spoof_prompts + 1) * CONFIG.context * vlm.text.width
    start = prompts()
    learned = train_spoof_prompts(vlm, faces(vlm, 1), priors, CONFIG, replace(STEPS, steps=3))
    assert learned is not None
    assert not torch.equal(start.w_k, learned.bank.w_k)
    assert tower_hash(vlm.image, vlm.text) == before


@pytest.mark.parametrize(
    ("without", "worse"),
    [
        ({"div": 0.0}, lambda full, less: less.centred_cosine > full.centred_cosine),
        ({"mar": 0.0, "con": 0.0, "oc": 0.0}, lambda full, less: less.violations > full.violations),
        ({"pri": 0.0}, lambda full, less: less.prior_cosine < full.prior_cosine),
    ],
)
def test_a_term_that_is_left_out_is_missed(
    vlm: Vlm, priors: Priors, trained: TrainedPrompts, without: dict, worse
) -> None:
    less = learn(vlm, priors, replace(CONFIG, **without))
    assert worse(properties(vlm, trained), properties(vlm, less))


def test_the_margin_term_is_what_holds_the_margin(vlm: Vlm, priors: Priors) -> None:
    wide = replace(CONFIG, con=0.0, margin=0.5)
    with_it = properties(vlm, learn(vlm, priors, wide))
    without = properties(vlm, learn(vlm, priors, replace(wide, mar=0.0)))
    assert with_it.margin > without.margin


@pytest.mark.parametrize("kinds", [["print"], ["mask3d"], ["replay"], ["live"], [""]])
def test_nothing_but_real_faces_gets_into_training(kinds: list[str]) -> None:
    features = torch.ones(3, 4)
    with pytest.raises(LeakError, match="only real faces"):
        RealFaces.of(features, ["bonafide", "bonafide", *kinds], ["a"] * 3)


def test_faces_of_two_domains_do_not_get_into_training() -> None:
    with pytest.raises(LeakError, match="one domain, these were offered: home, office"):
        RealFaces.of(torch.ones(2, 4), ["bonafide"] * 2, ["office", "home"])


@pytest.mark.parametrize(
    ("features", "views"),
    [
        (torch.ones(0, 4), None),
        (torch.full((2, 4), torch.nan), None),
        (torch.ones(2, 4), torch.ones(3, 4)),
        (torch.ones(2, 4), torch.full((2, 4), torch.inf)),
    ],
)
def test_features_that_are_none_are_refused(features, views) -> None:
    count = len(features)
    with pytest.raises(ValueError, match=r"features|finite"):
        RealFaces.of(features, ["bonafide"] * count, ["a"] * count, views)


def unit(rows: int, dim: int, seed: int) -> torch.Tensor:
    drawn = torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed))
    return functional.normalize(drawn, dim=1)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_a_score_depends_on_the_face_and_the_set_of_prompts_alone(seed: int) -> None:
    x, w = unit(5, 16, seed), unit(5, 16, seed + 1)
    score = p_real(x, w[0], w[1:], 30.0)
    turned = p_real(x, w[0], w[1:][[3, 1, 0, 2]], 30.0)
    assert torch.allclose(score, turned, atol=1e-6)
    alone = torch.cat([p_real(x[n : n + 1], w[0], w[1:], 30.0) for n in range(5)])
    assert torch.allclose(score, alone, atol=1e-6)


@pytest.mark.parametrize("count", [2, 7])
def test_the_same_prompt_many_times_shifts_the_logit_by_log_k(count: int) -> None:
    x, w = unit(6, 16, 1), unit(2, 16, 2)
    one = torch.logit(p_real(x, w[0], w[1:], 10.0).double())
    many = torch.logit(p_real(x, w[0], w[1:].expand(count, -1), 10.0).double())
    assert torch.allclose(one - many, torch.tensor(float(count)).double().log(), atol=1e-4)


def test_scores_in_bfloat16_are_close() -> None:
    x, w = unit(50, 64, 1), unit(4, 64, 2)
    full = p_real(x, w[0], w[1:], 5.0)
    half = p_real(x.bfloat16(), w[0].bfloat16(), w[1:].bfloat16(), 5.0).float()
    assert float((full - half).abs().max()) < 2e-2
    assert float((full - half).abs().mean()) < 2e-3


def test_the_terms_are_the_formulas_of_the_notes() -> None:
    x, w_r = torch.tensor([[1.0, 0, 0], [0, 1, 0]]), torch.tensor([1.0, 0, 0])
    w_k = torch.tensor([[0.0, 1, 0], [0, 0, 1]])
    e = torch.tensor(2.0).exp()
    first, second = e / (e + 2), 1 / (2 + e)
    assert losses.contrastive(x, w_r, w_k, 2.0) == pytest.approx(
        float(-(first.log() + second.log()) / 2)
    )
    # gaps x.w_r - x.w_k: 1, 1, -1, 0
    assert losses.margin(x, w_r, w_k, 0.05) == pytest.approx((1.05 + 0.05) / 4)
    priors = torch.tensor([[0.0, 0.6, 0.8]])
    assert losses.relaxed_prior(w_k, priors, 0.8) == pytest.approx((0.2 + 0) / 2)
    assert losses.semantic_independence(w_k, priors, "raw") == pytest.approx(0)
    a, b = torch.tensor([0, 0.4, -0.8]), torch.tensor([0, -0.6, 0.2])
    cosine = float(functional.cosine_similarity(a, b, dim=0))
    assert losses.semantic_independence(w_k, priors) == pytest.approx(cosine**2)
    genuine = torch.tensor([[0.6, 0.8, 0]])
    assert losses.one_class(x, w_r, genuine, 0.8) == pytest.approx(0.5 + 0.2)
    assert losses.view_consistency(x, x.flip(0), w_r) == pytest.approx(1.0)


def test_one_prompt_alone_is_independent() -> None:
    w_k = torch.ones(1, 3, requires_grad=True)
    losses.semantic_independence(w_k, torch.ones(2, 3)).backward()
    assert w_k.grad is not None
    assert not w_k.grad.any()


def test_a_run_that_was_interrupted_goes_on_exactly(
    vlm: Vlm, priors: Priors, tmp_path: Path
) -> None:
    config = replace(CONFIG, batch=8)
    steps = replace(STEPS, steps=12)
    whole = train_spoof_prompts(vlm, faces(vlm, 1), priors, config, steps)
    assert whole is not None
    limits = RunLimits(state_path=tmp_path / "state.safetensors", every_steps=5)
    limits.progress = lambda step, _: limits.stop.set() if step == 5 else None
    assert train_spoof_prompts(vlm, faces(vlm, 1), priors, config, steps, limits) is None
    limits.stop.clear()
    rest = train_spoof_prompts(vlm, faces(vlm, 1), priors, config, steps, limits)
    assert rest is not None
    assert torch.equal(whole.bank.w_k, rest.bank.w_k)
    assert len(rest.losses) == 7
    with pytest.raises(ValueError, match="other data or settings"):
        train_spoof_prompts(vlm, faces(vlm, 2), priors, config, steps, limits)


def test_a_time_limit_ends_a_run(vlm: Vlm, priors: Priors) -> None:
    clock = iter(range(100))
    limits = RunLimits(time_limit_s=3, clock_s=lambda: next(clock))
    assert train_spoof_prompts(vlm, faces(vlm, 1), priors, CONFIG, STEPS, limits) is None


def test_a_head_scores_as_its_prompts_do(vlm: Vlm, trained: TrainedPrompts, tmp_path: Path) -> None:
    path = tmp_path / "antispoof.safetensors"
    sha = save_spoof_head(path, trained, vlm, {"note": "a test"})
    head = open_head(path)
    assert isinstance(head, SpoofHead)
    assert (head.sha, head.backbone_sha, head.name) == (sha, vlm.backbone_sha, "antispoof")
    assert head.card == {"note": "a test"}
    features = torch.randn(4, 5, vlm.dim)
    made = head(features)
    x = functional.normalize(features[:, 0], dim=1)
    bank = trained.bank
    assert torch.equal(made.score_real, p_real(x, bank.w_r, bank.w_k, vlm.logit_scale))
    assert torch.equal(made.nearest, (x @ bank.w_k.T).argmax(1))
    assert torch.allclose(made.nearest_cos, (x @ bank.w_k.T).amax(1))
    assert len(head.elements) == CONFIG.spoof_prompts
    with pytest.raises(ValueError, match=r"\[B, 1 \+ N, 32\] are needed"):
        head(torch.zeros(2, 5, 8))


def test_prompts_need_a_text_tower_and_features_of_its_width(priors: Priors) -> None:
    vlm = random_clip("clip-tiny-test", seed=3)
    with pytest.raises(ValueError, match="features of 8 numbers"):
        train_spoof_prompts(
            vlm, RealFaces.of(torch.ones(2, 8), ["bonafide"] * 2, ["a"] * 2), priors, CONFIG
        )
    vlm.text = None
    with pytest.raises(ValueError, match="no text tower"):
        SpoofPrompts(vlm, priors, CONFIG)


@pytest.mark.parametrize(
    "wrong",
    [
        {"spoof_prompts": 0},
        {"context": 0},
        {"div": -1.0},
        {"tau": 1.5},
        {"independence": "none"},
        {"suffix": "long"},
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(CONFIG, **wrong)


def test_the_priors_are_as_many_as_the_notes_ask_for(priors: Priors) -> None:
    assert 30 <= len(priors.texts) <= 60
    assert len(set(priors.families)) >= 10
    assert 3 <= len(priors.genuine) <= 6
    chosen = priors.first_of_each(PAPER.spoof_prompts)
    assert len({priors.families[number] for number in chosen}) == PAPER.spoof_prompts
    with pytest.raises(PriorError, match="as many texts"):
        priors.first_of_each(100)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("version: 1\ngenuine: []\nspoof: {}", "genuine"),
        ("version: 1\ngenuine: [{id: a, text: a face}]\nspoof: {x: []}", "families"),
        ("version: 1\ngenuine: [{id: a, text: a face, why: 1}]\nspoof: {}", "why"),
        ("a: [", "priors.yaml"),
        (
            "version: 1\ngenuine: [{id: a, text: a face}]\n"
            "spoof: {x: [{id: a, text: one}], y: [{id: b, text: two}], z: [{id: c, text: three}]}",
            "id a stands for two",
        ),
    ],
)
def test_a_file_of_priors_that_is_wrong_is_told(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "priors.yaml"
    path.write_text(text)
    with pytest.raises(PriorError, match=told):
        read_priors(path)


def test_layout_does_not_change_the_priors_but_a_word_does(tmp_path: Path) -> None:
    rows = [f"{name}: [{{id: {name}, text: an {name} attack}}]" for name in "xyz"]
    head = "version: 1\ngenuine: [{id: g, text: a face}]\nspoof:\n  "
    one, other = tmp_path / "one.yaml", tmp_path / "other.yaml"
    one.write_text(head + "\n  ".join(rows))
    other.write_text("# laid out\n" + head + "\n\n  ".join(rows))
    assert read_priors(one).sha == read_priors(other).sha
    other.write_text((head + "\n  ".join(rows)).replace("an x attack", "a face on x"))
    assert read_priors(one).sha != read_priors(other).sha
