"""What is known of attacks without having seen one: the sentences of `priors.yaml`.

Section 2.2 (2) of the method notes: 30 to 60 short sentences over attack families, versioned, each
with an id and a family, and 3 to 6 of genuine faces. The file can be replaced by a longer one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import yaml

SHIPPED = Path(__file__).with_name("priors.yaml")
LEAST_FAMILIES = 3  # of attacks: with fewer, spoof prompts have nothing to be diverse over


class PriorError(ValueError):
    """A file of priors that cannot be used, and why."""


class _Text(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: Annotated[str, msgspec.Meta(min_length=1)]
    text: Annotated[str, msgspec.Meta(min_length=3)]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: Annotated[int, msgspec.Meta(ge=1)]
    genuine: Annotated[list[_Text], msgspec.Meta(min_length=1)]
    spoof: dict[str, list[_Text]]


@dataclass(frozen=True)
class Priors:
    """J attack texts with id and family each, and texts of genuine faces."""

    ids: tuple[str, ...]
    families: tuple[str, ...]
    texts: tuple[str, ...]
    genuine: tuple[str, ...]
    sha: str  # SHA-256 of all that is above: the file may be laid out as one likes

    def first_of_each(self, count: int) -> list[int]:
        """`count` different texts, from as many families as can be: where prompts begin."""
        by_family: dict[str, list[int]] = {}
        for number, family in enumerate(self.families):
            by_family.setdefault(family, []).append(number)
        queues = list(by_family.values())
        most = max(map(len, queues))
        order = [queue[turn] for turn in range(most) for queue in queues if turn < len(queue)]
        if count > len(order):
            raise PriorError(f"{count} prompts need as many texts, there are {len(order)}")
        return order[:count]


def read_priors(path: Path = SHIPPED) -> Priors:
    """PriorError names what is wrong in the file; FileNotFoundError if there is none."""
    try:
        told = msgspec.convert(yaml.safe_load(path.read_text(encoding="utf-8")), _File)
    except (yaml.YAMLError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise PriorError(f"{path.name}: {error}") from error
    rows = [(text, family) for family, texts in told.spoof.items() for text in texts]
    ids = [text.id for text, _ in rows] + [text.id for text in told.genuine]
    twice = sorted({name for name in ids if ids.count(name) > 1})
    if twice:
        raise PriorError(f"{path.name}: id {twice[0]} stands for two texts")
    families = {family for _, family in rows}
    if len(families) < LEAST_FAMILIES:
        raise PriorError(f"{path.name}: {len(families)} families; {LEAST_FAMILIES} are needed")
    content = msgspec.json.encode([told.genuine, [(family, text) for text, family in rows]])
    return Priors(
        ids=tuple(text.id for text, _ in rows),
        families=tuple(family for _, family in rows),
        texts=tuple(text.text for text, _ in rows),
        genuine=tuple(text.text for text in told.genuine),
        sha=hashlib.sha256(content).hexdigest(),
    )
