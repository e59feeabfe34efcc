"""Who is trained on, who sets the threshold, who is tested: splits without a shared person.

Three protocols (method notes, 7.1): identities of the same domains held out, one domain left out
(covariate shift), one attack type left out (semantic shift). Development data chooses thresholds
and is never test data; whoever trains from real faces only takes the live items of `train`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from operators.nn.pad.errors import EvaluationError
from operators.nn.pad.listing import Listing, MediaItem

Items = tuple[MediaItem, ...]


@dataclass(frozen=True)
class Shares:
    """Shares of identities for train, development and test (positive or 0 for train); sum 1."""

    train: float = 0.5
    development: float = 0.2
    test: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        parts = (self.train, self.development, self.test)
        if min(parts) < 0 or 0 in parts[1:] or abs(sum(parts) - 1) > 1e-9:
            raise EvaluationError(
                f"shares must sum to 1 with some development and test, got {parts}"
            )


@dataclass(frozen=True)
class Split:
    """Items of one run; no identity is in two parts. `left_out`: items the protocol cannot use."""

    name: str
    train: Items
    development: Items
    test: Items
    left_out: Items

    def __post_init__(self) -> None:
        owner: dict[str, str] = {}
        for part in ("train", "development", "test"):
            for item in getattr(self, part):
                if owner.setdefault(item.identity, part) != part:
                    raise EvaluationError(
                        f"{self.name}: {item.identity} is in {owner[item.identity]} and {part}"
                    )
        for part in ("development", "test"):
            _need_live(self.name, part, getattr(self, part))
        if all(item.is_live for item in self.test):
            raise EvaluationError(f"{self.name}: the test part holds no attack")


def held_out_identities(listing: Listing, shares: Shares) -> Split:
    """Train, development and test people of all domains and all attack types."""
    part = _parts(listing.items, shares)
    train, development, test = (_of(listing.items, part, number) for number in range(3))
    return Split("held-out identities", train, development, test, ())


def leave_one_domain_out(listing: Listing, shares: Shares) -> tuple[Split, ...]:
    """One split per domain: tested on all of it, trained and calibrated on people of the others.

    `shares.test` has no meaning here; train and development share the other domains' people in
    their ratio. Raises EvaluationError for one domain, or a domain without live or attack items.
    """
    if len(listing.domains) < 2:
        raise EvaluationError(
            f"{listing.root}: leaving one domain out needs two domains, got {listing.domains}"
        )
    rest = shares.train + shares.development
    two = (shares.train / rest, shares.development / rest)
    splits = []
    for held in listing.domains:
        test = tuple(item for item in listing.items if item.domain == held)
        others = tuple(item for item in listing.items if item.domain != held)
        part = _assign(others, two, shares.seed)
        train, development = (_of(others, part, number) for number in range(2))
        splits.append(Split(f"without domain {held}", train, development, test, ()))
    return tuple(splits)


def unseen_attack(listing: Listing, shares: Shares) -> tuple[Split, ...]:
    """One split per attack type: test people live and under that type, nobody else under it.

    Items of the held type by train and development people, and of other types by test people, are
    left out. Raises EvaluationError for a single type or where no test person shows the held one.
    """
    if len(listing.species) < 2:
        raise EvaluationError(
            f"{listing.root}: an unseen attack needs two types, got {listing.species}"
        )
    return tuple(_unseen(listing.items, held, shares) for held in listing.species)


def _unseen(items: Items, held: str, shares: Shares) -> Split:
    part = _parts(items, shares)
    seen = tuple(item for item in items if item.species != held)
    test = tuple(item for item in items if item.species in ("", held) and part[item.identity] == 2)
    train, development = (_of(seen, part, number) for number in range(2))
    used = {*train, *development, *test}
    left_out = tuple(item for item in items if item not in used)
    return Split(f"unseen attack {held}", train, development, test, left_out)


def _parts(items: Items, shares: Shares) -> dict[str, int]:
    return _assign(items, (shares.train, shares.development, shares.test), shares.seed)


def _assign(items: Items, shares: Sequence[float], seed: int) -> dict[str, int]:
    """Part number of every identity: shuffled within equals, then to the part that is most behind.

    Equals are people of one domain with the same kinds of items, so that each part gets its share
    of every domain and of people with and without attacks; independent of the order of `items`.
    """
    kinds: dict[str, set[str]] = {}
    for item in items:
        kinds.setdefault(item.identity, {item.domain}).add(f"species {item.species}")
    names = sorted(kinds)
    order = np.random.default_rng(seed).permutation(len(names))
    ranked = sorted((sorted(kinds[names[i]]), rank, names[i]) for rank, i in enumerate(order))
    counts = np.zeros(len(shares))
    part: dict[str, int] = {}
    for place, (_, _, name) in enumerate(ranked):
        behind = np.array(shares) * (place + 1) - counts
        part[name] = int(behind.argmax())
        counts[part[name]] += 1
    return part


def _of(items: Iterable[MediaItem], part: dict[str, int], number: int) -> Items:
    return tuple(item for item in items if part[item.identity] == number)


def _need_live(split: str, part: str, items: Items) -> None:
    if not any(item.is_live for item in items):
        raise EvaluationError(
            f"{split}: the {part} part holds no bona fide item; more people are needed"
        )
