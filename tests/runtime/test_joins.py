"""Nodes with several inputs: merges and joins go by the stamps, whatever comes first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.caps import Caps
from engine.contract import Port
from engine.frame import Discontinuity, Item, Watermark
from engine.runtime.inputs import make_inputs
from engine.runtime.joins import HELD, JoinInputs, MergeInputs
from engine.runtime.work import Inputs, Work
from engine.spec import JoinSpec
from tests.runtime.fakes import FakeInbox, brief, broken, end, frame, joined, mark, planned_node

ANY = Caps()
REQUIRED = {name: Port(name, ANY) for name in ("left", "right")}
OPTIONAL = {name: Port(name, ANY, optional=True) for name in ("left", "right")}


class Bench:
    """Two ports and what `next` made of what they were fed."""

    def __init__(self, ports: dict[str, Port], node: Any = None, mode: Any = "file") -> None:
        self.left, self.right = FakeInbox(), FakeInbox()
        inboxes = {"left": self.left, "right": self.right}
        self.inputs: Inputs = make_inputs(node or planned_node(), ports, inboxes, mode)
        self.works: list[Work] = []
        self.steps: list[Any] = []

    def run(self) -> list[Any]:
        """Calls until nothing is due; marks are left out. The calls of this time."""
        begin = len(self.steps)
        for step in self._all():
            if isinstance(step, Work):
                self.works.append(step)
                self.steps.append(tuple(seq_of(step.arguments[name]) for name in ("left", "right")))
            elif not isinstance(step, Watermark):
                self.steps.append(brief(step))
        return self.steps[begin:]

    def feed(self, left: list[Item] = [], right: list[Item] = []) -> list[Any]:  # noqa: B006
        self.left.feed(*left)
        self.right.feed(*right)
        return self.run()

    def close(self) -> list[Any]:
        self.left.close()
        self.right.close()
        return self.run()

    def marks(self) -> list[int]:
        """The marks that are due now."""
        return [step.seq for step in self._all() if isinstance(step, Watermark)]

    def _all(self) -> Iterator[Any]:
        while (step := self.inputs.next(0)) is not None:
            yield step


def seq_of(item: Any) -> int | None:
    return None if item is None else int(item.stamp.seq)


def merge(mode: Any = "file") -> Bench:
    bench = Bench(OPTIONAL, mode=mode)
    assert isinstance(bench.inputs, MergeInputs)
    return bench


def join(policy: Any = "exact", tolerance_ms: float = 0, mode: Any = "file") -> Bench:
    bench = Bench(REQUIRED, joined(policy, tolerance_ms), mode)
    assert isinstance(bench.inputs, JoinInputs)
    return bench


# ---- in every order of arrival

# For each seq: does a frame of it come by this port, or only its mark?
CHOICES = st.lists(st.tuples(st.booleans(), st.booleans()), max_size=12)
ORDERS = st.lists(st.booleans(), max_size=40)


def lanes_of(choices: list[tuple[bool, bool]]) -> tuple[list[Item], list[Item]]:
    sides = tuple(
        [frame(seq) if choice[side] else mark(seq) for seq, choice in enumerate(choices)] + [end()]
        for side in (0, 1)
    )
    return sides[0], sides[1]


def steps_in_order(bench: Bench, left: list[Item], right: list[Item], order: list[bool]) -> Any:
    """The calls when the ports are fed one item at a time in this order, then the rest."""
    left, right = list(left), list(right)
    for first in order:
        side, inbox = (left, bench.left) if first else (right, bench.right)
        if side:
            inbox.feed(side.pop(0))
            bench.run()
    bench.feed(left, right)
    bench.close()
    assert bench.inputs.finished
    return bench.steps


@given(CHOICES, ORDERS)
def test_a_merge_gives_the_same_calls_in_every_order(
    choices: list[tuple[bool, bool]], order: list[bool]
) -> None:
    expected: list[Any] = []
    for seq, (left, right) in enumerate(choices):
        expected += [(seq, None)] * left + [(None, seq)] * right
    if any(left or right for left, right in choices):
        expected.append(("end", "cam", None))
        assert steps_in_order(merge(), *lanes_of(choices), order) == expected


@given(CHOICES, ORDERS)
def test_an_exact_join_gives_every_pair_in_every_order(
    choices: list[tuple[bool, bool]], order: list[bool]
) -> None:
    pairs = [(seq, seq) for seq, both in enumerate(choices) if all(both)]
    if choices:
        expected = [*pairs, ("end", "cam", None)]
        assert steps_in_order(join(), *lanes_of(choices), order) == expected


@given(
    st.lists(st.integers(0, 30), unique=True, max_size=10).map(sorted),
    st.lists(st.integers(0, 30), unique=True, max_size=10).map(sorted),
    ORDERS,
    st.sampled_from(["nearest", "latest"]),
)
def test_joins_by_time_give_the_same_calls_in_every_order(
    left: list[int], right: list[int], order: list[bool], policy: str
) -> None:
    sides = [*map(frame, left), end()], [*map(frame, right), end()]
    tolerance_ms = 80.0  # two frames of 40 ms
    found = steps_in_order(join(policy, tolerance_ms), *sides, order)
    calls = [step for step in found if step[0] != "end"]
    assert calls == [
        (seq, partner)
        for seq in left
        if (partner := expected_partner(seq, right, policy)) is not None
    ]


def expected_partner(seq: int, partners: list[int], policy: str) -> int | None:
    if policy == "latest":
        return max((other for other in partners if other <= seq), default=None)
    near = [other for other in partners if abs(other - seq) <= 2]
    return min(near, key=lambda other: (abs(other - seq), other), default=None)


# ---- merge


def test_a_file_merge_waits_until_the_other_port_is_past() -> None:
    bench = merge()
    assert bench.feed(left=[frame(0), frame(2)]) == []
    assert bench.feed(right=[frame(1)]) == [(0, None), (None, 1)]
    assert bench.feed(right=[mark(2)]) == [(2, None)]


def test_a_live_merge_waits_for_nobody() -> None:
    bench = merge("live")
    assert bench.feed(left=[frame(5)]) == [(5, None)]
    assert bench.feed(right=[frame(4)]) == [(None, 4)]


def test_a_port_that_closed_is_not_waited_for() -> None:
    bench = merge()
    bench.right.close()
    assert bench.feed(left=[frame(0), end()]) == [(0, None), ("end", "cam", None)]


# ---- exact


def test_a_partner_that_was_skipped_is_not_waited_for() -> None:
    bench = join()
    assert bench.feed(left=[frame(0), frame(1)]) == []
    assert bench.feed(right=[mark(0)]) == []
    assert bench.feed(right=[frame(1)]) == [(1, 1)]
    assert [inbox.drops for inbox in (bench.left, bench.right)] == [["unmatched"], []]


def test_a_mark_goes_downstream_when_both_ports_have_moved_on() -> None:
    bench = join()
    bench.left.feed(mark(4))
    assert bench.marks() == []
    bench.right.feed(mark(3))
    assert bench.marks() == [3]
    assert bench.marks() == []
    bench.right.feed(mark(5))
    assert bench.marks() == [4]


def test_work_names_each_frame_with_its_edge() -> None:
    bench = join()
    bench.feed([frame(0)], [frame(0)])
    (work,) = bench.works
    assert {(id(inbox), seq_of(item)) for inbox, item in work.frames} == {
        (id(bench.left), 0),
        (id(bench.right), 0),
    }


def test_streams_do_not_wait_for_each_other() -> None:
    bench = join()
    bench.feed(left=[frame(0, "a"), frame(0, "b")])
    assert bench.feed(right=[frame(0, "b")]) == [(0, 0)]
    assert brief(bench.works[0].newest) == ("b", 0)
    assert bench.feed(right=[frame(0, "a")]) == [(0, 0)]


def test_a_file_join_stops_taking_when_it_holds_enough() -> None:
    bench = join()
    bench.feed(left=[frame(seq) for seq in range(HELD + 10)])
    assert len(bench.left.items) == 10, "the rest stays at the producer, which then waits"
    assert len(bench.feed(right=[frame(seq) for seq in range(HELD + 10)])) == HELD + 10
    assert bench.left.drops == []


def test_a_live_join_forgets_the_oldest_when_it_holds_too_much() -> None:
    bench = join(mode="live")
    bench.feed(left=[frame(seq) for seq in range(HELD + 10)])
    assert bench.left.drops == ["queue_full"] * 10
    found = bench.feed(right=[frame(seq) for seq in range(HELD + 10)])
    assert found == [(seq, seq) for seq in range(10, HELD + 10)]


# ---- nearest and latest


def test_nearest_waits_until_no_nearer_one_can_come() -> None:
    bench = join("nearest", tolerance_ms=80)
    assert bench.feed([frame(10)], [frame(8)]) == []
    assert bench.feed(right=[frame(11)]) == [(10, 11)]


def test_nearest_gives_up_a_frame_without_partner() -> None:
    bench = join("nearest", tolerance_ms=40)
    assert bench.feed([frame(10), frame(20)], [frame(15), frame(20)]) == [(20, 20)]


@pytest.mark.parametrize("policy", ["nearest", "latest"])
def test_a_partner_stream_that_ended_is_not_waited_for(policy: str) -> None:
    bench = join(policy, tolerance_ms=40)
    found = bench.feed([frame(0), frame(10), end()], [frame(0), end()])
    partner_of_10 = [(10, 0)] if policy == "latest" else []
    assert found == [(0, 0), *partner_of_10, ("end", "cam", None)]


@pytest.mark.parametrize("policy", ["nearest", "latest"])
def test_partners_that_never_served_are_counted(policy: str) -> None:
    bench = join(policy, tolerance_ms=40)
    bench.feed([frame(10), frame(11)], [*map(frame, (6, 7, 10)), mark(11)])
    assert bench.right.drops == ["unmatched"] * 2
    assert bench.left.drops == []


def test_latest_lets_one_partner_serve_many() -> None:
    bench = join("latest")
    found = bench.feed([frame(1), frame(2), frame(3)], [frame(0), frame(3)])
    assert found == [(1, 0), (2, 0), (3, 3)]


def test_a_frame_that_serves_twice_is_booked_once() -> None:
    """What becomes of it must not be told to its edge for every call it is used in."""
    bench = join("latest")
    bench.feed([frame(1), frame(2)], [frame(0), mark(2)])
    booked = [[(inbox is bench.left, seq_of(f)) for inbox, f in w.frames] for w in bench.works]
    assert booked == [[(False, 0), (True, 1)], [(True, 2)]]
    assert [seq_of(work.newest) for work in bench.works] == [1, 2]


def beside(mode: str) -> Bench:
    """Frames on the left, and on the right what may or may not be known of them."""
    ports = {"left": Port("left", ANY), "right": Port("right", ANY, optional=True)}
    return Bench(ports, planned_node(join=JoinSpec(policy="latest")), mode)


def test_live_an_optional_latest_is_never_waited_for() -> None:
    bench = beside("live")
    assert bench.feed(left=[frame(5), frame(0, "b")]) == [(5, None), (0, None)]
    assert bench.feed(right=[frame(5)]) == []
    assert bench.feed(left=[frame(6), frame(1, "b")]) == [(6, 5), (1, None)], "each its own"
    bench.right.close()
    assert bench.feed(left=[frame(7)]) == [(7, 5)]


def test_in_a_file_an_optional_latest_is_the_same_every_time() -> None:
    bench = beside("file")
    assert bench.feed(left=[frame(0), frame(1)]) == []
    assert bench.feed(right=[mark(0)]) == [(0, None)]
    assert bench.feed(right=[frame(1)]) == [(1, 1)]
    assert bench.feed([frame(2), end()], [end()]) == [(2, 1), ("end", "cam", None)]


@pytest.mark.parametrize("mode", ["live", "file"])
def test_a_break_beside_is_forgotten_and_cuts_nothing(mode: str) -> None:
    bench = beside(mode)
    bench.feed([frame(0), frame(1)], [frame(0), frame(1)])
    bench.feed(right=[broken(), mark(1)])  # the worker that judged was replaced
    assert bench.feed([frame(2)], [mark(2)]) == [(2, None)], "what it had said holds no more"
    assert bench.feed([frame(3)], [frame(3)])[-1][0] == 3
    assert not [step for step in bench.steps if isinstance(step, Discontinuity)]
    bench.feed([broken(), frame(0)], [broken(), frame(0)])  # the camera itself
    assert [type(step) for step in bench.steps].count(Discontinuity) == 1


def test_live_latest_takes_what_it_has() -> None:
    bench = join("latest", mode="live")
    assert bench.feed(left=[frame(5)]) == []
    assert bench.feed(right=[frame(3)]) == [(5, 3)]
    assert bench.feed(left=[frame(6)]) == [(6, 3)]


# ---- ends and breaks


@pytest.mark.parametrize("bench", [merge(), join()], ids=["merge", "join"])
def test_a_stream_ends_once_when_all_ports_have_ended_it(bench: Bench) -> None:
    bench.feed([frame(0), end()], [frame(0)])
    assert not [step for step in bench.steps if step[0] == "end"]
    assert bench.feed(right=[end()])[-1] == ("end", "cam", None)
    bench.close()
    assert [step[0] for step in bench.steps].count("end") == 1
    assert bench.inputs.finished


def test_an_end_that_was_an_error_stays_one() -> None:
    bench = join()
    assert bench.feed([frame(0), end()], [frame(0), end(error="cut off")])[-1] == (
        "end",
        "cam",
        "cut off",
    )


def test_a_stream_that_one_port_never_saw_ends_with_the_other() -> None:
    bench = merge("live")
    assert bench.feed(left=[frame(0, "a"), end("a")]) == [(0, None), ("end", "a", None)]


def test_it_is_not_finished_before_the_last_end_is_told() -> None:
    bench = join()
    bench.left.feed(frame(0), end())
    bench.right.feed(frame(0), end())
    bench.left.close()
    bench.right.close()
    assert isinstance(bench.inputs.next(0), Work)
    assert not bench.inputs.finished
    assert bench.run()[-1] == ("end", "cam", None)
    assert bench.inputs.finished


@pytest.mark.parametrize("sides", [("left", "right"), ("right", "left")])
def test_a_break_is_told_once_though_every_port_says_it(sides: tuple[str, str]) -> None:
    bench = join(mode="live")
    for _ in range(2):
        for side in sides:
            getattr(bench, side).feed(broken())
        bench.run()
    assert [type(step) for step in bench.steps] == [Discontinuity] * 2


def test_breaks_of_two_ports_at_different_times_are_both_told() -> None:
    bench = join(mode="live")
    bench.feed([frame(0)], [frame(0)])
    bench.feed([broken(), frame(1)], [frame(1)])  # the worker on the left's way was replaced
    bench.feed([frame(2)], [broken(), frame(2)])  # and now the one on the right's
    told = [step for step in bench.steps if isinstance(step, Discontinuity)]
    assert len(told) == 2


def test_a_break_of_a_stream_that_has_ended_is_forgotten() -> None:
    bench = join(mode="live")
    bench.feed([broken(), end()], [end()])
    bench.feed([frame(0)], [broken(), frame(0)])  # another one of the same name
    assert [type(step) for step in bench.steps].count(Discontinuity) == 2


def test_after_a_break_a_source_may_count_from_0_again() -> None:
    bench = join(mode="live")
    bench.feed([frame(seq) for seq in range(50, 60)], [frame(seq) for seq in range(50, 59)])
    bench.feed([broken(), frame(0), frame(1)], [broken(), frame(0)])
    assert bench.steps[-1] == (0, 0)
    assert bench.left.drops == ["peer_lost"], "what waits for a partner of the old count"
    assert bench.feed(right=[frame(1)]) == [(1, 1)]
