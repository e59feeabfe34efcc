"""Generation: what is kept, what is drawn from what, and streams that are the batch."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable

import pytest
import torch

from operators.nn.blocks.masking import DecodePlan
from operators.nn.moso.config import COMPACT, PAPER
from operators.nn.moso.generate import (
    between,
    chance,
    interpolate,
    plan_of,
    predict,
    predict_frames,
    predict_segment,
    predict_segments,
    recomposed,
    unconditional,
)
from operators.nn.moso.tokens import ClipTokens
from operators.nn.moso.transformer import Transformer
from tests.nn.moso_models import STRAIGHT, vqvae
from tests.nn.moso_transformers import (
    LAYOUT,
    OURS,
    PUBLISHED,
    PixelCodec,
    clips,
    frames,
    transformer,
)

PLAN = DecodePlan(steps=3, temperature=1.0)
SURE = DecodePlan(steps=3, sharpness=math.inf)
BOTH = pytest.mark.parametrize("config", [PUBLISHED, OURS], ids=["published", "ours"])


def equal(a: ClipTokens, b: ClipTokens) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@BOTH
def test_prediction_keeps_the_motion_that_is_given_and_reads_no_other(config: object) -> None:
    net, pseudo = transformer(config), clips(16)  # type: ignore[arg-type]

    def predicted(motion: torch.Tensor) -> ClipTokens:
        return predict(net, pseudo._replace(motion=motion), PLAN, chance(range(16), 0))

    tokens, other = predicted(pseudo.motion), pseudo.motion.clone()
    tokens.check(LAYOUT)
    assert torch.equal(tokens.motion[:, :2], pseudo.motion[:, :2])
    other[:, 2:] = (other[:, 2:] + 1) % LAYOUT.codes
    assert equal(predicted(other), tokens)
    other[:, :2] = (other[:, :2] + 1) % LAYOUT.codes
    moved = predicted(other)
    assert torch.equal(moved.scene, tokens.scene)
    assert not torch.equal(moved.motion[:, 2:], tokens.motion[:, 2:])


def test_prediction_is_two_content_passes_and_s_motion_passes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net, pseudo = transformer(), clips()
    calls: list[tuple[str, list[torch.Tensor]]] = []

    def counted(name: str) -> None:
        real: Callable[..., object] = getattr(net, name)

        def call(*args: object) -> object:
            calls.append((name, [arg for arg in args if isinstance(arg, torch.Tensor)]))
            return real(*args)

        monkeypatch.setattr(net, name, call)

    counted("content")
    counted("continue_motion")
    tokens = predict(net, pseudo, PLAN, chance([1, 2], 0))
    assert [name for name, _ in calls] == ["content"] * 2 + ["continue_motion"] * 3
    assert all(torch.equal(a, b) for a, b in zip(calls[0][1], pseudo[:2], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(calls[1][1], tokens[:2], strict=True))
    hidden = [(seen[0] == net.vocabulary.mask).sum(-1) for _, seen in calls[2:]]
    for counts, wanted in zip(hidden, (4, 3, 2), strict=True):  # of 4 in every frame
        assert torch.equal(counts, torch.full((2, 3), wanted))


def test_without_chance_seeds_do_not_matter_and_with_it_they_do() -> None:
    net, pseudo = transformer(), clips()
    sure = [predict(net, pseudo, SURE, chance(seeds, 0)) for seeds in ([1, 2], [3, 4])]
    assert equal(*sure)
    drawn = [predict(net, pseudo, PLAN, chance(seeds, 0)) for seeds in ([1, 2], [3, 4], [1, 2])]
    assert not equal(drawn[0], drawn[1])
    assert equal(drawn[0], drawn[2])


@BOTH
def test_clips_from_nothing_are_whole(config: object) -> None:
    net = transformer(config)  # type: ignore[arg-type]
    tokens = unconditional(net, PLAN, chance([1, 2], 0))
    tokens.check(LAYOUT)
    assert equal(tokens, unconditional(net, PLAN, chance([1, 2], 0)))
    assert not torch.equal(tokens.scene[0], tokens.scene[1])


def test_frames_in_between_are_made_and_all_else_stays() -> None:
    net, tokens = transformer(), clips()
    known = torch.tensor([True, False, True, False, True])
    made = interpolate(net, tokens, known, PLAN, chance([1, 2], 0))
    made.check(LAYOUT)
    assert equal(made._replace(motion=tokens.motion), tokens)
    assert torch.equal(made.motion[:, known], tokens.motion[:, known])
    assert not torch.equal(made.motion[:, ~known], tokens.motion[:, ~known])
    other = tokens.motion.clone()
    other[:, ~known] = 0
    again = interpolate(net, tokens._replace(motion=other), known, PLAN, chance([1, 2], 0))
    assert equal(again, made)
    with pytest.raises(ValueError, match="one claim for each frame"):
        interpolate(net, tokens, known[:4], PLAN, chance([1, 2], 0))


def test_a_recomposed_clip_has_one_scene_and_the_others_object_and_motion() -> None:
    a, b = clips(seed=1), clips(seed=2)
    made = recomposed(a, b)
    assert torch.equal(made.scene, a.scene)
    assert torch.equal(made.object, b.object)
    assert torch.equal(made.motion, b.motion)


def test_a_layout_without_given_frames_predicts_nothing() -> None:
    config = dataclasses.replace(OURS, layout=dataclasses.replace(LAYOUT, condition=0))
    with pytest.raises(ValueError, match="no given frames"):
        predict(transformer(config), clips(), PLAN, chance([1, 2], 0))


def stream(seeds: list[int], recent: torch.Tensor, first: int, count: int) -> list[torch.Tensor]:
    made = predict_segments(PixelCodec(), transformer(), recent, PLAN, seeds, first)
    return list(itertools.islice(made, count))


def test_a_segment_is_encoded_from_given_frames_alone() -> None:
    codec, recent = PixelCodec(), frames(2, 3)
    made = predict_segment(codec, transformer(), recent, PLAN, chance([1, 2], 0))
    assert made.shape == (2, 3, 3, 2, 2)
    ((clip, before, after),) = codec.seen
    assert torch.equal(before, recent[:, 0])
    assert torch.equal(clip[:, :2], recent[:, 1:])
    assert torch.equal(clip[:, 2:], recent[:, 2:].expand(-1, 3, -1, -1, -1))
    assert torch.equal(after, recent[:, 2])
    with pytest.raises(ValueError, match="2 frames, not one more than 2 given"):
        predict_segment(codec, transformer(), recent[:, 1:], PLAN, chance([1, 2], 0))


def test_a_longer_prediction_encodes_the_last_decoded_frames_again() -> None:
    codec, recent = PixelCodec(), frames(2, 3)
    made = predict_frames(codec, transformer(), recent, 7, PLAN, [1, 2])
    assert made.shape[1] == 7
    assert len(codec.seen) == 3
    clip, before, _ = codec.seen[1]
    assert torch.equal(before, made[:, 0])  # of 3 new frames the reference and 2 given ones
    assert torch.equal(clip[:, :2], made[:, 1:3])


def test_a_stream_is_the_batch_segment_by_segment() -> None:
    recent = frames(2, 3)
    whole = predict_frames(PixelCodec(), transformer(), recent, 12, PLAN, [5, 6])
    assert torch.equal(torch.cat(stream([5, 6], recent, 0, 4), dim=1), whole)
    for i in range(2):
        alone = torch.cat(stream([5 + i], recent[i : i + 1], 0, 4), dim=1)
        assert torch.equal(alone[0], whole[i])


def test_a_stream_goes_on_from_its_last_frames_and_a_number() -> None:
    recent = frames(1, 3)
    whole = stream([5], recent, 0, 4)
    kept = torch.cat(whole[:2], dim=1)[:, -3:]
    rest = stream([5], kept, 2, 2)
    assert all(torch.equal(a, b) for a, b in zip(rest, whole[2:], strict=True))
    assert not torch.equal(stream([5], kept, 3, 1)[0], whole[2])


@pytest.mark.parametrize(("count", "rate"), [(2, 4), (3, 2)])
def test_known_frames_come_back_as_they_were(count: int, rate: int) -> None:
    codec, known = PixelCodec(), frames(2, count)
    before = frames(2, 1, seed=9)[:, 0]
    made = between(codec, transformer(), known, before, PLAN, chance([1, 2], 0))
    assert made.shape[1] == (count - 1) * rate + 1
    assert torch.equal(made[:, ::rate], known)
    assert not torch.equal(made[:, 1:2], known[:, :1])
    ((clip, reference, after),) = codec.seen
    assert torch.equal(clip, known.repeat_interleave(rate, 1)[:, :5])
    assert torch.equal(reference, before)
    assert torch.equal(after, known[:, -1])


@pytest.mark.parametrize("count", [1, 4])
def test_frames_without_room_between_them_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match="no room between them in 5"):
        between(
            PixelCodec(), transformer(), frames(1, count), frames(1, 1)[:, 0], PLAN, chance([1], 0)
        )


def test_moso_vqvae_is_a_codec() -> None:
    codec = vqvae(STRAIGHT).eval()
    net = transformer(layout=codec.layout)
    images = torch.rand(2, 3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    made = predict_frames(codec, net, images, 6, PLAN, [1, 2])
    assert made.shape == (2, 6, 3, 16, 16)
    assert 0 <= made.min() < made.max() <= 1
    alone = predict_frames(codec, net, images[:1], 6, PLAN, [1])
    torch.testing.assert_close(alone, made[:1])
    known = between(codec, net, images, images[:, 0], PLAN, chance([1, 2], 0))
    assert torch.equal(known[:, ::2], images)


def test_the_systems_own_plan() -> None:
    assert plan_of(COMPACT) == DecodePlan(steps=8, sharpness=4.0)
    assert plan_of(PAPER) == DecodePlan(steps=16, temperature=0.3)


def test_a_transformer_that_learns_is_not_touched_by_generating() -> None:
    net = Transformer(OURS)
    tokens = unconditional(net, PLAN, chance([1], 0))
    assert not tokens.scene.is_floating_point()
    assert all(weight.grad is None and weight.requires_grad for weight in net.parameters())
