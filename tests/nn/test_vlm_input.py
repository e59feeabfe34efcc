"""What goes into a model: crops to a normalised batch, words to hashes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage import data

from operators.nn.vlm.clip_config import CLIP_MEAN, CLIP_STD
from operators.nn.vlm.errors import CheckpointError, ImageError
from operators.nn.vlm.loading import random_clip
from operators.nn.vlm.preprocess import preprocess
from operators.nn.vlm.tokens import HashTokenizer

TOWER = random_clip().image  # of 32 px


def tower(size_px: int) -> SimpleNamespace:
    return SimpleNamespace(size_px=size_px, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_one_colour_is_normalised_by_hand() -> None:
    crop = np.empty((50, 50, 3), np.uint8)
    crop[:] = (255, 0, 51)
    found = preprocess([crop], TOWER)
    assert found.shape == (1, 3, 32, 32)
    assert found.dtype == torch.float32
    for channel, value in enumerate((1.0, 0.0, 0.2)):
        expected = (value - CLIP_MEAN[channel]) / CLIP_STD[channel]
        assert found[0, channel].sub(expected).abs().max() < 1e-6


def test_a_crop_of_the_right_size_is_only_normalised() -> None:
    crop = noise(32, 32)
    found = preprocess([crop], tower(32))
    assert torch.equal(found[0].mul(255).round().byte(), torch.from_numpy(crop).permute(2, 0, 1))


@pytest.mark.parametrize("side", [8, 20, 100, 300, 512])
@pytest.mark.parametrize("size_px", [32, 224])
def test_resizing_is_that_of_pillow(side: int, size_px: int) -> None:
    crop = data.astronaut()[:side, :side]
    found = preprocess([crop], tower(size_px))[0].mul(255).permute(1, 2, 0).numpy()
    resized = Image.fromarray(crop).resize((size_px, size_px), Image.Resampling.BICUBIC)
    difference = np.abs(found - np.asarray(resized, np.float32))
    assert difference.max() <= 2.001  # levels: both round their weights, and then the sum
    assert difference.mean() < 0.05


@pytest.mark.parametrize(("height", "width"), [(60, 40), (40, 60), (41, 60)])
def test_the_middle_is_taken_and_not_stretched(height: int, width: int) -> None:
    crop = noise(height, width)
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    middle = crop[top : top + short, left : left + short]
    assert torch.equal(preprocess([crop], TOWER), preprocess([middle.copy()], TOWER))


def test_crops_of_many_sizes_do_not_touch_each_other() -> None:
    crops = [noise(30, 30, 1), noise(90, 70, 2), noise(32, 32, 3)]
    whole = preprocess(crops, TOWER)
    alone = torch.cat([preprocess([crop], TOWER) for crop in crops])
    assert torch.equal(whole, alone)
    assert preprocess([], TOWER).shape == (0, 3, 32, 32)


@pytest.mark.parametrize("side", [32, 50])
def test_views_into_a_frame_will_do_and_are_left_alone(side: int) -> None:
    frame = noise(200, 300)
    before = frame.copy()
    frame.setflags(write=False)
    crop = frame[20 : 20 + side, 40 : 40 + side]
    mirrored = frame[20 : 20 + side, 40 : 40 + side][:, ::-1]
    assert torch.equal(preprocess([crop], TOWER), preprocess([crop.copy()], TOWER))
    assert torch.equal(preprocess([mirrored], TOWER), preprocess([mirrored.copy()], TOWER))
    assert np.array_equal(frame, before)


@pytest.mark.parametrize(
    ("crop", "message"),
    [
        (np.zeros((0, 20, 3), np.uint8), r"crop 1 is empty, \(0, 20, 3\); \[H, W, 3\] uint8 RGB"),
        (np.zeros((20, 0, 3), np.uint8), "is empty"),
        (np.zeros((20, 20), np.uint8), r"is grey, \(20, 20\)"),
        (np.zeros((20, 20, 1), np.uint8), "is grey"),
        (np.zeros((20, 20, 3), np.uint16), r"is \(20, 20, 3\) uint16"),
        (np.zeros((20, 20), np.uint16), "is grey"),
        (np.zeros((20, 20, 3), np.float32), "float32"),
        (np.zeros((20, 20, 4), np.uint8), r"is \(20, 20, 4\) uint8"),
        (np.zeros((2, 20, 20, 3), np.uint8), r"is \(2, 20, 20, 3\)"),
        (np.zeros((20, 81, 3), np.uint8), "is a sliver of 20 x 81 px"),
        (np.zeros((1, 20000, 3), np.uint8), "has 1 x 20000 px"),
        (None, "is a NoneType, no array"),
        ([[0, 0, 0]], "is a list"),
    ],
)
def test_what_is_no_colour_image_is_named(crop: object, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        preprocess([noise(20, 20), crop], TOWER)  # type: ignore[list-item]


def test_slivers_begin_beyond_four_to_one_and_small_faces_pass() -> None:
    assert preprocess([noise(20, 80)], TOWER).shape == (1, 3, 32, 32)
    assert bool(torch.isfinite(preprocess([noise(8, 8), noise(1, 1)], TOWER)).all())


def test_errors_are_values_errors() -> None:
    assert issubclass(ImageError, ValueError)
    assert issubclass(CheckpointError, ValueError)


def test_words_keep_their_numbers() -> None:
    tokenizer = HashTokenizer(512)
    assert (tokenizer.begin, tokenizer.end) == (510, 511)
    expected = tokenizer.encode("real") + tokenizer.encode("face") + tokenizer.encode(".")
    assert tokenizer.encode("Real  face.") == expected
    assert len(set(expected)) == 3
    assert tokenizer.encode("real face .") == [465, 12, 294]  # the same in every process
    assert tokenizer.encode(" ") == []


@settings(max_examples=40)
@given(st.text(max_size=40), st.integers(3, 50_000))
def test_hashes_are_never_begin_or_end(text: str, vocabulary: int) -> None:
    tokenizer = HashTokenizer(vocabulary)
    assert all(0 <= token < vocabulary - 2 for token in tokenizer.encode(text))
    assert tokenizer.begin < tokenizer.end == vocabulary - 1


def test_a_vocabulary_without_words_is_refused() -> None:
    with pytest.raises(ValueError, match="vocabulary of 2"):
        HashTokenizer(2)
