"""What is known of faces and masks: entities and triples of `mask_kg.yaml`, made into phrases.

After arXiv:2505.03610 (IEEE TPAMI 48(2):1321-1338, 2026): entities and triples of knowledge graphs
enter prompt learning. Which graph was used is not known; ours is curated by hand with relations in
the manner of ConceptNet (method notes, section 3.6), so that it is reproducible without a network.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

import msgspec
import yaml

SHIPPED = Path(__file__).with_name("mask_kg.yaml")
FaceClass = Literal["real", "mask"]
CLASSES: tuple[FaceClass, ...] = get_args(FaceClass)
Bank = Literal["entity", "triple"]
BANKS: tuple[Bank, ...] = get_args(Bank)
RELATIONS: Mapping[str, str] = {
    "made_of": "made of",
    "has": "with",
    "lacks": "without",
    "has_property": "that shows",
    "covered_by": "covered by",
    "covers": "in front of",
    "part_of": "on",
    "used_for": "that holds",
    "causes": "that gives",
}


class KnowledgeError(ValueError):
    """A knowledge file that cannot be used, and why."""


class _Entity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: Annotated[str, msgspec.Meta(min_length=1)]
    family: Annotated[str, msgspec.Meta(min_length=1)]
    text: Annotated[str, msgspec.Meta(min_length=2)]


class _Triple(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: Annotated[str, msgspec.Meta(min_length=1)]
    head: str
    relation: str
    tail: str


class _Side(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    entities: Annotated[list[_Entity], msgspec.Meta(min_length=1)]
    triples: list[_Triple]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: Annotated[int, msgspec.Meta(ge=1)]
    real: _Side
    mask: _Side


@dataclass(frozen=True)
class Element:
    """One thing that is known, as a prompt says it."""

    id: str
    face_class: FaceClass
    bank: Bank
    family: str
    phrase: str  # "silicone" or "a 3d face mask made of silicone"

    @property
    def sha(self) -> str:
        """SHA-256 of all of it."""
        told = [self.id, self.face_class, self.bank, self.family, self.phrase]
        return hashlib.sha256(msgspec.json.encode(told)).hexdigest()


@dataclass(frozen=True)
class Knowledge:
    """All elements, in the order of the file: real then mask, entities then triples."""

    elements: tuple[Element, ...]

    @property
    def sha(self) -> str:
        """`knowledge_sha`: over the elements' own."""
        return hashlib.sha256("".join(e.sha for e in self.elements).encode()).hexdigest()

    def of(self, face_class: FaceClass, bank: Bank | None = None) -> list[int]:
        """Numbers of a class's elements, of one bank or of both."""
        return [
            number
            for number, element in enumerate(self.elements)
            if element.face_class == face_class and bank in (None, element.bank)
        ]

    def subset(self, entities: int, triples: int) -> Knowledge:
        """So many of each bank and class at most, families by turns: for compact models."""
        kept: list[int] = []
        for face_class in CLASSES:
            for bank, most in (("entity", entities), ("triple", triples)):
                kept += self._by_turns(self.of(face_class, bank))[:most]  # type: ignore[arg-type]
        return Knowledge(tuple(self.elements[number] for number in sorted(kept)))

    def _by_turns(self, numbers: Sequence[int]) -> list[int]:
        families: dict[str, list[int]] = {}
        for number in numbers:
            families.setdefault(self.elements[number].family, []).append(number)
        most = max((len(own) for own in families.values()), default=0)
        return [own[turn] for turn in range(most) for own in families.values() if turn < len(own)]


def read_knowledge(path: Path = SHIPPED) -> Knowledge:
    """KnowledgeError names what is wrong in the file; FileNotFoundError if there is none."""
    try:
        told = msgspec.convert(yaml.safe_load(path.read_text(encoding="utf-8")), _File)
    except (yaml.YAMLError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise KnowledgeError(f"{path.name}: {error}") from error
    elements: list[Element] = []
    for face_class, side in (("real", told.real), ("mask", told.mask)):
        elements += _elements(path, face_class, side)  # type: ignore[arg-type]
    ids = [element.id for element in elements]
    twice = sorted({name for name in ids if ids.count(name) > 1})
    if twice:
        raise KnowledgeError(f"{path.name}: id {twice[0]} stands for two elements")
    return Knowledge(tuple(elements))


def _elements(path: Path, face_class: FaceClass, side: _Side) -> list[Element]:
    entities = {entity.id: entity for entity in side.entities}
    found = [Element(e.id, face_class, "entity", e.family, e.text) for e in side.entities]
    for triple in side.triples:
        if triple.relation not in RELATIONS:
            known = ", ".join(RELATIONS)
            raise KnowledgeError(
                f"{path.name}: triple {triple.id}: relation {triple.relation!r} is unknown; {known}"
            )
        for end in (triple.head, triple.tail):
            if end not in entities:
                raise KnowledgeError(
                    f"{path.name}: triple {triple.id}: {face_class} has no entity {end!r}"
                )
        head, tail = entities[triple.head], entities[triple.tail]
        phrase = f"{head.text} {RELATIONS[triple.relation]} {tail.text}"
        found.append(Element(triple.id, face_class, "triple", tail.family, phrase))
    return found
