"""CLIP's towers: parity with transformers, the value path, what has no influence, frozen."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.nn import functional
from transformers import CLIPConfig, CLIPModel

from operators.nn.vlm.clip import Block, Clip, TextTower, VisionTower, quick_gelu, resize_positions
from operators.nn.vlm.clip_config import PRESETS, TextConfig, VisionConfig, preset
from operators.nn.vlm.clip_weights import WeightFile, fit_weights
from operators.nn.vlm.errors import CheckpointError
from operators.nn.vlm.loading import random_clip

TINY = preset("clip-tiny-test")


@pytest.fixture(scope="module", params=["quick_gelu", "gelu"])
def pair(request) -> tuple[CLIPModel, Clip]:
    """A random model of transformers, its norms and biases moved too, and ours of its weights."""
    torch.manual_seed(3)
    act = {"hidden_act": request.param}
    theirs = CLIPModel(
        CLIPConfig(
            text_config=dict(
                vocab_size=99,
                hidden_size=40,
                intermediate_size=96,
                num_hidden_layers=3,
                num_attention_heads=5,
                max_position_embeddings=16,
                bos_token_id=97,
                eos_token_id=98,
                **act,
            ),
            vision_config=dict(
                hidden_size=48,
                intermediate_size=100,
                num_hidden_layers=3,
                num_attention_heads=3,
                image_size=32,
                patch_size=8,
                **act,
            ),
            projection_dim=24,
        )
    ).eval()
    with torch.no_grad():
        for weight in theirs.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    config = dataclasses.replace(
        TINY,
        vision=VisionConfig(32, 8, 3, 48, 3, 100, request.param),
        text=TextConfig(99, 16, 3, 40, 5, 96, request.param),
        dim=24,
    )
    ours = Clip(config)
    file = WeightFile("random", dict(theirs.state_dict()), "")
    ours.load_state_dict(fit_weights(file, ours, ("",)))
    return theirs, ours.eval()


@pytest.fixture(scope="module")
def tiny() -> Clip:
    clip = Clip(TINY)
    clip.draw(seed=5)
    return clip.requires_grad_(False).eval()


def images(count: int, size_px: int = 32) -> torch.Tensor:
    return torch.randn(count, 3, size_px, size_px, generator=torch.Generator().manual_seed(8))


def sentences(width: int, count: int = 4, length: int = 12) -> torch.Tensor:
    return torch.randn(count, length, width, generator=torch.Generator().manual_seed(9))


@torch.inference_mode()
def test_pooled_features_are_those_of_transformers(pair) -> None:
    theirs, ours = pair
    batch = images(5)
    expected = theirs.visual_projection(theirs.vision_model(batch).pooler_output)
    torch.testing.assert_close(ours.vision(batch).pooled, expected, rtol=0, atol=1e-5)
    assert expected.std() > 0.05  # there is something to compare


@torch.inference_mode()
def test_plain_patches_are_those_of_transformers(pair) -> None:
    theirs, ours = pair
    batch = images(5)
    hidden = theirs.vision_model(batch).last_hidden_state[:, 1:]
    expected = theirs.visual_projection(theirs.vision_model.post_layernorm(hidden))
    torch.testing.assert_close(ours.vision(batch).patches, expected, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_value_path_is_the_formula_over_weights_of_transformers(pair) -> None:
    theirs, ours = pair
    batch = images(3)
    vision, last = theirs.vision_model, theirs.vision_model.encoder.layers[-1]
    x = vision(batch, output_hidden_states=True).hidden_states[-2]
    x = x + last.self_attn.out_proj(last.self_attn.v_proj(last.layer_norm1(x)))
    x = x + last.mlp(last.layer_norm2(x))
    expected = theirs.visual_projection(vision.post_layernorm(x))[:, 1:]
    found = ours.vision(batch)
    torch.testing.assert_close(found.patches_value, expected, rtol=0, atol=1e-5)
    assert not torch.allclose(found.patches_value, found.patches, atol=0.01)


@torch.inference_mode()
def test_text_through_embeddings_is_that_of_transformers(pair) -> None:
    theirs, ours = pair
    tokens = torch.randint(0, 97, (6, 16), generator=torch.Generator().manual_seed(2))
    tokens[:, 0] = 97
    ends = torch.tensor([1, 5, 9, 12, 14, 15])
    tokens[torch.arange(6), ends] = 98
    expected = theirs.text_projection(theirs.text_model(input_ids=tokens).pooler_output)
    found = ours.text(ours.text.embed(tokens), ends)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert expected.std() > 0.05


@torch.inference_mode()
def test_the_other_activation_would_be_seen(pair) -> None:
    _, ours = pair
    found = ours.vision(images(2)).pooled
    for block in ours.vision.blocks:
        block.activation = "gelu" if block.activation == "quick_gelu" else "quick_gelu"
    other = ours.vision(images(2)).pooled
    for block in ours.vision.blocks:
        block.activation = ours.config.vision.activation
    assert (found - other).abs().max() > 1e-3


def test_quick_gelu_by_hand() -> None:
    x = torch.tensor([-2.0, 0.0, 1.0])
    expected = torch.tensor([-0.0643414, 0.0, 0.8457958])  # x / (1 + exp(-1.702 x))
    torch.testing.assert_close(quick_gelu(x), expected, rtol=0, atol=1e-6)


@torch.inference_mode()
def test_value_path_looks_at_one_patch_only(tiny: Clip) -> None:
    last = tiny.vision.blocks[-1]
    assert isinstance(last, Block)
    x = torch.randn(2, 7, 64, generator=torch.Generator().manual_seed(1))
    whole = last.value_path(x)
    alone = torch.cat([last.value_path(x[:, place : place + 1]) for place in range(7)], dim=1)
    torch.testing.assert_close(whole, alone, rtol=0, atol=1e-6)
    changed = x.clone()
    changed[:, 3, ::2] += 1
    moved = (last.value_path(changed) - whole).abs().amax(dim=(0, 2)) > 1e-6
    assert moved.tolist() == [place == 3 for place in range(7)]


@torch.inference_mode()
def test_shapes_are_those_of_the_interface(tiny: Clip) -> None:
    found = tiny.vision(images(3))
    assert [tuple(part.shape) for part in found] == [(3, 32), (3, 16, 32), (3, 16, 32)]
    assert {part.dtype for part in found} == {torch.float32}
    assert tuple(tiny.vision(images(0)).patches.shape) == (0, 16, 32)
    assert tiny.text.embed(torch.zeros(2, 5, dtype=torch.int64)).shape == (2, 5, 64)


@torch.inference_mode()
def test_patches_stand_in_row_order(tiny: Clip) -> None:
    batch = images(1)
    touched = batch.clone()
    touched[:, :, 8:16, 24:32] = 0  # second row, last of four columns
    tower = tiny.vision
    tokens, others = tower._tokens(batch, None), tower._tokens(touched, None)
    moved = (tokens - others).abs().amax(dim=2)[0] > 1e-6
    assert moved.nonzero().flatten().tolist() == [1 + 7]  # the class token is in front


@torch.inference_mode()
@pytest.mark.parametrize("poison", [0.0, 1e6, float("nan"), float("inf")])
def test_nothing_behind_the_end_token_counts(tiny: Clip, poison: float) -> None:
    x, ends = sentences(64), torch.tensor([3, 11, 7, 0])
    expected = tiny.text(x, ends)
    for row, end in enumerate(ends.tolist()):
        x[row, end + 1 :] = poison
    assert torch.equal(tiny.text(x, ends), expected)
    assert bool(torch.isfinite(expected).all())


@torch.inference_mode()
def test_everything_up_to_the_end_token_counts(tiny: Clip) -> None:
    x, ends = sentences(64, count=1), torch.tensor([6])
    expected = tiny.text(x, ends)
    for place in range(7):
        changed = x.clone()
        changed[0, place, ::2] += 0.5  # not all numbers: the norm takes a common shift away
        assert (tiny.text(changed, ends) - expected).abs().max() > 1e-4, place


def test_gradients_reach_embeddings_of_a_frozen_tower(tiny: Clip) -> None:
    x = sentences(64, count=2).requires_grad_()
    tiny.text(x, torch.tensor([4, 6])).square().sum().backward()
    assert x.grad is not None
    seen = x.grad.abs().amax(dim=2) > 0
    assert seen.sum(dim=1).tolist() == [5, 7]
    assert all(weight.grad is None for weight in tiny.parameters())


@torch.inference_mode()
def test_a_frozen_tower_gives_the_same_bits_again(tiny: Clip) -> None:
    before = {name: weight.clone() for name, weight in tiny.state_dict().items()}
    first = tiny.vision(images(4))
    tiny.vision(images(2) * 100)
    again = tiny.vision(images(4))
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    assert all(torch.equal(weight, before[name]) for name, weight in tiny.state_dict().items())


@torch.inference_mode()
def test_features_do_not_depend_on_the_rest_of_the_batch(tiny: Clip) -> None:
    batch = images(9)
    whole = tiny.vision(batch)
    order = torch.tensor([4, 0, 8, 2, 6, 1, 3, 7, 5])
    mixed = tiny.vision(batch[order])
    for part, shuffled in zip(whole, mixed, strict=True):
        torch.testing.assert_close(part[order], shuffled, rtol=0, atol=1e-6)
    for place in range(9):
        for part, alone in zip(whole, tiny.vision(batch[place : place + 1]), strict=True):
            torch.testing.assert_close(part[place], alone[0], rtol=0, atol=1e-6)
    x, ends = sentences(64), torch.tensor([3, 11, 7, 5])
    texts = tiny.text(x, ends)
    for place in range(4):
        alone = tiny.text(x[place : place + 1], ends[place : place + 1])
        torch.testing.assert_close(texts[place], alone[0], rtol=0, atol=1e-6)


@torch.inference_mode()
def test_keeping_all_patches_changes_no_bit(tiny: Clip) -> None:
    batch = images(2)
    kept = tiny.vision(batch, torch.arange(16).expand(2, -1))
    assert all(torch.equal(a, b) for a, b in zip(kept, tiny.vision(batch), strict=True))


@torch.inference_mode()
def test_removed_patches_have_no_influence(tiny: Clip) -> None:
    batch, keep = images(2), torch.tensor([[0, 1, 6], [2, 3, 15]])
    kept = tiny.vision(batch, keep)
    assert tuple(kept.patches.shape) == (2, 3, 32)
    painted = torch.zeros(2, 3, 32, 32)
    for row, patches in enumerate(keep.tolist()):
        for patch in patches:
            top, left = patch // 4 * 8, patch % 4 * 8
            cut = (row, slice(None), slice(top, top + 8), slice(left, left + 8))
            painted[cut] = batch[cut]
    same = tiny.vision(painted, keep)
    assert all(torch.equal(a, b) for a, b in zip(kept, same, strict=True))
    assert not torch.allclose(kept.pooled, tiny.vision(batch).pooled, atol=1e-3)


def test_positions_stay_on_the_same_grid_and_bend_on_another() -> None:
    positions = torch.randn(1 + 49, 6, generator=torch.Generator().manual_seed(4))
    assert torch.equal(resize_positions(positions, 7), positions)
    for grid in (3, 14):
        bent = resize_positions(positions, grid)
        assert tuple(bent.shape) == (1 + grid**2, 6)
        assert torch.equal(bent[0], positions[0])
        square = positions[1:].T.reshape(1, 6, 7, 7)
        expected = functional.interpolate(square, (grid, grid), mode="bilinear")
        torch.testing.assert_close(bent[1:], expected[0].permute(1, 2, 0).reshape(-1, 6))


def test_positions_in_between_are_the_mean_of_neighbours() -> None:
    rows = torch.tensor([[9.0], [0.0], [1.0], [2.0], [3.0]])  # class, then 2 x 2
    bent = resize_positions(rows, 3)
    expected = [9.0, 0.0, 0.5, 1.0, 1.0, 1.5, 2.0, 2.0, 2.5, 3.0]
    torch.testing.assert_close(bent.flatten(), torch.tensor(expected), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [  # of the released models, logit scale included
        ("clip-vit-b32", 151_277_313),
        ("clip-vit-b16", 149_620_737),
        ("clip-vit-l14-336", 427_944_193),
    ],
)
def test_presets_have_the_published_sizes(name: str, parameters: int) -> None:
    with torch.device("meta"):
        clip = Clip(preset(name))
    assert sum(weight.numel() for weight in clip.parameters()) == parameters
    config = clip.config
    width, layers = config.vision.width, config.vision.layers
    tokens = config.vision.grid**2 + 1
    macs = layers * (12 * width**2 * tokens + 2 * tokens**2 * width) / 1e9
    told = {"clip-vit-b32": 4.3, "clip-vit-b16": 17.4, "clip-vit-l14-336": 190.6}[name]
    assert macs == pytest.approx(told, abs=0.1)  # specification, section 1.1


def test_random_models_are_told_apart_and_made_again() -> None:
    one, same, other = random_clip(seed=1), random_clip(seed=1), random_clip(seed=2)
    assert one.backbone_sha == same.backbone_sha != other.backbone_sha
    assert len(one.backbone_sha) == 64
    batch = images(1)
    assert torch.equal(one.image(batch).pooled, same.image(batch).pooled)
    assert one.dim == 32
    assert isinstance(one.image, VisionTower)
    assert isinstance(one.text, TextTower)
    assert not any(weight.requires_grad for weight in one.image.parameters())


def test_presets_take_either_activation_and_no_other_name() -> None:
    assert preset("clip-vit-b16", "gelu").text.activation == "gelu"
    assert preset("clip-vit-b16").vision.activation == "quick_gelu"
    with pytest.raises(CheckpointError, match=r"no preset 'clip-rn50'.*clip-vit-b32"):
        preset("clip-rn50")
    assert len(PRESETS) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activation": "relu"}, "'relu' is unknown; known are quick_gelu, gelu"),
        ({"size_px": 30}, "30 px cannot be cut into patches of 8 px; 24 or 32 px would do"),
        ({"heads": 3}, "width 64 is no multiple of 3 heads"),
        ({"layers": 0}, "layers is 0"),
        ({"width": 10**9}, "width is 1000000000; 1 to 8192"),
        ({"norm_epsilon": 0.0}, "norm_epsilon is 0.0"),
    ],
)
def test_sizes_that_cannot_be_are_refused(change: dict, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        dataclasses.replace(TINY.vision, **change)


@pytest.mark.parametrize("shape", [(1, 3, 40, 32), (3, 32, 32), (1, 1, 32, 32)])
def test_images_of_another_shape_are_refused(tiny: Clip, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\('B', 3, 32, 32\) are needed"):
        tiny.vision(torch.zeros(shape))


def test_patches_that_do_not_exist_are_refused(tiny: Clip) -> None:
    with pytest.raises(ValueError, match="patches 0 to 16; there are 16"):
        tiny.vision(images(1), torch.tensor([[0, 16]]))
    with pytest.raises(ValueError, match=r"\(2, 1\) came for 1 images"):
        tiny.vision(images(1), torch.tensor([[0], [1]]))


@pytest.mark.parametrize(
    ("shape", "ends", "message"),
    [
        ((1, 78, 64), [3], "78 tokens came, 77 are allowed"),
        ((1, 5, 60), [3], "'L', 64"),
        ((2, 5, 64), [3], "came for 2 texts"),
        ((2, 5, 64), [3, 5], r"\[3, 5\] in texts of 5 tokens"),
        ((2, 5, 64), [-1, 2], r"\[-1, 2\] in texts"),
    ],
)
def test_texts_that_cannot_be_are_refused(
    tiny: Clip, shape: tuple[int, ...], ends: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        tiny.text(torch.zeros(shape), torch.tensor(ends))


def test_tokens_beyond_the_vocabulary_are_refused(tiny: Clip) -> None:
    with pytest.raises(ValueError, match="tokens -1 to 512; there are 512"):
        tiny.text.embed(torch.tensor([[-1, 512]]))
