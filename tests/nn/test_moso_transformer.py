"""MOSO-Transformer: published sizes, what depends on what, and what is kept between steps."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from operators.nn.blocks.attention import Attention
from operators.nn.moso.config import COMPACT, PAPER, PUBLISHED_SYSTEMS, TransformerConfig
from operators.nn.moso.transformer import MotionLayer, Transformer
from tests.nn.moso_transformers import LAYOUT, OURS, PUBLISHED, clips, transformer

BOTH = pytest.mark.parametrize("config", [PUBLISHED, OURS], ids=["published", "ours"])
SEVERAL = (1, 2, 3, 4)


def weights(config: TransformerConfig) -> int:
    with torch.device("meta"):
        return sum(weight.numel() for weight in Transformer(config).parameters())


@pytest.mark.slow
def test_the_published_transformer_has_its_shapes_and_265_million_parameters() -> None:
    config = PAPER.transformer
    assert weights(config) == pytest.approx(265e6, rel=0.002)
    with torch.device("meta"):
        net = Transformer(config)
        scene, own = torch.zeros(1, 1024).long(), torch.zeros(1, 256).long()
        content = net.content(scene, own)
        assert content.guidance.shape == (1, 16, 1024)
        shapes = [logits.shape for logits in net.content_logits(content)]
        assert shapes == [(1, 1024, 16406), (1, 256, 16406)]
        state = net.begin_motion(content)
        motion = net.continue_motion(state, torch.zeros(1, 16, 64).long())
        assert motion.shape == (1, 16, 64, 16406)


def test_published_sizes_differ_by_data() -> None:
    def depths(name: str) -> tuple[int, int, float]:
        system = PUBLISHED_SYSTEMS[name]
        own = system.transformer
        return own.content_depth, own.motion_depth, system.temperature

    assert depths("kth-64") == (8, 16, 0)
    assert depths("face-256") == (8, 8, 4.5)
    assert depths("bair-64") == (16, 8, 3)
    assert PAPER.steps == 16
    assert {system.transformer.embed_width for system in PUBLISHED_SYSTEMS.values()} == {758}


def test_the_compact_transformer_is_small() -> None:
    assert weights(COMPACT.transformer) <= 2.5e6
    assert COMPACT.steps == 8


def content_change(config: TransformerConfig, where: str) -> torch.Tensor:
    """By how much each place of scene, object and guidance changes, [16 + 4 + 5]."""
    net, tokens = transformer(config), clips(1)
    before = torch.cat(list(net.content(tokens.scene, tokens.object)), dim=1)
    part = tokens.scene if where == "scene" else tokens.object
    part[0, 3] = (part[0, 3] + 1) % LAYOUT.codes
    after = torch.cat(list(net.content(tokens.scene, tokens.object)), dim=1)
    return (after - before).abs().amax(dim=(0, 2))


@BOTH
@pytest.mark.parametrize("where", ["scene", "object"])
def test_content_sees_all_of_itself(config: TransformerConfig, where: str) -> None:
    assert bool((content_change(config, where) > 1e-5).all())


@pytest.mark.parametrize("silent", ["temporal", "spatial"])
def test_a_motion_layer_mixes_within_frames_and_over_frames_at_one_index(silent: str) -> None:
    layer = MotionLayer(8, 2, 2.0).requires_grad_(False)
    for weight in getattr(layer, silent).out.parameters():
        weight.zero_()
    x = torch.randn(2, 3, 5, 8)
    before, kept = layer.extend(x, None)
    assert kept.k.shape == (2 * 5, 2, 3, 4)
    x[0, 1, 2, 0] += 1
    change = (layer.extend(x, None)[0] - before).abs().amax(dim=-1) > 0
    wanted = torch.zeros(2, 3, 5, dtype=torch.bool)
    if silent == "temporal":
        wanted[0, 1] = True
    else:
        wanted[0, :, 2] = True
    assert torch.equal(change, wanted)


def motion_change(net: Transformer, given: int, frame: int) -> torch.Tensor:
    """By how much the logits of each frame behind the given ones change, [T - given]."""
    tokens = clips(1)
    content, motion = net.content(tokens.scene, tokens.object), tokens.motion

    def logits(own: torch.Tensor) -> torch.Tensor:
        state = net.begin_motion(content, own[:, :given] if given else None)
        return net.continue_motion(state, own[:, given:])

    other = motion.clone()
    other[0, frame, 2] = (other[0, frame, 2] + 1) % LAYOUT.codes
    return (logits(other) - logits(motion)).abs().amax(dim=(0, 2, 3))


@BOTH
@pytest.mark.parametrize(("given", "frame"), [(0, 0), (0, 4), (2, 0), (2, 1), (2, 4), (2, 2)])
def test_motion_of_every_frame_behind_the_given_ones_sees_every_frame(
    config: TransformerConfig, given: int, frame: int
) -> None:
    change = motion_change(transformer(config), given, frame)
    assert len(change) == LAYOUT.frames - given
    assert bool((change > 1e-6).all())


@BOTH
def test_guidance_and_ground_reach_motion(config: TransformerConfig) -> None:
    net, tokens = transformer(config), clips(1)
    content = net.content(tokens.scene, tokens.object)

    def moved(**changes: torch.Tensor) -> torch.Tensor:
        state = net.begin_motion(content._replace(**changes))
        return net.continue_motion(state, tokens.motion)

    whole, guidance = moved(), content.guidance.clone()
    guidance[:, 3, 0] += 1
    assert (moved(guidance=guidance) - whole).abs().amax(dim=(0, 2, 3)).min() > 1e-6
    scene = content.scene.clone()
    scene[:, 5, 0] += 1
    reached = bool((moved(scene=scene) - whole).abs().max() > 1e-6)
    assert reached == config.grounded


def test_ground_is_what_lies_at_the_same_place() -> None:
    net, tokens = transformer(), clips(1)
    content = net.content(tokens.scene, tokens.object)
    base = net.begin_motion(content).base
    scene, own = content.scene.clone(), content.object.clone()
    scene[:, 6] += 1  # row 1, column 2 of 4x4: above right of 2x2
    own[:, 2] += 1  # below left
    other = net.begin_motion(content._replace(scene=scene, object=own)).base
    change = (other - base).abs().amax(dim=(0, 3)) > 1e-6
    assert change.tolist() == [[False, False, True, True, False]] * LAYOUT.frames


def masked_layer(layer: MotionLayer, x: torch.Tensor, known: int) -> torch.Tensor:
    """A layer over all frames at once, in which given frames see given ones alone."""
    frames, places = x.shape[1:3]
    mask = torch.ones(frames, frames, dtype=torch.bool)
    mask[:known, known:] = False
    x = torch.stack([own + layer.spatial(layer.norm1(own)) for own in x.unbind(1)], dim=1)
    columns = [x[:, :, i] for i in range(places)]
    x = torch.stack([own + layer.temporal(layer.norm2(own), mask) for own in columns], dim=2)
    return x + layer.mlp(layer.norm3(x))


@pytest.mark.parametrize("known", SEVERAL)
def test_given_frames_kept_are_given_frames_that_do_not_look_ahead(known: int) -> None:
    net, tokens = transformer(), clips()
    content = net.content(tokens.scene, tokens.object)
    state = net.begin_motion(content, tokens.motion[:, :known])
    assert state.past is not None
    assert state.given.shape[1] == 0
    kept = net.continue_motion(state, tokens.motion[:, known:])
    whole = net.begin_motion(content).base
    x = whole + torch.nn.functional.pad(net.tokens(tokens.motion, None), (0, 0, 1, 0))
    for layer in net.motion_layers:
        assert isinstance(layer, MotionLayer)
        x = masked_layer(layer, x, known)
    wanted = net.tokens.logits(net.motion_norm(x[:, known:, 1:]))
    torch.testing.assert_close(kept, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("known", SEVERAL)
def test_without_a_prefix_given_frames_are_seen_like_all_others(known: int) -> None:
    net, tokens = transformer(PUBLISHED), clips()
    content = net.content(tokens.scene, tokens.object)
    state = net.begin_motion(content, tokens.motion[:, :known])
    assert state.past is None
    part = net.continue_motion(state, tokens.motion[:, known:])
    whole = net.continue_motion(net.begin_motion(content), tokens.motion)
    torch.testing.assert_close(part, whole[:, known:], atol=1e-5, rtol=1e-5)


def test_a_tied_token_first_means_itself_and_what_looks_like_it() -> None:
    """Through untrained layers; entries lie anywhere, wide along some numbers and not others."""
    torch.manual_seed(4)
    net = Transformer(COMPACT.transformer).eval().requires_grad_(False)
    spread = torch.linspace(1, 0.03, 64)
    codebook = torch.randn(1024, 64) * spread + 3
    codebook[1] = codebook[0] + 0.2 * spread * torch.randn(64)
    net.start_from(codebook)
    rows = net.tokens.table.weight[:1024]
    torch.testing.assert_close(rows.square().mean(dim=1), torch.ones(1024))
    tokens = clips(1, COMPACT.transformer.layout)
    tokens.scene[0, ::2] = 0
    scene, own = net.content_logits(net.content(tokens.scene, tokens.object))
    for logits, part in ((scene, tokens.scene), (own, tokens.object)):
        assert (logits.argmax(-1) == part).float().mean() > 0.9
    best = scene[0, ::2].topk(2).indices.sort(dim=-1).values
    assert (best == torch.tensor([0, 1])).float().mean() > 0.9


def test_held_motion_first_goes_on_as_it_was() -> None:
    torch.manual_seed(4)
    net = Transformer(COMPACT.transformer).eval().requires_grad_(False)
    net.start_from(torch.randn(1024, 64))
    tokens = clips(1, COMPACT.transformer.layout)
    content, given = net.content(tokens.scene, tokens.object), tokens.motion[:, :5]
    hidden = torch.full_like(tokens.motion[:, 5:], net.vocabulary.mask)
    state = net.begin_motion(content, given)
    guess = net.continue_motion(state, hidden).argmax(-1)
    assert (guess == given[:, -1:]).float().mean() > 0.8
    shown = net.continue_motion(state, tokens.motion[:, 5:])
    plain = net.continue_motion(state._replace(held=None), tokens.motion[:, 5:])
    assert torch.equal(shown, plain)  # it is for what is hidden alone


def test_a_codebook_that_does_not_fit_is_refused() -> None:
    net = transformer()
    with pytest.raises(ValueError, match=r"codebook of \(11, 6\), not \(12, 6\)"):
        net.start_from(torch.randn(11, 6))
    with pytest.raises(ValueError, match="all entries"):
        net.start_from(torch.ones(12, 6))


def test_dropout_is_drawn_from_the_generator_alone() -> None:
    net, tokens = transformer(PUBLISHED, dropout=0.5), clips(1)

    def guidance(seed: int | None) -> torch.Tensor:
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        return net.content(tokens.scene, tokens.object, generator).guidance

    assert torch.equal(guidance(1), guidance(1))
    assert not torch.equal(guidance(1), guidance(2))
    assert torch.equal(guidance(None), guidance(None))
    x = net.tokens(tokens.scene, None)
    dropped = net.tokens(tokens.scene, torch.Generator().manual_seed(1))
    kept = dropped != 0
    assert 0.35 < kept.float().mean().item() < 0.65
    torch.testing.assert_close(dropped[kept], 2 * x[kept])


@BOTH
def test_one_batch_reaches_every_parameter(config: TransformerConfig) -> None:
    """The published form cut down, and ours: forward and backward."""
    net, tokens = transformer(config).requires_grad_(True), clips()
    content = net.content(tokens.scene, tokens.object)
    state = net.begin_motion(content, tokens.motion[:, :2])
    logits = [*net.content_logits(content), net.continue_motion(state, tokens.motion[:, 2:])]
    wanted = [tokens.scene, tokens.object, tokens.motion[:, 2:]]
    loss = sum(
        torch.nn.functional.cross_entropy(ours.flatten(0, -2), own.flatten())
        for ours, own in zip(logits, wanted, strict=True)
    )
    assert isinstance(loss, torch.Tensor)
    loss.backward()  # type: ignore[no-untyped-call]
    for name, weight in net.named_parameters():
        assert weight.grad is not None, name
        assert bool(weight.grad.any()), name


def test_first_weights_are_small_as_published_or_xaviers() -> None:
    published = Transformer(dataclasses.replace(PUBLISHED, first_std=0.02, embed_width=64))
    assert published.tokens.into.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert published.tokens.table.weight.std().item() == pytest.approx(0.02, rel=0.1)
    block = transformer(width=64).content_blocks[0].attention
    assert isinstance(block, Attention)
    assert block.qkv.weight.std().item() == pytest.approx((2 / (64 + 192)) ** 0.5, rel=0.05)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"width": 18}, "divide the width"),
        ({"heads": 3}, "divide the width"),
        ({"content_depth": 0}, "content_depth must be"),
        ({"dropout": 1.0}, "out of range"),
        ({"ratio": 0.0}, "out of range"),
        ({"places": "none"}, "places must be"),
        ({"layout": dataclasses.replace(LAYOUT, object_side=8)}, "no places in the table"),
        ({"layout": dataclasses.replace(LAYOUT, motion_side=3), "grounded": True}, "a place of"),
    ],
)
def test_sizes_that_cannot_be_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(PUBLISHED, **wrong)


def test_systems_whose_halves_do_not_fit_are_refused() -> None:
    other = dataclasses.replace(COMPACT.transformer, layout=LAYOUT)
    with pytest.raises(ValueError, match="tokens differ"):
        dataclasses.replace(COMPACT, transformer=other)
    wide = dataclasses.replace(COMPACT.transformer, embed_width=32)
    with pytest.raises(ValueError, match="as wide as the codebook"):
        dataclasses.replace(COMPACT, transformer=wide)
    with pytest.raises(ValueError, match="out of range"):
        dataclasses.replace(COMPACT, steps=0)
