"""The file of what is known of faces and masks: versions, sizes, mistakes (3.3, property 6)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from operators.nn.mask_prompts.knowledge import (
    CLASSES,
    SHIPPED,
    Knowledge,
    KnowledgeError,
    read_knowledge,
)
from operators.nn.mask_prompts.model import MaskConfig, MaskPrompts
from operators.nn.vlm.loading import random_clip


@pytest.fixture(scope="module")
def knowledge() -> Knowledge:
    return read_knowledge()


def test_one_triple_changes_its_own_column_and_the_sha(
    knowledge: Knowledge, tmp_path: Path
) -> None:
    path = tmp_path / "kg.yaml"
    path.write_text(
        SHIPPED.read_text().replace(
            "{id: mt1, head: m-mask, relation: made_of, tail: m-silicone}",
            "{id: mt1, head: m-mask, relation: made_of, tail: m-plaster}",
        )
    )
    other = read_knowledge(path)
    assert other.sha != knowledge.sha
    changed = [
        one.id for one, two in zip(knowledge.elements, other.elements, strict=True)
        if one.sha != two.sha
    ]  # fmt: skip
    assert changed == ["mt1"]
    vlm, config = random_clip("clip-tiny-test", seed=3), MaskConfig(context=3)
    with torch.no_grad():
        one = MaskPrompts(vlm, knowledge, config).texts()
        two = MaskPrompts(vlm, other, config).texts()
    moved = ~torch.isclose(one.t, two.t, atol=1e-6).all(1)
    assert [knowledge.elements[n].id for n in moved.nonzero()[:, 0].tolist()] == ["mt1"]


def test_the_shipped_knowledge_is_as_much_as_the_notes_ask_for(knowledge: Knowledge) -> None:
    for face_class in CLASSES:
        assert 20 <= len(knowledge.of(face_class, "entity")) <= 40
        assert 30 <= len(knowledge.of(face_class, "triple")) <= 60
    small = knowledge.subset(12, 16)
    assert len(small.elements) == 56
    assert len({e.family for e in small.elements if e.face_class == "mask"}) >= 6


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("relation: made_of, tail: m-silicone", "relation: glued_to, tail: m-silicone",
         "triple mt1: relation 'glued_to' is unknown; made_of"),
        ("relation: made_of, tail: m-silicone", "relation: made_of, tail: m-gold",
         "triple mt1: mask has no entity 'm-gold'"),
        ("tail: m-silicone", "tail: r-skin", "mask has no entity 'r-skin'"),
        ("id: mt2,", "id: mt1,", "id mt1 stands for two"),
        ("version: 1", "version: 1\nmore: 2", "more"),
        ("version: 1", "version: [", "kg.yaml"),
    ],
)  # fmt: skip
def test_knowledge_that_is_wrong_is_told(tmp_path: Path, old: str, new: str, told: str) -> None:
    path = tmp_path / "kg.yaml"
    path.write_text(SHIPPED.read_text().replace(old, new, 1))
    with pytest.raises(KnowledgeError, match=told):
        read_knowledge(path)
