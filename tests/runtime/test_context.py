"""What an operator is given: stamps, resources, state per stream, places to write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import pytest

from engine.errors import OperatorError
from engine.runtime.context import LaneContext
from engine.telemetry.stats import EdgeStats
from tests.runtime.fakes import FakeHost


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return FakeHost(tmp_path / "out", "live")


def context(host: FakeHost) -> LaneContext:
    return LaneContext(host, "cams", "door", "cpu", 2)


def test_it_says_where_the_operator_is(host: FakeHost) -> None:
    ctx = context(host)
    assert (ctx.node, ctx.stream_id, ctx.device, ctx.threads, ctx.mode) == (
        "cams", "door", "cpu", 2, "live",
    )  # fmt: skip
    assert ctx.clock is host.clock


# ---- stamps


def test_stamps_count_from_zero_and_carry_the_time_of_now(host: FakeHost) -> None:
    ctx = context(host)
    first = ctx.stamp(900, Fraction(1, 90_000))
    host.clock.advance(7)
    second = ctx.stamp(1800, Fraction(1, 90_000))
    assert (first.seq, second.seq) == (0, 1)
    assert second.capture_ns - first.capture_ns == 7
    assert (first.stream_id, first.pts, first.time_base) == ("door", 900, Fraction(1, 90_000))
    assert first.deadline_ns is None


def test_a_deadline_is_counted_from_the_capture(host: FakeHost) -> None:
    host.latency_budget_ns = 150_000_000
    stamp = context(host).stamp(0, 1, capture_ns=10**12)
    assert (stamp.capture_ns, stamp.deadline_ns) == (10**12, 10**12 + 150_000_000)
    assert stamp.time_base == Fraction(1)


def test_a_stamp_has_the_epoch_of_its_moment(host: FakeHost) -> None:
    ctx = context(host)
    assert ctx.stamp(0, 1).epoch == 0
    host.epochs["door"] = 3
    host.epochs["yard"] = 9
    assert ctx.stamp(1, 1).epoch == 3


# ---- a new epoch


def test_the_stamp_after_asking_for_a_new_epoch_belongs_to_it(host: FakeHost) -> None:
    ctx = context(host)
    assert ctx.stamp(0, 1).epoch == 0
    assert ctx.new_epoch("prompt") == 1
    assert ctx.stamp(1, 1).epoch == 1
    assert ctx.new_epoch("seed", "yard") == 1
    assert (host.epoch_of("door"), host.epoch_of("yard")) == (1, 1)
    assert host.epoch_reasons == ["prompt", "seed"]


def test_an_epoch_that_cannot_be_had_is_an_error_that_may_pass(host: FakeHost) -> None:
    ctx = context(host)
    host.raises = False
    with pytest.raises(OperatorError, match="no new epoch of 'door' \\(prompt\\)") as caught:
        ctx.new_epoch("prompt")
    assert (caught.value.code, caught.value.permanent) == ("NO_EPOCH", False)
    ctx.stop.set()
    ctx.new_epoch("prompt")  # nobody waits for frames any more


# ---- resources and state


def test_what_was_entered_is_left_in_reverse(host: FakeHost) -> None:
    left: list[str] = []

    @contextmanager
    def resource(name: str) -> Iterator[str]:
        yield name
        left.append(name)

    ctx = context(host)
    assert ctx.enter(resource("device")) == "device"
    ctx.enter(resource("model"))
    ctx.release()
    assert left == ["model", "device"]
    ctx.release()
    assert left == ["model", "device"], "only once"


def test_state_of_a_stream_is_made_when_asked_for_and_forgotten_everywhere(host: FakeHost) -> None:
    ctx = context(host)
    tracks, counts = ctx.per_stream(lambda stream_id: [stream_id]), ctx.per_stream(lambda _: [0])
    tracks["door"].append("x")
    counts["door"][0] = 5
    counts["yard"][0] = 6
    assert tracks["door"] == ["door", "x"]
    ctx.forget("door")
    assert "door" not in tracks
    assert (counts["door"], counts["yard"]) == ([0], [6])


def test_state_of_an_operator_that_was_closed_is_not_kept(host: FakeHost) -> None:
    ctx = context(host)
    old = ctx.per_stream(lambda _: [0])
    old["door"][0] = 1
    ctx.release()
    new = ctx.per_stream(lambda _: [0])
    new["door"][0] = 2
    ctx.forget("door")
    assert "door" not in new
    assert "door" in old, "nobody asks the old one any more"


# ---- speaking and writing


def test_reports_and_previews_go_to_the_worker(host: FakeHost) -> None:
    ctx = context(host)
    ctx.report("BLACK", "the picture is black")
    ctx.publish("preview", b"jpeg")
    assert host.reports == [("BLACK", "door", "the picture is black")]
    assert host.published == [("preview", b"jpeg")]


def test_books_of_edges_out_of_the_graph_outlast_the_operator(host: FakeHost) -> None:
    ctx = context(host)
    for life in (1, 2):
        stats = EdgeStats(
            edge="x", link="tcp", policy="block", sent=5, consumed=2, in_flight=2,
            drops={"queue_full": 1}, depth=2,
        )  # fmt: skip
        ctx.account("there", lambda stats=stats: stats)
        assert ctx.edges()["cams:there"].sent == 5 * life
        ctx.release()
    (books,) = ctx.edges().values()
    assert (books.sent, books.consumed, books.in_flight) == (10, 4, 0)
    assert books.drops == {"queue_full": 2, "peer_lost": 4}
    assert books.balanced


def test_outputs_are_below_the_folder_of_the_run(host: FakeHost) -> None:
    path = context(host).output_path("clips/door.mp4")
    assert path == host.out_dir / "clips" / "door.mp4"
    assert path.parent.is_dir()
    assert not path.exists()


def test_an_absolute_path_is_taken_as_it_is(host: FakeHost, tmp_path: Path) -> None:
    path = tmp_path / "elsewhere" / "x.jsonl"
    assert context(host).output_path(str(path)) == path
    assert path.parent.is_dir()


def test_a_later_life_writes_beside_what_an_earlier_one_wrote(host: FakeHost) -> None:
    host.incarnation = 2
    path = context(host).output_path("clips/door.tar.gz")
    assert path == host.out_dir / "clips" / "door.tar-r2.gz"


def test_it_knows_when_to_stop(host: FakeHost) -> None:
    ctx = context(host)
    assert not ctx.stopping()
    ctx.stop.set()
    assert ctx.stopping()
