"""MOSO-VQVAE: published sizes, what tokens depend on, the merge, and frames out of tokens."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from operators.nn.moso.config import COMPACT_VQVAE, PAPER_VQVAE, PUBLISHED
from operators.nn.moso.layers import Residual, TimeAttention
from operators.nn.moso.merge import Merge
from operators.nn.moso.preprocess import Clip, parted, pseudo_clip
from operators.nn.moso.tokens import ClipTokens
from operators.nn.moso.vqvae import Vqvae
from tests.nn.moso_models import PLAIN, STRAIGHT, clip, vqvae


def count(module: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def test_the_published_sizes_have_their_shapes_and_58_million_parameters() -> None:
    with torch.device("meta"):
        paper = Vqvae(PAPER_VQVAE)
        scene, own = torch.empty(1, 256, 32, 32), torch.empty(1, 256, 16, 16)
        content = paper.merge.content(scene, own)
        features = paper.merge(content, torch.empty(1, 2, 256, 8, 8))
        assert features.shape == (1, 2, 256, 32, 32)
        assert paper.decoder(features).shape == (1, 2, 3, 256, 256)
        frames = torch.empty(1, 16, 3, 256, 256)
        assert paper.scene_encoder(frames).shape == (1, 256, 32, 32)
        assert paper.object_encoder(frames).shape == (1, 256, 16, 16)
        assert paper.motion_encoder(frames).shape == (1, 16, 256, 8, 8)
    entries = paper.codebook.entries
    assert entries.shape == (16384, 256)
    assert count(paper) + entries.numel() == pytest.approx(58e6, rel=0.03)


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("bair-64", (256, 256, 1024)),
        ("robonet-64", (256, 256, 1024)),
        ("kth-64", (256, 256, 1280)),
        ("kth-128", (1024, 256, 1280)),
        ("kitti-256", (1024, 256, 1280)),
        ("robonet-256", (1024, 256, 768)),
        ("ucf-256", (1024, 256, 1024)),
        ("sky-128", (256, 256, 1024)),
    ],
)
def test_published_configs_have_their_tokens(name: str, tokens: tuple[int, int, int]) -> None:
    layout = PUBLISHED[name].layout
    found = layout.scene_tokens, layout.object_tokens, layout.frames * layout.motion_tokens
    assert found == tokens
    assert layout.tokens == sum(tokens)


def test_the_compact_config_is_small_and_whole() -> None:
    with torch.device("meta"):
        compact = Vqvae(COMPACT_VQVAE)
    assert count(compact) + compact.codebook.entries.numel() < 2e6
    assert COMPACT_VQVAE.layout.tokens == 256 + 256 + 15 * 64


@pytest.mark.parametrize("config", [PLAIN, STRAIGHT])
def test_tokens_make_the_round_trip(config: object) -> None:
    made, seen = vqvae(config).eval(), clip()
    with torch.no_grad():
        tokens = made.encode(seen.frames, seen.before, seen.after)
        frames, coded = made(seen)
    tokens.check(config.layout)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(tokens, coded.tokens, strict=True))
    torch.testing.assert_close(made.decode(tokens), frames.clamp(0, 1))
    assert torch.equal(coded.indices(), made.codebook.nearest(coded.chosen_for.rows()))
    torch.testing.assert_close(made.codebook.lookup(coded.indices()), coded.codes.rows())


@pytest.mark.parametrize("config", [PLAIN, STRAIGHT])
def test_frames_can_be_decoded_one_by_one(config: object) -> None:
    made, seen = vqvae(config).eval(), clip()
    with torch.no_grad():
        tokens = made.encode(seen.frames, seen.before)
        content = made.content(tokens.scene, tokens.object)
        single = [made.frames(content, tokens.motion[:, t : t + 1]) for t in range(6)]
    torch.testing.assert_close(torch.cat(single, dim=1).clamp(0, 1), made.decode(tokens))


def test_a_temporal_decoder_needs_all_frames() -> None:
    made, seen = vqvae(dataclasses.replace(PLAIN, temporal_decoder=True)).eval(), clip()
    with torch.no_grad():
        tokens = made.encode(seen.frames, seen.before)
        whole = made.decode(tokens)
        other = tokens._replace(motion=(tokens.motion + torch.eye(6, 4).long()) % 16)
        assert bool((made.decode(other) - whole)[:, 5].any())  # frame 6's own tokens are the same
    with pytest.raises(ValueError, match="looks at 6 together"):
        made.frames(made.content(tokens.scene, tokens.object), tokens.motion[:, :2])


@pytest.mark.parametrize("config", [PLAIN, STRAIGHT])
def test_motion_tokens_depend_on_their_own_group_alone(config: object) -> None:
    made, seen = vqvae(config).eval(), clip()
    other = seen.frames.clone()
    other[:, 3] = torch.rand_like(other[:, 3])  # seen by the differences of frames 3 and 4
    with torch.no_grad():
        codes, changed = (
            made.coded(seen._replace(frames=x)).chosen_for.motion for x in (seen.frames, other)
        )
    change = (codes - changed).abs().amax(dim=(0, 2, 3, 4))
    assert change[[0, 1, 4, 5]].max() < 1e-6
    assert bool((change[2:4] > 1e-4).all())


@pytest.mark.parametrize("config", [PLAIN, STRAIGHT])
def test_motion_tokens_of_given_frames_are_those_of_the_pseudo_clip(config: object) -> None:
    made, seen = vqvae(config).eval(), clip()
    pseudo = pseudo_clip(torch.cat([seen.before[:, None], seen.frames[:, :2]], dim=1), 6)
    with torch.no_grad():
        true, told = (made.coded(each) for each in (seen, pseudo))
    assert torch.equal(true.tokens.motion[:, :2], told.tokens.motion[:, :2])
    given, later = (true.chosen_for.motion - told.chosen_for.motion).split((2, 4), dim=1)
    assert given.abs().max() < 1e-6
    assert later.abs().max() > 1e-5


@pytest.mark.parametrize("more", [None, 0.0, 1e6])
def test_the_merge_stays_between_scene_and_object(more: float | None) -> None:
    merge = Merge(PLAIN)
    for conv in (*merge.logits, merge.last):
        torch.nn.init.normal_(conv.weight, std=2)
    scene, own, motion = (
        torch.randn(2, 8, 4, 4),
        torch.randn(2, 8, 2, 2),
        torch.randn(2, 3, 8, 2, 2),
    )
    content = merge.content(scene, own)
    added = None if more is None else torch.full((2, 3, 8, 4, 4), more)
    found = merge(content, motion, added)
    low = torch.minimum(content.scene, content.object)[:, None]
    high = torch.maximum(content.scene, content.object)[:, None]
    assert bool((low - 1e-5 <= found).all())
    assert bool((found <= high + 1e-5).all())
    weight = merge.weight(content, motion, added)
    torch.testing.assert_close(
        found, weight * scene[:, None] + (1 - weight) * content.object[:, None]
    )
    if more:
        assert torch.equal(found, scene[:, None].expand_as(found))
    else:
        assert weight.std() > 0.1  # motion does steer


def test_the_merge_writes_one_layer_as_a_sum() -> None:
    merge = Merge(PLAIN)
    scene, own, motion = (torch.randn(1, 8, 4, 4) for _ in range(3))
    content = merge.content(scene, own)
    joint = torch.cat([merge.of_motion[0].weight, merge.of_content[0].weight], dim=1)
    wanted = torch.nn.functional.conv2d(
        torch.cat([motion, scene, own], dim=1), joint, merge.of_content[0].bias
    )
    torch.testing.assert_close(merge.of_motion[0](motion) + content.hidden[0], wanted)


def test_attention_over_time_keeps_groups_and_places_apart_and_drops_by_the_generator() -> None:
    layer = TimeAttention(8, 2, 3, 0.5)
    x = torch.randn(6, 8, 2, 2)
    whole = layer(x)
    x[4, :, 1, 0] += 1
    change = (layer(x) - whole).abs().amax(dim=1) > 1e-6
    assert change.nonzero().tolist() == [[t, 1, 0] for t in (3, 4, 5)]
    drops = [layer(x, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(drops[0], drops[1])
    assert not torch.equal(drops[0], drops[2])


def test_masked_frames_reach_the_encoders_only_when_asked_for() -> None:
    made, seen, got = vqvae(), clip(), []
    hooks = [
        encoder.register_forward_pre_hook(lambda _, given: got.append(given[0]))
        for encoder in (made.scene_encoder, made.object_encoder, made.motion_encoder)
    ]
    made(seen)
    made(seen, is_masked=True)
    for hook in hooks:
        hook.remove()
    parts = parted(seen, PLAIN)
    wanted = [seen.frames, seen.frames, parts.motion, parts.scene, parts.object, parts.motion]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(got, wanted, strict=True))


@pytest.mark.parametrize("config", [PLAIN, dataclasses.replace(PLAIN, stacking="mean"), STRAIGHT])
def test_all_parameters_learn(config: object) -> None:
    made, seen = vqvae(config), clip()
    for weight in made.parameters():
        if not bool(weight.any()) and weight.ndim > 1:  # what begins silent
            torch.nn.init.normal_(weight, std=0.2)
    frames, coded = made(seen)
    (frames - seen.frames).square().mean().add(coded.commitment.sum()).backward()
    for name, weight in made.named_parameters():
        if name.startswith("straight."):
            assert not weight.requires_grad
            continue
        assert weight.grad is not None, name
        # a norm takes the bias before it away again
        assert bool(weight.grad.any()) or name.endswith(".0.bias"), name


def test_without_norms_a_clip_comes_back_the_same_whether_it_is_learned_from_or_not() -> None:
    made, seen = vqvae(STRAIGHT), clip()
    with torch.no_grad():
        (learned, _), (shown, _) = made.train()(seen), made.eval()(seen)
    assert torch.equal(learned, shown)
    unit = Residual(4, 2, is_normed=False)
    x = torch.randn(1, 4, 3, 3)
    assert torch.equal(unit(x), x)


def test_each_group_of_tokens_reaches_the_frames() -> None:
    made, seen = vqvae(STRAIGHT).eval(), clip()
    with torch.no_grad():
        tokens = made.encode(seen.frames, seen.before)
        whole = made.frames(made.content(*tokens[:2]), tokens.motion)
        for name in ClipTokens._fields:
            other = tokens._replace(**{name: (getattr(tokens, name) + 1) % 16})
            assert not torch.equal(made.frames(made.content(*other[:2]), other.motion), whole)


def test_clips_and_tokens_of_another_config_are_refused() -> None:
    made, seen = vqvae(), clip()
    tokens = made.encode(seen.frames, seen.before)
    with pytest.raises(ValueError, match="tokens of"):
        made.decode(tokens._replace(scene=tokens.scene[:, 1:]))
    with pytest.raises(ValueError, match="frames and the one before"):
        made.encode(seen.frames[:, 1:], seen.before)
    with pytest.raises(ValueError, match="looks one frame ahead"):
        vqvae(dataclasses.replace(PLAIN, closed=False)).coded(Clip(seen.before, seen.frames))
