"""Who is trained, calibrated and tested on: never the same person; videos scored by one rule."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.nn.pad.errors import EvaluationError
from operators.nn.pad.listing import Listing, MediaItem
from operators.nn.pad.protocol import (
    Shares,
    Split,
    held_out_identities,
    leave_one_domain_out,
    unseen_attack,
)
from operators.nn.pad.scoring import (
    NO_FRAMES,
    NOT_FINITE,
    ScoredItem,
    VideoRule,
    per_frame,
    per_video,
    score_items,
    skip_reasons,
)

ROOT = Path("data")


def item(domain="lab", species="", subject="anna", name="1.mp4") -> MediaItem:
    folder = f"spoof/{species}" if species else "live"
    path = ROOT / domain / folder / subject / name
    return MediaItem(domain, species, subject, path, "video")


def listing(domains=("lab", "street"), species=("mask", "print"), people=10) -> Listing:
    items = [
        item(domain, kind, f"p{person}")
        for domain in domains
        for kind in ("", *species)
        for person in range(people)
    ]
    return Listing(ROOT, tuple(sorted(items)))


def identities(items):
    return {entry.identity for entry in items}


def disjoint(split: Split) -> bool:
    parts = [identities(part) for part in (split.train, split.development, split.test)]
    return sum(map(len, parts)) == len(set().union(*parts))


class TestSplits:
    def test_held_out_people_with_the_shares_asked_for(self):
        split = held_out_identities(listing(), Shares(0.5, 0.2, 0.3))
        assert [len(identities(p)) for p in (split.train, split.development, split.test)] == [
            10,
            4,
            6,
        ]
        assert disjoint(split)
        assert sorted(split.train + split.development + split.test) == list(listing().items)
        for part in (split.train, split.development, split.test):
            assert {entry.domain for entry in part} == {"lab", "street"}

    def test_one_domain_left_out(self):
        splits = leave_one_domain_out(listing(), Shares(0.6, 0.2, 0.2))
        assert [split.name for split in splits] == [
            "without domain lab",
            "without domain street",
        ]
        for split, held in zip(splits, ("lab", "street"), strict=True):
            assert {entry.domain for entry in split.test} == {held}
            assert held not in {entry.domain for entry in split.train + split.development}
            assert len(split.test) == 30
            assert len(split.train + split.development) == 30
            assert disjoint(split)

    def test_an_attack_nobody_has_seen(self):
        splits = unseen_attack(listing(), Shares())
        assert [split.name for split in splits] == ["unseen attack mask", "unseen attack print"]
        for split, held in zip(splits, ("mask", "print"), strict=True):
            assert {entry.species for entry in split.test} == {"", held}
            assert held not in {entry.species for entry in split.train + split.development}
            assert disjoint(split)
            parts = split.train + split.development + split.test + split.left_out
            assert sorted(parts) == list(listing().items)

    def test_the_seed_and_nothing_else_decides(self):
        data = listing()
        again = Listing(ROOT, tuple(reversed(data.items)))
        one = held_out_identities(data, Shares(seed=4))
        assert identities(one.test) == identities(held_out_identities(again, Shares(seed=4)).test)
        assert identities(one.test) != identities(held_out_identities(data, Shares(seed=5)).test)

    @given(st.integers(0, 50), st.integers(2, 30), st.integers(1, 4))
    @settings(max_examples=40, deadline=None)
    def test_no_person_is_on_two_sides(self, seed, people, domains):
        data = listing(domains=tuple("abcd"[:domains]), people=people * 4)
        for split in (
            held_out_identities(data, Shares(seed=seed)),
            *unseen_attack(data, Shares(seed=seed)),
        ):
            assert disjoint(split)
            assert len(identities(split.test)) == pytest.approx(0.3 * people * 4 * domains, abs=1)

    def test_people_without_attacks_are_spread_too(self):
        """Bona fide people alone must not all land in one part."""
        items = [item(subject=f"p{n}") for n in range(40)]
        items += [item(species="print", subject=f"p{n}") for n in range(0, 40, 4)]
        split = held_out_identities(Listing(ROOT, tuple(items)), Shares(0.5, 0.2, 0.3))
        attacked = [
            len({entry.identity for entry in part if not entry.is_live})
            for part in (split.train, split.development, split.test)
        ]
        assert attacked == [5, 2, 3]

    @pytest.mark.parametrize(
        ("make", "what"),
        [
            (lambda: leave_one_domain_out(listing(("lab",)), Shares()), "needs two domains"),
            (lambda: unseen_attack(listing(species=("mask",)), Shares()), "needs two types"),
            (lambda: held_out_identities(listing(species=()), Shares()), "holds no attack"),
            (lambda: held_out_identities(listing(("lab",), people=1), Shares()), "no bona fide"),
            (lambda: Shares(0.5, 0.5, 0.0), "shares must sum to 1"),
            (lambda: Shares(0.9, 0.2, 0.1), "shares must sum to 1"),
            (lambda: Shares(-0.1, 0.6, 0.5), "shares must sum to 1"),
        ],
    )
    def test_what_cannot_be_split_is_told(self, make, what):
        with pytest.raises(EvaluationError, match=what):
            make()

    def test_a_person_on_two_sides_is_refused_whoever_builds_the_split(self):
        live, attack = item(), item(species="print")
        with pytest.raises(EvaluationError, match="lab/anna is in development and test"):
            Split("mine", (), (live,), (live, attack), ())


class TestVideoRule:
    def test_frames_are_taken_by_time(self):
        pts_ns = [n * 40_000_000 for n in range(26)]
        assert list(VideoRule(200, 0).select(pts_ns)) == [0, 5, 10, 15, 20, 25]
        assert list(VideoRule(200, 3).select(pts_ns)) == [0, 5, 10]
        assert list(VideoRule(0, 0).select(pts_ns)) == list(range(26))

    def test_a_late_start_and_a_gap_keep_the_grid(self):
        pts_ns = [ms * 1_000_000 for ms in (1000, 1150, 1210, 1380, 2050, 2190, 2200)]
        assert list(VideoRule(200, 0).select(pts_ns)) == [0, 2, 4, 6]

    def test_it_stops_reading_when_it_has_enough(self):
        read = []

        def times():
            for number in range(10**9):
                read.append(number)
                yield number * 100_000_000

        assert list(VideoRule(200, 2).select(times())) == [0, 2]
        assert len(read) == 3

    def test_it_refuses_negative_numbers(self):
        with pytest.raises(EvaluationError, match="negative"):
            VideoRule(-1, 0)


class TestScoring:
    ITEMS = (
        item(),
        item(species="print"),
        item(subject="ben"),
        item(subject="cleo"),
        item(subject="dan"),
    )
    RESULTS = (
        [0.5, "too small", 0.75],
        [np.float32(0.25)],
        ["too small", "no face"],
        [],
        [math.nan, 1, ""],
    )

    def scored(self):
        by_path = {entry.path: r for entry, r in zip(self.ITEMS, self.RESULTS, strict=True)}
        return list(score_items(self.ITEMS, by_path.__getitem__))

    def test_a_video_is_the_mean_of_its_scored_frames(self):
        rows = per_video(self.scored())
        assert rows.score[[0, 1, 4]].tolist() == [0.625, 0.25, 1.0]
        assert np.isnan(rows.score[[2, 3]]).all()
        assert rows.is_live.tolist() == [True, False, True, True, True]
        assert rows.species.tolist() == ["", "print", "", "", ""]
        assert rows.identity[:3].tolist() == ["lab/anna", "lab/anna", "lab/ben"]

    def test_a_frame_is_a_row_and_a_video_without_frames_does_not_vanish(self):
        rows = per_frame(self.scored())
        assert len(rows.score) == 3 + 1 + 2 + 1 + 3
        assert rows.responded.sum() == 4

    def test_reasons_are_counted(self):
        assert skip_reasons(self.scored()) == {
            "too small": 2,
            "no face": 1,
            NO_FRAMES: 1,
            "no reason given": 1,
            NOT_FINITE: 1,
        }

    def test_errors_of_the_scorer_are_not_swallowed(self):
        def broken(path):
            raise OSError(f"{path} is broken")

        with pytest.raises(OSError, match="is broken"):
            list(score_items(self.ITEMS, broken))

    @pytest.mark.parametrize("result", [None, True, [0.5]])
    def test_a_result_of_another_type_is_refused(self, result):
        with pytest.raises(EvaluationError, match="must be a number or text"):
            list(score_items(self.ITEMS, lambda path: [result]))

    def test_no_item_is_told(self):
        with pytest.raises(EvaluationError, match="no item"):
            per_video([])

    def test_an_image_is_a_video_of_one_frame(self):
        one = [ScoredItem(item(), (0.5,)), ScoredItem(item(species="print"), (0.1,))]
        assert per_video(one).score.tolist() == per_frame(one).score.tolist()
