"""The vocabulary, clips as one row of tokens, and where tokens are."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from operators.nn.blocks.embedding import place_table
from operators.nn.moso.config import PAPER
from operators.nn.moso.places import (
    LearnedContent,
    LearnedMotion,
    PublishedContent,
    PublishedMotion,
    grid_table,
)
from operators.nn.moso.tokens import ClipTokens, Vocabulary, parted, vocabulary
from tests.nn.moso_transformers import LAYOUT, clips


def test_the_published_vocabulary_is_codes_mask_five_rates_and_a_command_per_frame() -> None:
    words = vocabulary(PAPER.transformer.layout)
    assert words == Vocabulary(codes=16384, frames=16)
    assert words.mask == 16384
    assert list(words.fps) == [16385, 16386, 16387, 16388, 16389]
    assert list(words.guidance) == list(range(16390, 16406))
    assert words.size == 16406


def test_a_published_clip_is_2304_tokens() -> None:
    layout = PAPER.transformer.layout
    assert layout.tokens == 1024 + 256 + 1024 == 2304
    assert clips(1, layout).flat().shape == (1, 2304)


def test_a_clip_as_one_row_is_scene_object_and_motion_and_comes_back() -> None:
    tokens = clips()
    row = tokens.flat()
    assert torch.equal(row[:, :16], tokens.scene)
    assert torch.equal(row[:, 16:20], tokens.object)
    assert torch.equal(row[:, 20 + 4 * 3 : 20 + 4 * 4], tokens.motion[:, 3])
    back = parted(row.to(torch.int16), LAYOUT)
    assert all(torch.equal(a, b) for a, b in zip(back, tokens, strict=True))
    assert back.motion.dtype == torch.int64
    back.check(LAYOUT)


def test_tokens_of_another_layout_are_refused() -> None:
    tokens = clips()
    with pytest.raises(ValueError, match=r"tokens of \(2, 39\), not \(clips, 40\)"):
        parted(tokens.flat()[:, :-1], LAYOUT)
    with pytest.raises(ValueError, match=r"not \[\(2, 16\), \(2, 4\), \(2, 5, 4\)\]"):
        tokens._replace(motion=tokens.motion[:, :4]).check(LAYOUT)
    for wrong in (-1, LAYOUT.codes):
        with pytest.raises(ValueError, match=r"codes must be 0\.\.11"):
            ClipTokens(torch.full_like(tokens.scene, wrong), *tokens[1:]).check(LAYOUT)


def normed(table: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.layer_norm(table, table.shape[-1:])


def test_published_content_places_by_hand() -> None:
    """Objects, two to a row, are told the columns of scenes, four to a row."""
    index, column = normed(place_table(25, 16)), normed(place_table(4, 16))
    frame = normed(place_table(5, 16))
    columns = [0, 1, 2, 3] * 4 + [0, 1, 2, 3]
    wanted = index + torch.cat([column[columns], frame])
    torch.testing.assert_close(PublishedContent(LAYOUT, 16)(), wanted)


def test_published_motion_places_by_hand() -> None:
    index, column = normed(place_table(5, 16)), normed(place_table(2, 16))
    wanted = index.expand(5, 5, 16) + normed(place_table(5, 16))[:, None]
    wanted = wanted + torch.cat([torch.zeros(1, 16), column[[0, 1, 0, 1]]])
    torch.testing.assert_close(PublishedMotion(LAYOUT, 16)(), wanted)


def test_grids_of_any_side_agree_about_the_picture() -> None:
    fine, coarse = grid_table(4, 4, 16), grid_table(2, 4, 16)
    distance = torch.cdist(coarse, fine)
    nearest = distance.argsort(dim=1)[:, :4].sort(dim=1).values
    assert nearest.tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    wide = dataclasses.replace(LAYOUT, motion_side=4)
    torch.manual_seed(1)
    scene = LearnedContent(wide, 16)().detach()[:16]
    own = LearnedMotion(wide, 16)().detach()[0, 1:]
    shift = own - scene
    torch.testing.assert_close(shift, shift[:1].expand_as(shift), atol=1e-5, rtol=0)


def test_places_differ() -> None:
    for table in (LearnedContent(LAYOUT, 16)(), LearnedMotion(LAYOUT, 16)().flatten(0, 1)):
        apart = torch.cdist(table, table) + torch.eye(len(table)) * 9
        assert apart.min() > 0.1
