"""The two towers of the compact model: shapes, padding, folding, and parity with BertModel."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch.nn import functional

from operators.nn.padding import same_padding
from operators.nn.vlm.efficientnet import (
    CHANNELS,
    ConvNorm,
    EfficientNetLite0,
    FeatureMaps,
)
from operators.nn.vlm.minilm import MiniLm, MiniLmConfig, WordPiece, from_bert_state

TINY = MiniLmConfig(
    vocabulary=50, width=24, layers=2, heads=3, inner=40, positions=40, context_length=30
)


@pytest.fixture
def backbone() -> EfficientNetLite0:
    """Real sizes, random weights, and norms that do something."""
    torch.manual_seed(1)
    net = EfficientNetLite0().eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.7, 1.3)
            module.bias.data.normal_(0, 0.1)
    return net


def test_maps_have_the_sizes_of_the_paper(backbone: EfficientNetLite0) -> None:
    with torch.inference_mode():
        maps = backbone(torch.rand(1, 3, 224, 224))
    assert [tuple(part.shape) for part in maps] == [
        (1, 40, 28, 28),
        (1, 112, 14, 14),
        (1, 1280, 7, 7),
    ]
    assert tuple(part.shape[1] for part in maps) == CHANNELS
    assert maps.stride32.min() >= 0
    assert maps.stride32.max() <= 6


def test_it_has_as_many_parameters_as_published(backbone: EfficientNetLite0) -> None:
    # EfficientNet-lite0 has 4,652,008 parameters, 1,281,000 of them in the classifier.
    assert sum(weight.numel() for weight in backbone.parameters()) == 4_652_008 - 1_281_000


def test_odd_sizes_round_up(backbone: EfficientNetLite0) -> None:
    with torch.inference_mode():
        maps = backbone(torch.rand(2, 3, 65, 50))
    assert [tuple(part.shape[2:]) for part in maps] == [(9, 7), (5, 4), (3, 2)]


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [7, 8, 9, 14])
def test_same_padding_puts_each_window_where_the_formula_says(
    size: int, kernel: int, stride: int
) -> None:
    """TensorFlow's SAME, written out: output i is the sum over x[i s - before + k]."""
    rng = np.random.default_rng(size * 10 + kernel)
    x, w = rng.normal(size=(size, size)), rng.normal(size=(kernel, kernel))
    out = -(-size // stride)
    missing = max((out - 1) * stride + kernel - size, 0)
    before = missing // 2
    expected = np.zeros((out, out))
    for i, j, a, b in np.ndindex(out, out, kernel, kernel):
        row, column = i * stride - before + a, j * stride - before + b
        if 0 <= row < size and 0 <= column < size:
            expected[i, j] += x[row, column] * w[a, b]
    assert same_padding(size, kernel, stride) == (before, missing - before)
    layer = ConvNorm((1, 1), kernel, stride).linear()
    layer.norm = torch.nn.Identity()
    layer.conv.weight.data = torch.tensor(w, dtype=torch.float32)[None, None]
    got = layer(torch.tensor(x, dtype=torch.float32)[None, None])[0, 0]
    np.testing.assert_allclose(got.detach().numpy(), expected, atol=1e-5)


def test_same_padding_is_lopsided_where_two_divide_the_size() -> None:
    assert same_padding(224, 3, 2) == (0, 1)
    assert same_padding(56, 5, 2) == (1, 2)
    assert same_padding(225, 3, 2) == (1, 1)


def test_folding_the_norms_changes_nothing(backbone: EfficientNetLite0) -> None:
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        before = backbone(images)
    names = {type(module).__name__ for module in backbone.fold().modules()}
    assert "BatchNorm2d" not in names
    with torch.inference_mode():
        after = backbone(images)
    for one, other in zip(before, after, strict=True):
        scale = one.abs().max()
        assert scale > 0.1
        assert (one - other).abs().max() <= 1e-4 * scale


def test_folding_twice_is_folding_once(backbone: EfficientNetLite0) -> None:
    first = {name: value.clone() for name, value in backbone.fold().state_dict().items()}
    second = backbone.fold().state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_images_of_a_batch_do_not_see_each_other(backbone: EfficientNetLite0) -> None:
    images = torch.rand(3, 3, 64, 64)
    with torch.inference_mode():
        together: FeatureMaps = backbone(images)
        alone: FeatureMaps = backbone(images[1:2])
    torch.testing.assert_close(together.stride32[1:2], alone.stride32, atol=1e-4, rtol=1e-4)


@pytest.fixture
def bert():
    from transformers import BertConfig, BertModel

    torch.manual_seed(2)
    config = BertConfig(
        vocab_size=TINY.vocabulary,
        hidden_size=TINY.width,
        num_hidden_layers=TINY.layers,
        num_attention_heads=TINY.heads,
        intermediate_size=TINY.inner,
        max_position_embeddings=TINY.positions,
        initializer_range=0.5,  # large enough for attention to matter
    )
    model = BertModel(config).eval()
    for weight in model.parameters():
        if weight.ndim == 1:
            torch.nn.init.normal_(weight, mean=0.5, std=0.3)
    return model


@pytest.fixture
def ours(bert) -> MiniLm:
    tower = MiniLm(TINY).eval()
    tower.load_state_dict(from_bert_state(bert.state_dict()))
    return tower


def test_sentences_are_those_of_bertmodel_with_mean_pooling(bert, ours: MiniLm) -> None:
    tokens = torch.randint(0, 50, (4, 12))
    end = torch.tensor([11, 0, 5, 8])
    mask = (torch.arange(12) <= end[:, None]).long()
    with torch.inference_mode():
        states = bert(input_ids=tokens, attention_mask=mask).last_hidden_state
        mean = (states * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
        got = ours(ours.embed(tokens), end)
    assert got.std() > 0.1
    assert (got - mean).abs().max() <= 1e-5


def test_nothing_behind_the_end_token_has_influence(ours: MiniLm) -> None:
    words = torch.randn(2, 10, TINY.width)
    end = torch.tensor([4, 7])
    changed = words.clone()
    changed[0, 5:] = 1e3
    changed[1, 8:] = torch.nan
    with torch.inference_mode():
        assert torch.equal(ours(words, end), ours(changed, end))
        assert torch.equal(ours(words[:, :8], end), ours(words, end))
        before = words.clone()
        before[0, 4] += torch.randn(TINY.width)
        assert not torch.allclose(ours(words, end)[0], ours(before, end)[0], atol=1e-3)


def test_words_in_another_order_are_another_sentence(ours: MiniLm) -> None:
    words = torch.randn(1, 6, TINY.width)
    with torch.inference_mode():
        assert not torch.allclose(
            ours(words, torch.tensor([5])), ours(words.flip(1), torch.tensor([5])), atol=1e-3
        )


def test_learned_vectors_get_a_gradient_and_padding_none(ours: MiniLm) -> None:
    words = torch.randn(1, 8, TINY.width, requires_grad=True)
    functional.normalize(ours(words, torch.tensor([5])), dim=1)[0, 0].backward()
    assert words.grad is not None
    assert (words.grad[0, :6].abs().sum(dim=1) > 0).all()
    assert (words.grad[0, 6:] == 0).all()


@pytest.mark.parametrize(
    ("length", "end", "said"),
    [(31, 5, "31 tokens came, 30"), (6, 6, "end tokens at"), (6, -1, "end tokens at")],
)
def test_texts_that_do_not_fit_are_refused(ours: MiniLm, length: int, end: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ours(torch.zeros(1, length, TINY.width), torch.tensor([end]))


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="25 is no multiple of 3 heads"):
        MiniLm(MiniLmConfig(width=25, heads=3))


def test_the_default_sizes_are_those_of_the_released_model() -> None:
    with torch.device("meta"):
        tower = MiniLm()
    # 22,713,216 with the pooler (384 x 384 + 384) and the second token type, which are left out.
    count = sum(weight.numel() for weight in tower.parameters())
    assert count == 22_713_216 - (384 * 384 + 384) - 384


def word_piece_json() -> str:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "mask", "##ed", "face"]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_padding(length=16)
    tokenizer.enable_truncation(2)
    return str(tokenizer.to_str())


def test_texts_become_pieces_without_begin_end_padding_or_truncation() -> None:
    tokenizer = WordPiece.from_json(word_piece_json())
    assert (tokenizer.begin, tokenizer.end) == (2, 3)
    assert tokenizer.encode("A masked face, a MASK") == [4, 5, 6, 7, 1, 4, 5]
    assert tokenizer.encode("") == []


@pytest.mark.parametrize("text", ["", "{}", word_piece_json().replace("[CLS]", "[START]")])
def test_what_is_no_tokenizer_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no WordPiece tokenizer"):
        WordPiece.from_json(text)


def test_random_weights_keep_the_energy_through_all_blocks() -> None:
    torch.manual_seed(3)
    net = EfficientNetLite0().eval()
    with torch.inference_mode():
        maps = net(torch.randn(2, 3, 64, 64))
    for part in maps:
        assert 0.05 < float(part.std()) < math.inf
