"""BlazeFace's anchors, decoding and the blending of candidates."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.face.blazeface import (
    VARIANTS,
    BlazeFace,
    anchor_centres,
    decode,
)
from operators.face.candidates import Candidates, blend_overlapping, iou
from operators.face.nets import Placement

SIDES = st.floats(2, 40, width=32)
PLACES = st.floats(0, 200, width=32)
SCORES = st.floats(0.0625, 1, width=32)
FOUND = st.lists(st.tuples(PLACES, PLACES, SIDES, SIDES, SCORES), max_size=24)


def candidates(rows: list[tuple[float, float, float, float, float]]) -> Candidates:
    """(left, top, width, height, score) each; one point, the centre."""
    table = np.array(rows, np.float32).reshape(-1, 5)
    boxes = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], axis=1)
    points = ((boxes[:, :2] + boxes[:, 2:]) / 2)[:, None]
    return Candidates(boxes, table[:, 4].copy(), points)


@pytest.mark.parametrize(("name", "count"), [("short", 896), ("full", 2304), ("back", 896)])
def test_there_are_as_many_anchors_as_the_network_has_outputs(name: str, count: int) -> None:
    centres = anchor_centres(VARIANTS[name])
    assert centres.shape == (count, 2)
    assert 0 < centres.min() < centres.max() < VARIANTS[name].size_px
    net = BlazeFace(name, Placement())
    size = VARIANTS[name].size_px
    assert net(np.zeros((size, size, 3), np.uint8), 0.0).boxes.shape == (count, 4)


def test_the_first_anchors_lie_in_the_first_cells() -> None:
    centres = anchor_centres(VARIANTS["short"])
    assert centres[:4].tolist() == [[4, 4], [4, 4], [12, 4], [12, 4]]
    assert centres[512:519].tolist() == [[8, 8]] * 6 + [[24, 8]]


def test_decoding_is_relative_to_the_anchor() -> None:
    regressed = np.zeros((2, 16), np.float32)
    regressed[1, :6] = (1, -2, 20, 10, 3, 4)
    anchors = np.array([[10, 10], [50, 60]], np.float32)
    found = decode(np.array([-9, 0], np.float32), regressed, anchors, 0.5)
    assert found.boxes.tolist() == [[41, 53, 61, 63]]
    assert found.scores.tolist() == [0.5]
    assert found.points[0, 0].tolist() == [53, 64]
    assert found.points.shape == (1, 6, 2)


def test_extreme_logits_do_not_overflow() -> None:
    raw = np.array([-1e30, 1e30], np.float32)
    found = decode(raw, np.zeros((2, 16), np.float32), np.zeros((2, 2), np.float32), 0.0)
    assert found.scores.tolist() == pytest.approx([0, 1], abs=1e-6)


def test_iou_of_known_boxes() -> None:
    box = np.array([0, 0, 10, 10], np.float32)
    others = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30], [3, 3, 3, 3]], np.float32)
    assert iou(box, others).tolist() == pytest.approx([1, 1 / 3, 0, 0])


def test_a_group_becomes_its_mean_weighted_by_score() -> None:
    found = blend_overlapping(candidates([(0, 0, 10, 10, 0.25), (2, 0, 10, 10, 0.75)]), 0.3)
    assert found.boxes.tolist() == [[1.5, 0, 11.5, 10]]
    assert found.scores.tolist() == [0.75]
    assert found.points.tolist() == [[[6.5, 5.0]]]


@given(FOUND, st.floats(0.1, 0.9))
def test_blending(rows: list[tuple[float, float, float, float, float]], min_iou: float) -> None:
    """Best first, scores kept, no box outside the hull, one face per group of overlapping ones."""
    before = candidates(rows)
    after = blend_overlapping(before, min_iou)
    assert len(after.boxes) <= len(before.boxes)
    assert (len(after.boxes) > 0) == (len(rows) > 0)
    assert after.scores.tolist() == sorted(after.scores.tolist(), reverse=True)
    assert set(after.scores.tolist()) <= set(before.scores.tolist())
    if rows:
        assert after.scores[0] == before.scores.max()
        assert (after.boxes >= before.boxes.min(axis=0) - 1e-3).all()
        assert (after.boxes <= before.boxes.max(axis=0) + 1e-3).all()
        centres = (after.boxes[:, :2] + after.boxes[:, 2:]) / 2
        np.testing.assert_allclose(after.points[:, 0], centres, atol=1e-2)


@given(FOUND)
def test_blending_far_apart_faces_changes_nothing(
    rows: list[tuple[float, float, float, float, float]],
) -> None:
    apart = [(1000.0 * n, top, w, h, s) for n, (_, top, w, h, s) in enumerate(rows)]
    before = candidates(apart)
    after = blend_overlapping(before, 0.3)
    order = np.argsort(-before.scores, kind="stable")
    np.testing.assert_allclose(after.boxes, before.boxes[order], rtol=1e-6)
