"""Synthetic pictures in real processes: shown with their mark wherever they come from, else not."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from msgspec.structs import replace

from engine import Caps, Config, EndOfStream, Frame, OpContext, Operator
from engine.contract import Marked
from engine.runtime.supervisor import EXIT_DEGRADED, Run, RunResult
from tests.engine.graphs import node, plan_of
from tests.system.faults import assert_settled

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("short_tempdir")]

FRAMES = 12
SIDE_PX = 64
GRAY = Caps(
    media="video", pix_fmt="gray", dtype="uint8", width=SIDE_PX, height=SIDE_PX, device="cpu"
)
HOSTS = {"near": {"host": "127.0.0.1"}, "far": {"host": "localhost"}}
PLACEMENTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "inproc": ("main", "main", {}),
    "ipc": ("near", "far", {}),
    "tcp": ("near", "far", HOSTS),
}
Gray = Annotated[Frame, Caps(media="video", pix_fmt="gray", dtype="uint8")]
Same = Annotated[Frame, Caps(like="frames")]


class Feed(Operator):
    """Every second frame says that it is synthetic: as one that another run has pushed."""

    def open(self, ctx: OpContext) -> None:
        self._ctx = ctx
        self._made = 0

    def process(self) -> Gray:
        if self._ctx.stopping() or self._made == FRAMES:
            raise EndOfStream
        stamp = self._ctx.stamp(self._made, Fraction(1, 25))
        self._made += 1
        stamp = replace(stamp, synthetic=stamp.seq % 2 == 1)
        return Frame(np.full((SIDE_PX, SIDE_PX), 40, np.uint8), GRAY, stamp)


class Paint(Operator):
    """New pixels."""

    def process(self, frames: Gray) -> Same:
        return frames.with_data(frames.data + 1)


class NotesConfig(Config, frozen=True):
    """Where to."""

    path: str = "notes.txt"


class Notes(Operator[NotesConfig]):
    """A sink: what each frame says of itself."""

    def open(self, ctx: OpContext) -> None:
        self._file = ctx.enter(ctx.output_path(self.config.path).open("w", buffering=1))

    def process(self, frames: Gray) -> None:
        stamp = frames.stamp
        self._file.write(f"{stamp.seq} {stamp.synthetic:d} {len(frames.of(Marked))}\n")


def own(kind: type[Operator[Any]]) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def shown(out: Path) -> list[tuple[int, bool, int]]:
    """Of each frame that the sink was given: seq, synthetic or not, marks."""
    rows = [line.split() for line in (out / "notes.txt").read_text().splitlines()]
    return [(int(seq), made == "1", int(marks)) for seq, made, marks in rows]


def run(chain: dict[str, str], placement: str, out: Path) -> RunResult:
    """A feed, the operators of `chain` one behind the other, notes; the last in another worker."""
    near, far, hosts = PLACEMENTS[placement]
    nodes, before = {"feed": node(own(Feed), worker=near)}, "feed"
    for name, op in chain.items():
        nodes[name] = node(op, {"frames": before}, worker=near)
        before = name
    nodes["notes"] = node(own(Notes), {"frames": before}, worker=far)
    with Run(plan_of(nodes, mode="file", workers=hosts), out) as active:
        assert active.wait(30), active.snapshot()
    result = active.close()
    assert_settled(result)
    return result


CAPTURED = [seq for seq in range(FRAMES) if seq % 2 == 0]
MARK = "operators.video.mark:Mark"


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_mark_is_still_known_on_the_other_side(placement: str, tmp_path: Path) -> None:
    result = run({"paint": own(Paint), "mark": MARK}, placement, tmp_path)
    assert (result.exit_code, result.failures) == (0, [])
    assert shown(tmp_path) == [(seq, seq % 2 == 1, seq % 2) for seq in range(FRAMES)]


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("chain", [{}, {"mark": MARK, "paint": own(Paint)}], ids=["bare", "after"])
def test_what_check_could_not_know_is_refused_where_it_would_be_shown(
    chain: dict[str, str], placement: str, tmp_path: Path
) -> None:
    result = run(chain, placement, tmp_path)
    assert [seq for seq, _, _ in shown(tmp_path)] == CAPTURED
    assert result.exit_code == EXIT_DEGRADED
    assert result.snapshot.nodes["notes"].quarantined == FRAMES - len(CAPTURED)
    assert [event.code for event in result.snapshot.events] == ["UNMARKED"]
    assert not (tmp_path / "quarantine").exists()
