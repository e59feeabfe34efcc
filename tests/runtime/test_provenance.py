"""Synthetic frames in a lane: what it refuses to show, and what `reset` gives back of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import pytest
from msgspec import structs

from engine.caps import Caps
from engine.contract import UNMARKED, Marked, Operator
from engine.frame import (
    RECORD_TYPES,
    Batch,
    Frame,
    Item,
    Latest,
    record_from_wire,
    record_to_wire,
)
from engine.runtime.inputs import make_inputs
from engine.runtime.lane import NodeLane
from engine.runtime.outlets import Outlets
from engine.runtime.work import Work
from engine.telemetry.stats import NodeStats
from tests.runtime.fakes import Exits, FakeHost, FakeInbox, broken, end, frame, planned_node

BADGE = Marked("AI")
MANY = 30  # more than a circuit stands


def made(seq: int, stream_id: str = "cam", media: Any = None) -> Frame:
    real = frame(seq, stream_id, media=media)
    return replace(real, stamp=structs.replace(real.stamp, synthetic=True))


class Screen(Operator):
    """A sink that shows what it is given."""

    def __init__(self) -> None:
        super().__init__(self.config_type())
        self.shown: list[int] = []

    def process(self, frames: Frame) -> None:
        self.shown.append(frames.stamp.seq)


class Counter(Screen):
    """Looks at no pixels."""

    pixels = "ignored"


class Tap(Screen):
    """Shows frames and gives them on."""

    def process(self, frames: Frame) -> Frame:
        self.shown.append(frames.stamp.seq)
        return frames


class Sender(Tap):
    """Shows them to others, whoever takes what it gives."""

    network_sink = True


class Poster(Screen):
    """Shows frames beside the last of something."""

    def process(self, frames: Frame, beside: Latest[Frame]) -> None:
        self.shown.append(frames.stamp.seq)


class Painter(Operator):
    """New pixels for old ones, and with the last of a stream its sum."""

    rest: Any = None

    def process(self, frames: Frame) -> Frame:
        return frames.with_data(frames.data + 1)

    def reset(self, stream_id: str) -> Any:
        return self.rest


class Keeper(Painter):
    """What can be seen stays to be seen."""

    pixels = "kept"


class Marker(Operator):
    """Draws a badge."""

    def process(self, frames: Frame) -> Annotated[Frame, Caps(like="frames", cleans=UNMARKED)]:
        return frames.with_data(frames.data + 1).with_records(BADGE)


class Rig:
    """A node that nobody takes anything from, or (`read`) one more node."""

    def __init__(
        self, operator: Operator[Any], out: Path, *items: Item, read: bool = False
    ) -> None:
        self.host = FakeHost(out, "live")
        self.exits = Exits()
        outlets = self.exits.outlets if read else Outlets({"out": []}, lambda: False, False, {})
        ports = type(operator).inputs
        self.inboxes = {port: FakeInbox(closed=True) for port in ports}
        self.inboxes["frames"].feed(*items)
        self.stats = NodeStats(node="node", worker="main", device="cpu")
        self._parts = (self.host, planned_node(), operator, outlets, self.stats)

    def run(self) -> list[Frame]:
        host, node, operator, outlets, stats = self._parts
        inputs = make_inputs(node, type(operator).inputs, dict(self.inboxes), "live")  # type: ignore[arg-type]
        NodeLane(host, node, operator, inputs, outlets, stats).run()  # type: ignore[arg-type]
        return [item for item in self.exits.taken() if isinstance(item, Frame)]


# ---- what is shown


@pytest.mark.parametrize("kind", [Screen, Tap])
def test_synthetic_frames_are_shown_only_with_a_mark(kind: Any, tmp_path: Path) -> None:
    operator = kind()
    items = [frame(0), made(1), made(2).with_records(BADGE), made(3), made(4, "other"), frame(5)]
    rig = Rig(operator, tmp_path, *items, end())
    rig.run()
    assert operator.shown == [0, 2, 5]
    assert rig.inboxes["frames"].drops == ["quarantined"] * 3
    assert (rig.stats.quarantined, rig.stats.frames) == (3, 3)
    assert [(code, stream) for code, stream, _ in rig.host.reports] == [
        ("UNMARKED", "cam"),
        ("UNMARKED", "other"),
    ]
    assert "seq 1 of 'cam' is synthetic and nothing on it says so" in rig.host.reports[0][2]
    assert rig.host.failures == []
    assert list(tmp_path.iterdir()) == [], "no copy in the quarantine: that would be a way out too"


def test_refusing_never_opens_the_circuit(tmp_path: Path) -> None:
    """Captured frames of the same feed must not be lost with them."""
    operator = Screen()
    rig = Rig(operator, tmp_path, *[made(seq) for seq in range(MANY)], frame(MANY), end())
    rig.run()
    assert operator.shown == [MANY]
    assert rig.host.codes == ["UNMARKED"]
    assert rig.stats.quarantined == MANY


def test_who_ignores_pixels_is_given_all(tmp_path: Path) -> None:
    operator = Counter()
    rig = Rig(operator, tmp_path, frame(0), made(1), end())
    rig.run()
    assert operator.shown == [0, 1]
    assert rig.host.codes == []


def test_events_of_synthetic_frames_are_no_pictures(tmp_path: Path) -> None:
    operator = Screen()
    Rig(operator, tmp_path, made(0, media="event"), made(1, media="packet"), end()).run()
    assert operator.shown == [0]


@pytest.mark.parametrize(("kind", "shown"), [(Tap, [0, 1]), (Sender, [0])])
def test_whose_frames_are_taken_shows_nothing_but_to_others(
    kind: Any, shown: list[int], tmp_path: Path
) -> None:
    operator = kind()
    given = Rig(operator, tmp_path, frame(0), made(1), end(), read=True).run()
    assert operator.shown == shown == [one.stamp.seq for one in given]


def test_what_a_latest_port_holds_is_shown_too(tmp_path: Path) -> None:
    operator = Poster()
    rig = Rig(operator, tmp_path, frame(0), end())
    rig.inboxes["beside"].feed(made(9, "style"))
    rig.run()
    assert operator.shown == []
    assert [(code, stream) for code, stream, _ in rig.host.reports] == [("UNMARKED", "style")]


# ---- marks


@pytest.mark.parametrize(("operator", "kept"), [(Painter, False), (Keeper, True), (Marker, True)])
def test_new_pixels_lose_the_mark_unless_the_operator_answers_for_it(
    operator: Any, kept: bool, tmp_path: Path
) -> None:
    given = made(0).with_records(BADGE)
    (after,) = Rig(operator(operator.config_type()), tmp_path, given, end(), read=True).run()
    assert bool(after.of(Marked)) == kept
    assert after.stamp.synthetic


def test_a_mark_is_known_wherever_frames_arrive() -> None:
    """Else it would come as a record of an unknown class, and the frame be refused."""
    assert RECORD_TYPES["Marked"] is Marked
    assert Marked.__module__ == "engine.contract", "which every worker imports"
    assert record_from_wire(*record_to_wire(BADGE)) == BADGE


# ---- what comes with a reset


@pytest.mark.parametrize("last", [end(), broken()], ids=["end", "break"])
@pytest.mark.parametrize(
    ("items", "tainted"),
    [
        ([frame(0)], False),
        ([frame(0), made(1), frame(2)], True),
        ([frame(0), made(1, "other")], False),
    ],
    ids=["captured", "mixed", "of another stream"],
)
def test_the_rest_of_a_stream_is_synthetic_if_anything_in_it_was(
    items: list[Frame], tainted: bool, last: Any, tmp_path: Path
) -> None:
    operator = Painter(Painter.config_type())
    operator.rest = frame(99)
    given = Rig(operator, tmp_path, *items, last, read=True).run()
    first = next(one for one in given if one.stamp.seq == 99)
    assert first.stamp.synthetic == tainted


def test_of_a_batch_only_the_streams_with_synthetic_frames_are_mixed() -> None:
    inbox: Any = None
    real, other, style = frame(0), made(0, "other"), made(0, "style")
    batch = {"frames": Batch((real, other))}
    assert Work(batch, [(inbox, real), (inbox, other)]).synthetic_streams == {"other"}
    held = batch | {"style": Latest(style)}
    assert Work(held, [(inbox, real), (inbox, other)]).synthetic_streams == {"cam", "other"}
    assert Work({"frames": real}, [(inbox, real)]).synthetic_streams == set()


def test_after_a_reset_a_stream_begins_anew(tmp_path: Path) -> None:
    operator = Painter(Painter.config_type())
    operator.rest = frame(99)
    items = [made(0), broken(), frame(1), end()]
    given = Rig(operator, tmp_path, *items, read=True).run()
    assert [one.stamp.synthetic for one in given if one.stamp.seq == 99] == [True, False]


def test_a_new_epoch_is_a_reset_too(tmp_path: Path) -> None:
    operator = Painter(Painter.config_type())
    operator.rest = frame(99)
    items = [made(0), frame(1, epoch=1), end()]
    given = Rig(operator, tmp_path, *items, read=True).run()
    assert [one.stamp.synthetic for one in given if one.stamp.seq == 99] == [False]


def test_a_reset_that_fails_has_forgotten_nothing(tmp_path: Path) -> None:
    operator = Painter(Painter.config_type())
    tries = iter([ValueError("not now")])

    def reset(stream_id: str) -> Any:
        for error in tries:
            raise error
        return frame(99)

    operator.reset = reset  # type: ignore[method-assign]
    given = Rig(operator, tmp_path, made(0), broken(), frame(1), end(), read=True).run()
    assert [one.stamp.synthetic for one in given if one.stamp.seq == 99] == [True]
