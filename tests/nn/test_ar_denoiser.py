"""The denoiser: published sizes, what may depend on what, and keys and values that are kept."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from operators.nn.ar_diffusion.config import PAPER, DenoiserConfig
from operators.nn.ar_diffusion.denoiser import Denoiser
from operators.nn.ar_diffusion.masks import attention_mask
from operators.nn.blocks.embedding import place_table
from tests.nn.ar_models import DENOISER, awake, unit

LABELS = torch.tensor([0, 3])


def inputs(frames: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(2, frames, 4, 3), torch.randint(100, (2, frames)).sort(dim=1).values


def test_the_published_denoiser_has_its_shapes_and_672_million_parameters() -> None:
    with torch.device("meta"):
        denoiser = Denoiser(PAPER.denoiser)
        z, t = torch.empty(2, 16, 32, 4), torch.zeros(2, 16, dtype=torch.int64)
        assert denoiser(z, t, torch.zeros(2, dtype=torch.int64)).shape == (2, 16, 32, 4)
    assert denoiser.contexts.shape == (1, 77, 768)
    assert not denoiser.contexts.requires_grad
    assert denoiser.mask.shape == (77 + 512, 77 + 512)
    assert denoiser.places.shape == (512, 1152)
    count = sum(weight.numel() for weight in denoiser.parameters())
    assert count == pytest.approx(672e6, rel=0.002)
    block = sum(weight.numel() for weight in denoiser.blocks[0].parameters())
    assert block == pytest.approx(23.9e6, rel=0.002)


def test_the_published_positions_count_tokens_through_all_frames() -> None:
    denoiser = awake(positions="table")
    assert torch.equal(denoiser.places, place_table(24, 24))
    one = denoiser._tokens(torch.zeros(1, 3, 4, 3))
    torch.testing.assert_close(one[0], denoiser.latent_in.bias + denoiser.places[:12])


def test_masks_by_hand() -> None:
    strict = attention_mask("strict", 1, 2, 2)
    assert strict is not None
    assert strict.int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1],
    ]
    published = attention_mask("published", 1, 2, 2)
    assert published is not None
    assert bool(published[0].all())
    assert torch.equal(published[1:], strict[1:])
    assert attention_mask("none", 1, 2, 2) is None


def changed(denoiser: Denoiser, frame: int, what: str) -> torch.Tensor:
    """By how much each frame's output changes, [F], if one frame's latent or timestep does."""
    torch.manual_seed(3)
    z, t = inputs()
    before = denoiser(z, t, LABELS)
    if what == "latent":
        z[:, frame] += 1
    else:
        t[:, frame] = 99 - t[:, frame]
    return (denoiser(z, t, LABELS) - before).abs().amax(dim=(0, 2, 3))


@pytest.mark.parametrize("what", ["latent", "timestep"])
@pytest.mark.parametrize("positions", ["rotary", "table"])
@pytest.mark.parametrize("frame", range(1, 5))
def test_a_later_frame_never_changes_an_earlier_one(frame: int, positions: str, what: str) -> None:
    change = changed(awake(positions=positions), frame, what)
    assert change[:frame].tolist() == [0.0] * frame  # bit for bit
    assert bool((change[frame:] > 1e-4).all())


@pytest.mark.parametrize("what", ["latent", "timestep"])
def test_the_published_mask_lets_the_future_leak_from_the_second_layer_on(what: str) -> None:
    assert changed(awake(mask="published"), 3, what)[:3].min() > 1e-6
    assert changed(awake(mask="published", depth=1), 3, what)[:3].max() == 0
    assert changed(awake(mask="none", depth=1), 3, what)[:3].min() > 1e-6


@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize("share_norm", [False, True])
def test_frames_behind_kept_ones_are_as_if_all_were_computed(
    qk_norm: bool, share_norm: bool
) -> None:
    denoiser = awake(qk_norm=qk_norm, share_norm=share_norm)
    z, t = inputs()
    whole, cache = denoiser(z, t, LABELS), denoiser.begin(LABELS)
    for part in (slice(0, 1), slice(1, 3), slice(3, 5)):
        x0_hat, added = denoiser.extend(z[:, part], t[:, part], cache)
        torch.testing.assert_close(x0_hat, whole[:, part], atol=1e-5, rtol=1e-5)
        cache = tuple(own.then(new) for own, new in zip(cache, added, strict=True))
    assert cache[0].k.shape[2] == DENOISER.context_tokens + 5 * DENOISER.tokens


@pytest.mark.parametrize("changes", [{"mask": "published"}, {"positions": "table"}])
def test_a_denoiser_that_is_not_causal_or_bound_to_places_keeps_nothing(
    changes: dict[str, str],
) -> None:
    denoiser = awake(**changes)
    assert not denoiser.streams
    with pytest.raises(ValueError, match="only the strict mask with rotary positions"):
        denoiser.begin(LABELS)


def test_fewer_frames_than_the_window_are_its_first_ones() -> None:
    denoiser = awake()
    z, t = inputs()
    few = denoiser(z[:, :3], t[:, :3], LABELS)
    torch.testing.assert_close(few, denoiser(z, t, LABELS)[:, :3], atol=1e-6, rtol=1e-5)


def test_no_class_has_an_index_of_its_own() -> None:
    denoiser = awake()
    assert denoiser.null == 3
    assert denoiser.contexts.shape == (4, 2, 5)
    z, t = inputs(2)
    outputs = [denoiser(z[:1], t[:1], torch.tensor([label])) for label in range(4)]
    for a in range(4):
        for b in range(a):
            assert (outputs[a] - outputs[b]).abs().max() > 1e-4


def test_a_fresh_denoiser_guesses_nothing_and_one_step_reaches_every_parameter() -> None:
    """A batch of the published form, cut down: forward and backward."""
    torch.manual_seed(5)
    config = dataclasses.replace(
        PAPER.denoiser, frames=3, width=32, depth=2, heads=2, context_width=12, fixed_context=False
    )
    denoiser = Denoiser(config)
    z, t = unit(2, 3, 32, 4), torch.tensor([[0, 5, 999], [7, 7, 7]])
    labels = torch.zeros(2, dtype=torch.int64)
    optimiser = torch.optim.SGD(denoiser.parameters(), lr=0.05)
    losses = []
    for _ in range(4):  # gates open one after the other: the last layer, then what feeds it
        loss = (denoiser(z, t, labels) - z).square().mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[0] == pytest.approx(0.25)  # unit vectors in R^4 against zero
    assert losses[-1] < losses[0]
    for name, weight in denoiser.named_parameters():
        assert weight.grad is not None, name
        assert bool(weight.grad.any()), name


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"width": 25}, "even width"),
        ({"mask": "causal"}, "mask must be"),
        ({"positions": "none"}, "positions must be"),
        ({"depth": 0}, "depth must be"),
        ({"width": 10_000_000}, "width must be"),
        ({"classes": -1}, "classes must be"),
    ],
)
def test_sizes_that_cannot_be_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(DENOISER, **wrong)
    assert isinstance(DENOISER, DenoiserConfig)
